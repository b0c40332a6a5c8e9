//! The limit: the bare client, signing and posting to the same sink.
//!
//! Once with the pool of connections that Fanfare has for a host, and once with an unlimited one: the
//! best of all is the limit, so that a setting that costs throughput shows as such. The sink's own
//! part of the work says whether it could have been the bottleneck.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client::Command;
use crate::plan::Plan;
use crate::process::Helper;
use crate::report::{LIMIT, Report};
use crate::sink::{Command as SinkCommand, Manner, Seen};
use crate::stage::Stage;
use crate::usage;
use crate::world::{SECRET, per_thousand};

/// The unused connections that Fanfare keeps for a host.
const AS_FANFARE: usize = 8;

const PATIENCE: Duration = Duration::from_mins(5);
const GROUP: &str = "limit";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    let mut client = stage.home.helper("client")?;
    for (idle, pool) in [(usize::MAX, ""), (AS_FANFARE, ", pool of 8")] {
        for &side_by_side in &plan.limit_side_by_side {
            let warm_up = plan.limit_posts / 10;
            post(stage, &mut client, plan, (warm_up, side_by_side, idle)).await?;
            for _ in 0..plan.rounds {
                let before = [usage::cpu(client.id())?, usage::cpu(stage.sink.id())?];
                let seen =
                    post(stage, &mut client, plan, (plan.limit_posts, side_by_side, idle)).await?;
                let after = [usage::cpu(client.id())?, usage::cpu(stage.sink.id())?];
                let name = format!("{side_by_side} side by side{pool}");
                report.add(LIMIT, &name, "POSTs/s", seen.rate());
                let used = after.iter().zip(before).map(|(after, before)| after - before);
                for (who, used) in ["client", "sink"].into_iter().zip(used) {
                    let name = format!("CPU of the {who}, {name}");
                    report.add(LIMIT, &name, "s/1,000 POSTs", per_thousand(used, seen.since_mark));
                }
            }
        }
    }
    client.end().await;
    Ok(())
}

async fn post(
    stage: &mut Stage,
    client: &mut Helper,
    plan: &Plan,
    (count, side_by_side, idle): (u64, usize, usize),
) -> Result<Seen> {
    stage.sink.tell(&SinkCommand::Reset).await?;
    let command = Command {
        url: stage.sink.url(Manner::Good, GROUP, 0)?,
        secret: SECRET.to_owned(),
        from: 0,
        count,
        size: plan.data,
        side_by_side,
        idle,
    };
    client.ask::<()>(&command, PATIENCE).await?;
    let seen = stage.sink.seen(GROUP).await?;
    let (distinct, twice) = (seen.distinct, seen.duplicates());
    ensure!(distinct == count && twice == 0, "{distinct} of {count} POSTs came, {twice} twice");
    Ok(seen)
}
