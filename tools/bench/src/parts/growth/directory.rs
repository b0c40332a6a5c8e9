//! A large directory: time and memory of the import of its snapshot, and the time of routing an
//! event that few of its users may read.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use anyhow::{Context as _, Result};
use fanfare_store::PlanMode;

use super::{MATCHING, PART, Routing};
use crate::number;
use crate::plan::{Directory, Plan};
use crate::progress::say;
use crate::report::Report;
use crate::seed::{self, Webhooks};
use crate::stage::Stage;
use crate::world::World;

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let Directory { users, roles, grants, webhooks } = plan.directory;
    say(&format!("growth: {users} users, {roles} roles, {grants} grants"));
    let name = format!("directory of {grants} grants");
    let mut last = None;
    for _ in 0..plan.rounds {
        if let Some(world) = last.take() {
            World::close(world, stage).await?;
        }
        let world = World::new(stage, &[]).await?;
        let file = stage.home.logs().join("directory.json");
        write(&plan.directory, File::create(&file)?)
            .with_context(|| format!("writing {}", file.display()))?;
        let start = Instant::now();
        let path = file.to_string_lossy();
        let memory = world.fanfare(stage, &["directory", "import", &path]).await?;
        let taken = start.elapsed().as_secs_f64();
        report.add(PART, &format!("{name}: import"), "s", taken);
        report.add(PART, &format!("{name}: memory of the import"), "MiB", memory.peak);
        last = Some(world);
    }
    let Some(world) = last else { return Ok(()) };
    let others = Webhooks {
        owner: &format!("'user' || n % {users}"),
        filters: &format!("case when n < {users} then '{{reports}}'::text[] else '{{alerts}}' end"),
    };
    seed::webhooks(stage, &world.name, others, 0..webhooks)?;
    let store = world.store(PlanMode::Generic)?;
    let (event_type, subject) = ("reports.edit", "categories/c/reports/asked");
    let mut routing = Routing { store: &store, event_type, subject, next: 0 };
    let name = format!("{name}, {webhooks} webhooks");
    routing.measure(plan, report, &name).await?;
    drop(store);
    world.close(stage).await
}

/// Writes a snapshot in which all users have the same number of permissions. A fifth of the grants
/// are in roles. The first twenty users may read the report of the event.
fn write(directory: &Directory, file: File) -> Result<()> {
    let Directory { users, roles, grants, .. } = *directory;
    let of_roles = grants / 5;
    let (each_role, each_user) = (of_roles / roles, (grants - of_roles) / users);
    let mut out = BufWriter::new(file);
    write!(out, "{{\"roles\":[")?;
    for role in 0..roles {
        let comma = if role > 0 { "," } else { "" };
        write!(out, "{comma}{{\"name\":\"role{role}\",\"permissions\":[")?;
        permissions(&mut out, "role", role, each_role)?;
        write!(out, "]}}")?;
    }
    write!(out, "],\"users\":[")?;
    for user in 0..users {
        let comma = if user > 0 { "," } else { "" };
        let (role, other) = (user % roles, (user + 1) % roles);
        write!(
            out,
            "{comma}{{\"name\":\"user{user}\",\"roles\":[\"role{role}\",\"role{other}\"],"
        )?;
        write!(out, "\"permissions\":[")?;
        permissions(&mut out, "user", user, each_user)?;
        if user < number::count(MATCHING) {
            write!(out, ",")?;
            permission(&mut out, "asked")?;
        }
        write!(out, "]}}")?;
    }
    writeln!(out, "]}}")?;
    Ok(out.flush()?)
}

/// Writes `count` permissions, each for another report.
fn permissions(out: &mut impl Write, of: &str, number: u64, count: u64) -> Result<()> {
    for index in 0..count {
        if index > 0 {
            write!(out, ",")?;
        }
        permission(out, &format!("{of}{number}-{index}"))?;
    }
    Ok(())
}

fn permission(out: &mut impl Write, target: &str) -> Result<()> {
    let scope = "\"access\":[\"read\"],\"scope\":\"report\"";
    Ok(write!(out, "{{{scope},\"target\":\"{target}\"}}")?)
}
