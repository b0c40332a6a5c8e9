//! The parts of the benchmark.
//!
//! Each part creates the installation that it needs and measures each of its figures once a round.
//! At the end it checks that no delivery was lost or duplicated, since figures with losses are not
//! valid.

mod best;
mod broker;
mod churn;
mod growth;
mod isolation;
mod latency;
mod ledger;
mod letters;
mod limit;
mod memory;
mod partitions;
mod scale;
mod storm;
mod throughput;

use anyhow::{Result, bail};

use crate::plan::Plan;
use crate::progress::say;
use crate::report::Report;
use crate::stage::Stage;

/// The parts, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// POSTs a second of the bare HTTP client: the limit that rates are compared with
    Limit,
    /// Messages a second through one quorum queue, with confirms and acknowledgements
    Broker,
    /// Rows of attempts a second that the ledger accepts
    Ledger,
    /// The rate of these three at the same time, without Fanfare
    Best,
    /// Deliveries a second through the whole pipeline, by fan-out
    Throughput,
    /// The time from publish to arrival, without load and at half of the throughput
    Latency,
    /// Deliveries a second with more workers and routers, to slow endpoints
    Scale,
    /// The effect of bad endpoints on the good ones
    Isolation,
    /// The effect of many retries on first attempts
    Storm,
    /// The effect of many webhooks, many stored attempts and a large directory
    Growth,
    /// Memory and CPU of each process
    Memory,
    /// Pages, throughput and retention with thirty million attempts in sixty partitions; only when named
    Partitions,
    /// The sizes of tables and indexes in a scaled run, in which a day is a minute; only when named
    Churn,
    /// Pages, groups and bulk replays of two hundred thousand dead letters; only when named
    Letters,
}

impl Part {
    const ALL: [Self; 14] = [
        Self::Limit,
        Self::Broker,
        Self::Ledger,
        Self::Best,
        Self::Throughput,
        Self::Latency,
        Self::Scale,
        Self::Isolation,
        Self::Storm,
        Self::Growth,
        Self::Memory,
        Self::Partitions,
        Self::Churn,
        Self::Letters,
    ];

    /// Whether it runs when no part is named: the others take long.
    fn is_usual(self, plan: &Plan) -> bool {
        plan.is_smoke || !matches!(self, Self::Partitions | Self::Churn | Self::Letters)
    }

    /// The part's name in a report.
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    async fn run(self, stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<()> {
        match self {
            Self::Limit => limit::run(stage, plan, report).await,
            Self::Broker => broker::run(stage, plan, report).await,
            Self::Ledger => ledger::run(stage, plan, report).await,
            Self::Best => best::run(stage, plan, report).await,
            Self::Throughput => throughput::run(stage, plan, report).await,
            Self::Latency => latency::run(stage, plan, report).await,
            Self::Scale => scale::run(stage, plan, report).await,
            Self::Isolation => isolation::run(stage, plan, report).await,
            Self::Storm => storm::run(stage, plan, report).await,
            Self::Growth => growth::run(stage, plan, report).await,
            Self::Memory => memory::run(stage, plan, report).await,
            Self::Partitions => Box::pin(partitions::run(stage, plan, report)).await,
            Self::Churn => churn::run(stage, plan, report).await,
            Self::Letters => letters::run(stage, plan, report).await,
        }
    }
}

/// The names of all parts, in the order in which they run.
pub(crate) fn names() -> Vec<String> {
    Part::ALL.into_iter().map(Part::name).collect()
}

/// Runs these parts, or all if none is named. If a part fails, the others still run.
pub(crate) async fn run_all(
    wanted: &[Part],
    stage: &mut Stage,
    plan: &Plan,
    report: &mut Report,
) -> Result<()> {
    let mut failed = Vec::new();
    let is_wanted = |part: &Part| match wanted {
        [] => part.is_usual(plan),
        _ => wanted.contains(part),
    };
    for part in Part::ALL.into_iter().filter(is_wanted) {
        let name = part.name();
        say(&name);
        if let Err(error) = part.run(stage, plan, report).await {
            eprintln!("{name} failed: {error:#}");
            failed.push(name);
        }
        // If the run is interrupted later, the figures so far are kept.
        report.write(&report.folder())?;
    }
    if failed.is_empty() { Ok(()) } else { bail!("these parts failed: {}", failed.join(", ")) }
}
