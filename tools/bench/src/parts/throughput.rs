//! Throughput: deliveries a second at the sink while events are published as fast as the broker
//! confirms them. Each round is compared with the bare client just before it. The CPU time of each
//! process is measured too.

use anyhow::Result;

use super::limit::BareClient;
use crate::number;
use crate::plan::{FanOut, Plan};
use crate::report::Report;
use crate::sink::Manner;
use crate::stage::Stage;
use crate::world::{Hook, Load, World, cpu, per_thousand};

const PART: &str = "throughput";
const GROUP: &str = "throughput";

/// The name of the figure that other parts use.
const ALONE: &str = "fan-out 1";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for (name, fan_out) in plan.by_fan_out() {
        let mut world = world(stage, fan_out.webhooks).await?;
        let mut bare = BareClient::start(stage)?;
        warm_up(stage, &mut world, plan, fan_out).await?;
        bare.rate(stage, plan).await?;
        for _ in 0..plan.rounds {
            let limit = bare.rate(stage, plan).await?;
            let before = cpu(stage, &world)?;
            let load = load(plan, fan_out, fan_out.events);
            let seen = world.deliver(stage, &load, plan.loss_timeout).await?;
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

/// Deliveries a second of events for one webhook: the measured figure, or else a short measurement.
pub(super) async fn alone(stage: &mut Stage, plan: &Plan, report: &Report) -> Result<f64> {
    if let Some(rate) = report.median(PART, ALONE) {
        return Ok(rate);
    }
    let fan_out =
        FanOut { webhooks: 1, warm_up: plan.growth_events / 10, events: plan.growth_events };
    let mut world = world(stage, 1).await?;
    warm_up(stage, &mut world, plan, &fan_out).await?;
    let load = load(plan, &fan_out, fan_out.events);
    let seen = world.deliver(stage, &load, plan.loss_timeout).await?;
    world.close(stage).await?;
    Ok(seen.rate())
}

/// A running installation with this number of good webhooks for events of tasks.
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
    world.deliver(stage, &load(plan, fan_out, fan_out.warm_up), plan.loss_timeout).await.map(drop)
}

/// Events for [`world`], as fast as the broker confirms them.
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

/// Converts microseconds to milliseconds.
pub(super) fn millis(micros: u64) -> f64 {
    number::float(micros) / 1000.0
}
