//! Throughput: deliveries a second at the sink while events are published as fast as the broker
//! confirms them, each round beside what the bare client does just before it; and who needs how much
//! CPU time for it.

use anyhow::Result;

use super::limit::Beside;
use crate::number;
use crate::plan::{FanOut, Plan};
use crate::report::Report;
use crate::sink::Manner;
use crate::stage::Stage;
use crate::world::{Hook, Load, World, cpu, per_thousand};

const PART: &str = "throughput";
const GROUP: &str = "throughput";

/// What the other parts ask for.
const ALONE: &str = "fan-out 1";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for (name, fan_out) in plan.by_fan_out() {
        let mut world = world(stage, fan_out.webhooks).await?;
        let mut bare = Beside::start(stage)?;
        warm_up(stage, &mut world, plan, fan_out).await?;
        bare.rate(stage, plan).await?;
        for _ in 0..plan.rounds {
            let limit = bare.rate(stage, plan).await?;
            let before = cpu(stage, &world)?;
            let load = load(plan, fan_out, fan_out.events);
            let seen = world.deliver(stage, &load, plan.patience).await?;
            let after = cpu(stage, &world)?;
            report.add(PART, &name, "deliveries/s", seen.rate());
            let beside = format!("{name}: the bare client beside it");
            report.add(PART, &beside, "POSTs/s", limit);
            report.add(PART, &format!("{name}: of the bare client"), "", seen.rate() / limit);
            for ((who, after), (_, before)) in after.into_iter().zip(before) {
                let used = per_thousand(after - before, fan_out.events * fan_out.webhooks);
                let name = format!("{name}: CPU of the {who}");
                report.add(PART, &name, "s/1,000 deliveries", used);
            }
        }
        bare.end().await;
        world.check(stage).await?;
        world.close(stage).await?;
    }
    Ok(())
}

/// Deliveries a second of events that go to one webhook: as measured, or else as a short look says.
pub(super) async fn alone(stage: &mut Stage, plan: &Plan, report: &Report) -> Result<f64> {
    if let Some(rate) = report.median(PART, ALONE) {
        return Ok(rate);
    }
    let fan_out =
        FanOut { webhooks: 1, warm_up: plan.growth_events / 10, events: plan.growth_events };
    let mut world = world(stage, 1).await?;
    warm_up(stage, &mut world, plan, &fan_out).await?;
    let load = load(plan, &fan_out, fan_out.events);
    let seen = world.deliver(stage, &load, plan.patience).await?;
    world.close(stage).await?;
    Ok(seen.rate())
}

/// An installation at work, with so many good webhooks for events of tasks.
pub(super) async fn world(stage: &mut Stage, webhooks: u64) -> Result<World> {
    let mut world = World::new(stage, &[]).await?;
    let hook = Hook { manner: Manner::Good, group: GROUP, filter: "tasks" };
    world.hooks(stage, &vec![hook; usize::try_from(webhooks)?]).await?;
    world.start(stage).await?;
    Ok(world)
}

async fn warm_up(
    stage: &mut Stage,
    world: &mut World,
    plan: &Plan,
    fan_out: &FanOut,
) -> Result<()> {
    world.deliver(stage, &load(plan, fan_out, fan_out.warm_up), plan.patience).await.map(drop)
}

/// Events for [`world`], as fast as it goes.
pub(super) fn load(plan: &Plan, fan_out: &FanOut, count: u64) -> Load<'static> {
    Load {
        filter: "tasks",
        actions: 1,
        group: GROUP,
        fan_out: fan_out.webhooks,
        count,
        rate: None,
        size: plan.data,
        in_flight: plan.in_flight,
    }
}

/// Events for a [`world`] with one webhook, at a rate.
pub(super) fn paced(plan: &Plan, count: u64, rate: f64) -> Load<'static> {
    let fan_out = FanOut { webhooks: 1, warm_up: 0, events: count };
    Load { rate: Some(rate), ..load(plan, &fan_out, count) }
}

/// Microseconds as milliseconds.
pub(super) fn millis(micros: u64) -> f64 {
    number::float(micros) / 1000.0
}
