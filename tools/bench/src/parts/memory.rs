//! Memory and CPU: the memory of each process when it is idle, at full load, and with events of
//! almost 1 MiB; and the CPU time of each for 1,000 deliveries.

use anyhow::Result;

use super::throughput::{load, world};
use crate::plan::{FanOut, Plan};
use crate::report::Report;
use crate::stage::Stage;
use crate::usage::{self, memory_of_running};
use crate::world::{Load, World, cpu, per_thousand};

const PART: &str = "memory";
const ROLES: [&str; 2] = ["router", "worker"];

/// The size of large data: the largest message has 1 MiB, which includes the rest of the event.
const LARGE: usize = 1024 * 1024 - 1024;

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for _ in 0..plan.rounds {
        full_load(stage, plan, report).await?;
        large_events(stage, plan, report).await?;
    }
    Ok(())
}

async fn full_load(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut world = world(stage, 1).await?;
    world.start_more(stage, "console").await?;
    tokio::time::sleep(plan.memory_rest).await;
    for role in ROLES.into_iter().chain(["console"]) {
        let idle = memory_of_running(world.id(role)?)?.now;
        report.add(PART, &format!("{role}, idle"), "MiB", idle);
    }
    let before = cpu(stage, &world)?;
    let load = load(plan, &one(), plan.memory_events);
    world.deliver(stage, &load, plan.loss_timeout).await?;
    let after = cpu(stage, &world)?;
    peaks(&world, report, "at most at full load")?;
    for (name, memory) in [("RabbitMQ", "beam.smp"), ("PostgreSQL", "postgres")] {
        let sum = usage::sum(&stage.servers.process_ids(), memory);
        report.add(PART, &format!("{name}, after full load"), "MiB", sum.memory);
    }
    for ((name, after), (_, before)) in after.into_iter().zip(before) {
        let used = per_thousand(after - before, plan.memory_events);
        report.add(PART, &format!("{name}, CPU"), "s/1,000 deliveries", used);
    }
    world.check(stage).await?;
    world.close(stage).await
}

async fn large_events(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut world = world(stage, 1).await?;
    let load = Load { size: LARGE, ..load(plan, &one(), plan.memory_large) };
    world.deliver(stage, &load, plan.loss_timeout).await?;
    peaks(&world, report, "at most with 1 MiB events")?;
    world.check(stage).await?;
    world.close(stage).await
}

fn peaks(world: &World, report: &mut Report, when: &str) -> Result<()> {
    for role in ROLES {
        let peak = memory_of_running(world.id(role)?)?.peak;
        report.add(PART, &format!("{role}, {when}"), "MiB", peak);
    }
    Ok(())
}

fn one() -> FanOut {
    FanOut { webhooks: 1, warm_up: 0, events: 0 }
}
