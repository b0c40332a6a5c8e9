//! Scaling out: deliveries a second with more workers and more routers, to endpoints that take 50
//! ms.
//!
//! Each worker may make only a few concurrent attempts, so that it is limited by waiting and not by
//! the cores of this machine. Twice the workers must then deliver twice as much, until the cores
//! are busy. A machine with more cores would show the same with the default.

use anyhow::Result;

use super::throughput::load;
use crate::plan::{FanOut, Plan};
use crate::report::Report;
use crate::sink::Manner;
use crate::stage::Stage;
use crate::world::{Hook, Load, World};

const PART: &str = "scale";
const WEBHOOKS: u64 = 10;

/// The most concurrent attempts of each worker; three quarters of them are first attempts.
const SIDE_BY_SIDE: &str = "64";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for &routers in &plan.scale_routers {
        for &workers in &plan.scale_workers {
            measure(stage, plan, report, routers, workers).await?;
        }
    }
    Ok(())
}

async fn measure(
    stage: &mut Stage,
    plan: &Plan,
    report: &mut Report,
    routers: u64,
    workers: u64,
) -> Result<()> {
    let mut world = World::new(stage, &[("FANFARE_CONCURRENCY", SIDE_BY_SIDE)]).await?;
    let hook = Hook { manner: Manner::Late, group: PART, filter: "tasks" };
    world.hooks(stage, &vec![hook; usize::try_from(WEBHOOKS)?]).await?;
    for (role, count) in [("router", routers), ("worker", workers)] {
        for _ in 0..count {
            world.start_more(stage, role).await?;
        }
    }
    let fan_out = FanOut { webhooks: WEBHOOKS, warm_up: 0, events: plan.scale_events };
    let load = Load { group: PART, ..load(plan, &fan_out, plan.scale_events) };
    for _ in 0..plan.rounds {
        let seen = world.deliver(stage, &load, plan.loss_timeout).await?;
        let name = format!("routers {routers}, workers {workers}");
        report.add(PART, &name, "deliveries/s", seen.rate());
    }
    world.check(stage).await?;
    world.close(stage).await
}
