//! The limit: the bare client, which signs and sends POSTs to the same sink.
//!
//! It is measured with several numbers of concurrent requests, and with few or many unused
//! connections to a host. The CPU time of the sink shows whether it could have been the bottleneck.
//! Other parts use the same client as [`BareClient`], to compare with the speed of the machine at
//! that moment, since the speed of a shared machine changes from minute to minute.

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

/// The most unused connections to a host: as many as Fanfare keeps, and few. With few, fewer
/// requests are really concurrent.
const POOLS: [(usize, &str); 2] = [(AS_FANFARE, ""), (8, ", pool of 8")];
const AS_FANFARE: usize = 64;

/// The number of concurrent requests for the comparisons of other parts: as many as a webhook of
/// Fanfare may have.
const SIDE_BY_SIDE: usize = 64;

const TIMEOUT: Duration = Duration::from_mins(5);
const GROUP: &str = "limit";

pub(super) async fn run(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
    stage.sink.send(&SinkCommand::Reset).await?;
    let mut client = BareClient::start(stage)?;
    for round in 0..=plan.rounds {
        for (idle, pool) in POOLS {
            for &side_by_side in &plan.limit_side_by_side {
                if round == 0 {
                    client.post(stage, plan, plan.limit_posts / 10, side_by_side, idle).await?;
                    continue;
                }
                let before = [usage::cpu(client.helper.id())?, usage::cpu(stage.sink.id())?];
                let seen = client.post(stage, plan, plan.limit_posts, side_by_side, idle).await?;
                let after = [usage::cpu(client.helper.id())?, usage::cpu(stage.sink.id())?];
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

/// The bare client, for comparison with other parts.
pub(super) struct BareClient {
    helper: Helper,
    next: u64,
}

impl BareClient {
    pub(super) fn start(stage: &Stage) -> Result<Self> {
        Ok(Self { helper: Helper::start(&stage.home, "client")?, next: 0 })
    }

    /// Measures the POSTs a second at this moment.
    pub(super) async fn rate(&mut self, stage: &mut Stage, plan: &Plan) -> Result<f64> {
        let count = plan.limit_posts / 2;
        Ok(self.post(stage, plan, count, SIDE_BY_SIDE, AS_FANFARE).await?.rate())
    }

    /// Sends `count` POSTs.
    pub(super) async fn posts(&mut self, stage: &mut Stage, plan: &Plan, count: u64) -> Result<()> {
        self.post(stage, plan, count, SIDE_BY_SIDE, AS_FANFARE).await.map(drop)
    }

    pub(super) async fn end(self) {
        self.helper.end().await;
    }

    async fn post(
        &mut self,
        stage: &mut Stage,
        plan: &Plan,
        count: u64,
        side_by_side: usize,
        idle: usize,
    ) -> Result<Seen> {
        stage.sink.send(&SinkCommand::Mark).await?;
        let command = Command {
            url: stage.sink.url(Manner::Good, GROUP, 0)?,
            secret: SECRET.to_owned(),
            from: self.next,
            count,
            size: plan.data,
            side_by_side,
            idle,
        };
        self.next += count;
        self.helper.ask::<()>(&command, TIMEOUT).await?;
        let seen = stage.sink.seen(GROUP).await?;
        let (distinct, twice) = (seen.distinct, seen.duplicates());
        let all = self.next;
        ensure!(distinct == all && twice == 0, "{distinct} of {all} POSTs arrived, {twice} twice");
        Ok(seen)
    }
}
