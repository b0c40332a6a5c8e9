//! What is measured, part by part.
//!
//! Each part makes the installation that it needs, takes each of its figures once a round, and checks
//! at the end that nothing was lost and nothing came twice: a number that was reached by losing
//! something is no number.

mod best;
mod broker;
mod growth;
mod isolation;
mod latency;
mod ledger;
mod limit;
mod memory;
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
    /// What the bare HTTP client reaches: the limit that rates are compared with
    Limit,
    /// What the broker reaches: confirmed in, acknowledged out, one quorum queue
    Broker,
    /// What the ledger reaches: rows of attempts
    Ledger,
    /// What these three reach at once, with nothing around them
    Best,
    /// Deliveries a second through the whole pipeline, by fan-out
    Throughput,
    /// From publish to arrival, unloaded and at half of the throughput
    Latency,
    /// What more workers and routers add, with endpoints that take their time
    Scale,
    /// What bad endpoints cost the good ones
    Isolation,
    /// What a storm of retries costs first attempts
    Storm,
    /// What webhooks, stored attempts and a large directory cost
    Growth,
    /// Memory and CPU of each process
    Memory,
}

impl Part {
    const ALL: [Self; 11] = [
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
    ];

    /// The name that it has in a report.
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
        }
    }
}

/// The names of all parts, in the order in which they run.
pub(crate) fn names() -> Vec<String> {
    Part::ALL.into_iter().map(Part::name).collect()
}

/// Runs these parts, or all when none is named; one that fails does not keep the others from it.
pub(crate) async fn run_all(
    wanted: &[Part],
    stage: &mut Stage,
    plan: &Plan,
    report: &mut Report,
) -> Result<()> {
    let mut failed = Vec::new();
    for part in Part::ALL.into_iter().filter(|it| wanted.is_empty() || wanted.contains(it)) {
        let name = part.name();
        say(&name);
        if let Err(error) = part.run(stage, plan, report).await {
            eprintln!("{name} failed: {error:#}");
            failed.push(name);
        }
        // A run that is broken off later has at least this.
        report.write(&report.folder())?;
    }
    if failed.is_empty() { Ok(()) } else { bail!("these parts failed: {}", failed.join(", ")) }
}
