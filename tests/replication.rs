//! A database that fails over to its standby under load. With a standby that commits wait for,
//! nothing is lost. With one that they don't wait for, what the failover loses is not passed over.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::servers::{Servers, Standby};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::crashes::publish_numbered;
use crate::outages::{numbers, publish_steadily};
use crate::world::{SOON, World};

/// The longest time without a delivery that a failover may cause. It includes the promotion, which
/// an operator's tool does in an installation.
const RESUMED: Duration = Duration::from_secs(15);

/// An installation whose URL names both servers, with two routers and two workers, which retry after
/// this time.
async fn installation(servers: &Servers, standby: &Standby, retry: &str) -> (World, Vec<Process>) {
    servers.create_vhost("fanfare").unwrap();
    let (first, second) = (servers.endpoints().database_addr(), standby.addr());
    let (first, second) = (first.unwrap().to_string(), second.unwrap().to_string());
    let both = servers.database_url("fanfare").replace(&first, &format!("{first},{second}"));
    let url = format!("{both}?target_session_attrs=read-write");
    let world = World::on(&url, &servers.amqp_url("fanfare")).await.with("FANFARE_LOG", "info");
    let world = world.with("FANFARE_RETRY_FIRST", retry).with("FANFARE_RETRY_MAX_DELAY", retry);
    let mut processes = Vec::new();
    for role in ["router", "router", "worker", "worker"] {
        processes.push(world.start(role).await);
    }
    (world, processes)
}

/// Changes a setting of a server while it runs.
fn set(sql: impl Fn(&str) -> String, setting: &str, value: &str) {
    sql(&format!("alter system set {setting} = {value}"));
    sql("select pg_reload_conf()");
}

/// Ends the first server as a crash does, and promotes the standby.
fn fail_over(servers: &Servers, standby: &Standby) {
    tokio::task::block_in_place(|| servers.kill_database().and_then(|()| standby.promote()))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_to_a_synchronous_standby_under_load_loses_nothing_and_deliveries_resume() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    let standby = servers.start_standby().unwrap();
    set(|sql| servers.sql("postgres", sql).unwrap(), "synchronous_standby_names", "'*'");
    let (world, mut processes) = installation(&servers, &standby, "1s").await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let stop = tokio::sync::Notify::new();
    let failing = async {
        eventually("the load flows", SOON, async || receiver.count() > 200).await;
        let since = Instant::now();
        fail_over(&servers, &standby);
        // Requests that had begun before it still arrive after it.
        let promoted = receiver.count() + 20;
        eventually("deliveries resume", SOON, async || receiver.count() > promoted).await;
        let resumed = since.elapsed();
        println!("deliveries resumed after {resumed:?}");
        let flowing = receiver.count() + 200;
        eventually("the load flows again", SOON, async || receiver.count() > flowing).await;
        stop.notify_one();
        resumed
    };
    let (published, resumed) = tokio::join!(publish_steadily(&world, &stop), failing);
    eventually("everything arrives", 3 * SOON, async || {
        let distinct: HashSet<u64> = numbers(&receiver).into_iter().collect();
        if distinct.len() == published { Ok(()) } else { Err((distinct.len(), published)) }
    })
    .await;
    world.deliveries_settle(&webhook).await;
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
    assert_eq!(numbers(&receiver).len(), published, "no process ended, so nothing is repeated");
    assert_eq!(delivered(|sql| standby.sql("fanfare", sql).unwrap()), published);
    assert!(processes.iter_mut().all(Process::is_running));
    assert!(resumed < RESUMED, "{resumed:?}");
}

/// The standby receives nothing for a while, so that the failover loses events with all that was
/// recorded of them. Two of three were sent. The job of the third one's retry is still in the broker.
#[tokio::test(flavor = "multi_thread")]
async fn failover_that_loses_commits_keeps_deliveries_that_were_owed_as_ledger_lost() {
    const BEFORE: usize = 50;
    const LOST: usize = 300;
    const OWED: usize = LOST / 3;
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    let standby = servers.start_standby().unwrap();
    let (world, mut processes) = installation(&servers, &standby, "10s").await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    publish_numbered(&world, 0..BEFORE).await;
    eventually("the standby has them", SOON, async || {
        delivered(|sql| standby.sql("fanfare", sql).unwrap()) == BEFORE
    })
    .await;
    set(|sql| standby.sql("postgres", sql).unwrap(), "primary_conninfo", "''");
    eventually("the standby receives nothing more", SOON, async || {
        let standbys = "select count(*) from pg_stat_replication";
        servers.sql("postgres", standbys).unwrap() == "0"
    })
    .await;
    receiver.answer_with(|request, _| {
        Reply::status(if number(&request.body).is_multiple_of(3) { 503 } else { 200 })
    });
    // OWED of these numbers are multiples of three.
    publish_numbered(&world, BEFORE..BEFORE + LOST).await;
    eventually("all are attempted, and the retries wait", SOON, async || {
        let counted = "select count(distinct batch) from attempts where state is not null";
        let attempted = servers.sql("fanfare", counted).unwrap();
        if attempted == (BEFORE + LOST).to_string() { Ok(()) } else { Err(attempted) }
    })
    .await;

    fail_over(&servers, &standby);
    receiver.answer_with(|_, _| Reply::status(200));
    eventually("what was owed is kept", 2 * SOON, async || {
        let letters = world.json(&["dead-letters", "list", "--reason", "ledger-lost"]).await;
        let letters = letters.as_array().unwrap().len();
        if letters == OWED { Ok(()) } else { Err(letters) }
    })
    .await;
    let is_told = |process: &Process| {
        process.lines().iter().any(|line| line.contains("WARN") && line.contains("ledger-lost"))
    };
    assert!(processes.iter().any(is_told));

    // What the report server has published since the last good moment, it publishes again.
    publish_numbered(&world, BEFORE..BEFORE + LOST).await;
    eventually("they are delivered", 2 * SOON, async || {
        let delivered = delivered(|sql| standby.sql("fanfare", sql).unwrap());
        if delivered == BEFORE + LOST { Ok(()) } else { Err(delivered) }
    })
    .await;
    let mut ids: HashMap<u64, HashSet<String>> = HashMap::new();
    for request in receiver.requests() {
        let id = request.header("webhook-id").unwrap().to_owned();
        ids.entry(number(&request.body)).or_default().insert(id);
    }
    assert_eq!(ids.len(), BEFORE + LOST);
    assert!(ids.values().all(|ids| ids.len() == 1), "a repeated delivery has another Id");
    assert!(processes.iter_mut().all(Process::is_running));
}

/// The number of deliveries that a server has as delivered.
fn delivered(sql: impl Fn(&str) -> String) -> usize {
    sql("select count(*) from attempts where state = 'delivered'").parse().unwrap()
}

/// The number of the event in a POST.
fn number(body: &[u8]) -> u64 {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["Notifications"][0]["Number"].as_u64().unwrap()
}
