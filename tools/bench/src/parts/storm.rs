//! The retry storm: many deliveries of one webhook fail at the same time and are retried, while
//! other webhooks get first attempts. The figures are the latency of those first attempts, before
//! and during the storm. The part also checks that each failed delivery arrives in the end.

use anyhow::{Result, ensure};

use super::throughput::millis;
use crate::number;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::sink::{Command, Manner};
use crate::stage::Stage;
use crate::world::{Hook, Load, World};

const PART: &str = "storm";
const CALM: &str = "calm";
const STORM: &str = "storm";

/// Far more attempts than a storm needs, so that no delivery is given up.
const ATTEMPTS: &str = "100";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    for _ in 0..plan.rounds {
        round(stage, plan, report).await?;
    }
    Ok(())
}

async fn round(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let [first, longest] = plan.storm_delays;
    let settings = [
        ("FANFARE_RETRY_FIRST", first),
        ("FANFARE_RETRY_MAX_DELAY", longest),
        ("FANFARE_RETRY_ATTEMPTS", ATTEMPTS),
    ];
    let mut world = World::new(stage, &settings).await?;
    let calm = Hook { manner: Manner::Good, group: CALM, filter: "tasks" };
    let stormy = Hook { manner: Manner::Storm, group: STORM, filter: "alerts" };
    world.hooks(stage, &[calm, stormy]).await?;
    world.start(stage).await?;

    let before =
        world.deliver(stage, &watched(plan, plan.storm_watched), plan.loss_timeout).await?;
    report.add(PART, "first attempts of others before it, p99", "ms", millis(before.p99));

    stage.sink.send(&Command::Storm(true)).await?;
    world.publish(&storm(plan)).await?;
    world.drained(plan.loss_timeout).await?;
    // From here on the first attempts compete only with retries, and no longer with the events.
    say("the storm is on");
    let during =
        world.deliver(stage, &watched(plan, plan.storm_watched), plan.loss_timeout).await?;
    report.add(PART, "first attempts of others during it, p50", "ms", millis(during.p50));
    report.add(PART, "first attempts of others during it, p99", "ms", millis(during.p99));

    let refused = stage.sink.seen(STORM).await?.refused;
    ensure!(refused > 0, "no attempt failed: there was no storm");
    report.add(PART, "attempts that failed", "attempts", number::float(refused));
    stage.sink.send(&Command::Storm(false)).await?;
    stage.sink.send(&Command::Mark).await?;
    say("the storm is over");
    let come = world.wait(stage, STORM, plan.loss_timeout).await?;
    report.add(PART, "deliveries after it", "deliveries/s", come.rate());
    world.check(stage).await?;
    world.close(stage).await
}

fn watched(plan: &Plan, seconds: u64) -> Load<'static> {
    Load {
        filter: "tasks",
        actions: 1,
        group: CALM,
        fan_out: 1,
        count: number::whole(plan.storm_rate * number::float(seconds)),
        rate: Some(plan.storm_rate),
        size: plan.data,
        in_flight: plan.in_flight,
    }
}

fn storm(plan: &Plan) -> Load<'static> {
    Load {
        filter: "alerts",
        group: STORM,
        count: plan.storm_deliveries,
        rate: None,
        ..watched(plan, 0)
    }
}
