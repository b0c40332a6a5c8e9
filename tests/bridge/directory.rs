//! The directory that a bridge publishes, compared with the report server's.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::time::Instant;

use fanfare_testkit::report_server::{Dialect, Kind, ReportServer};
use fanfare_testkit::wait::eventually;
use serde_json::Value;

use super::Bridged;
use crate::metrics::{Watched, listening};
use crate::world::{SOON, World};

/// Who may read a report, by the names in lower case.
async fn readers(world: &World, (category, report): (&str, &str)) -> BTreeSet<String> {
    let subject = format!("categories/{category}/reports/{report}");
    let list = world.json(&["access", "readers", &subject]).await;
    let name = |it: &Value| it["user"].as_str().unwrap().to_lowercase();
    list.as_array().unwrap().iter().map(name).collect()
}

fn readers_at(server: &ReportServer, (category, report): (&str, &str)) -> BTreeSet<String> {
    server.readers(category, report).into_iter().map(|name| name.to_lowercase()).collect()
}

async fn equals(world: &World, server: &ReportServer, categories: &[String]) {
    for category in categories {
        let report = (category.as_str(), "any");
        eventually("the readers are those of the report server", SOON, async || {
            let (here, there) = (readers(world, report).await, readers_at(server, report));
            if here == there { Ok(()) } else { Err((report, here, there)) }
        })
        .await;
    }
}

/// The ids of what is at the report server.
#[derive(Default)]
struct There {
    users: Vec<String>,
    roles: Vec<String>,
    /// They exist, so that a permission for one that is missing was revoked.
    categories: Vec<String>,
}

/// A change at the report server. `random` decides which.
fn change(server: &ReportServer, there: &mut There, random: &mut u64) {
    let There { users, roles, categories } = there;
    let mut pick = |below: usize| {
        // Constants of Knuth's generator.
        *random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*random >> 33).unwrap() % below.max(1)
    };
    let (kind, number) = (pick(9), pick(1000));
    let (user, role) = (pick(users.len()), pick(roles.len()));
    let holder = if pick(2) == 0 { users.get(user).cloned() } else { roles.get(role).cloned() };
    let category = categories[pick(categories.len())].clone();
    match (kind, holder) {
        (0, _) => users.push(server.add_user(&format!("User {number} of {}", users.len()))),
        (1, _) => roles.push(server.add_role(&format!("Role {number} of {}", roles.len()), &[])),
        (2, _) if !users.is_empty() => server.remove_user(&users.swap_remove(user)),
        (3, _) if !roles.is_empty() => server.remove_role(&roles.swap_remove(role)),
        (4, _) if !users.is_empty() => server.enable_user(&users[user], number % 2 == 0),
        (5, _) if !users.is_empty() => {
            server.rename_user(&users[user], &format!("Renamed {number} {user}"));
        }
        (6, _) if !roles.is_empty() => {
            let members = users.iter().skip(number % 2).step_by(2).map(String::as_str);
            server.set_members(&roles[role], &members.collect::<Vec<_>>());
        }
        (7, Some(holder)) => server.revoke(&holder, 2, &category),
        (_, Some(holder)) => server.grant(&holder, 2, &category),
        (_, None) => {}
    }
}

async fn any_changes_lead_to_the_directory_of_the_report_server(dialect: Dialect, seed: u64) {
    let bridged = Bridged::of(dialect, listening(World::new().await)).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let _router = world.start("router").await;
    let bridge = Watched::spawn(world, "bridge").await;
    let mut there = There::default();
    there.categories.extend((0..3).map(|_| server.create(Kind::Categories, None)));
    let (mut random, mut revision) = (seed, 0.0);
    for round in 0..12 {
        for _ in 0..=round % 4 {
            change(server, &mut there, &mut random);
        }
        if round % 3 == 1 {
            server.switch(|it| it.errors = 9);
        } else {
            server.switch(|it| it.errors = 0);
        }
        equals(world, server, &there.categories).await;
        let now = bridge.sample("bridge_directory_revision").await;
        assert!(now >= revision, "seed {seed}: {now} after {revision}");
        revision = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_changes_at_the_framework_server_lead_to_its_directory() {
    any_changes_lead_to_the_directory_of_the_report_server(Dialect::Framework, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_changes_at_the_net_server_lead_to_its_directory() {
    any_changes_lead_to_the_directory_of_the_report_server(Dialect::Net, 11).await;
}

/// `FANFARE_TEST_BRIDGE_USERS` makes it larger.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_larger_than_a_message_is_published_whole() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let count = env::var_os("FANFARE_TEST_BRIDGE_USERS");
    let count = count.map_or(600, |count| count.to_str().unwrap().parse().unwrap());
    let users: Vec<String> =
        (0..count).map(|number| server.add_user(&format!("User {number:05}"))).collect();
    // More than a message can have: 70 bytes for each permission.
    let of_each = 20_000_usize.div_ceil(count);
    for (number, user) in users.iter().enumerate() {
        for other in 0..of_each {
            server.grant(user, 1, &format!("report-{number}-{other}"));
        }
    }
    for number in 0..count / 50 {
        let members: Vec<&str> =
            users.iter().skip(number).step_by(50).map(String::as_str).collect();
        let role = server.add_role(&format!("Role {number:03}"), &members);
        server.grant(&role, 2, &format!("category-{number}"));
    }
    let _router = world.start("router").await;
    let began = Instant::now();
    let bridge = world.spawn("bridge");
    bridge.wait_for_line("published the directory", SOON * 4).await;
    let took = began.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", bridge.id())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("{count} users read and published in {took:?}; {peak}");
    for number in [0, count / 2, count - 1] {
        let report = format!("report-{number}-{}", of_each - 1);
        let name = format!("user {number:05}");
        eventually("the user may read the report", SOON, async || {
            let readers = readers(world, ("sales", &report)).await;
            let others = readers.iter().filter(|it| **it != name && *it != "fanfare").count();
            if readers.contains(&name) && others == 0 { Ok(()) } else { Err(readers) }
        })
        .await;
    }
    // After its folder is lost, the bridge begins above all earlier revisions and deletes no user.
    drop(bridge);
    fs::remove_dir_all(&bridged.folder).unwrap();
    let last = server.add_user("Last");
    server.grant(&last, 1, "report-of-last");
    let bridge = world.spawn("bridge");
    bridge.wait_for_line("published the directory", SOON * 4).await;
    eventually("the new user may read", SOON, async || {
        let readers = readers(world, ("sales", "report-of-last")).await;
        if readers.contains("last") { Ok(()) } else { Err(readers) }
    })
    .await;
    let first = readers(world, ("sales", "report-0-0")).await;
    assert!(first.contains("user 00000"), "{first:?}");
}
