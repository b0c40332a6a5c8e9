//! Latency: the time from just before an event is published to the arrival of its POST at the sink.

use anyhow::Result;

use super::throughput::{alone, millis, paced, world};
use crate::number;
use crate::plan::Plan;
use crate::report::Report;
use crate::stage::Stage;

const PART: &str = "latency";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let half = alone(stage, plan, report).await? / 2.0;
    let busy_events = number::whole(half * number::float(plan.busy_seconds)).max(1);
    let loads = [
        (format!("{} events/s", plan.idle_rate), plan.idle_rate, plan.idle_events),
        ("half of the throughput".to_owned(), half, busy_events),
    ];
    let mut world = world(stage, 1).await?;
    world.deliver(stage, &paced(plan, plan.idle_events, plan.idle_rate), plan.loss_timeout).await?;
    for (name, rate, events) in loads {
        for _ in 0..plan.rounds {
            let load = paced(plan, events, rate);
            let seen = world.deliver(stage, &load, plan.loss_timeout).await?;
            for (quantile, micros) in [("p50", seen.p50), ("p95", seen.p95), ("p99", seen.p99)] {
                report.add(PART, &format!("{name}, {quantile}"), "ms", millis(micros));
            }
            let late = format!("{name}, publisher behind its pace");
            report.add(PART, &late, "ms", world.behind_ms);
        }
    }
    world.check(stage).await?;
    world.close(stage).await
}
