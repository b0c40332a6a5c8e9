//! `cargo bench-all`: measures Fanfare on one machine, and the limits of that machine.
//!
//! Everything is real and on loopback: private RabbitMQ and PostgreSQL, processes of the `fanfare`
//! binary, a publisher, and a sink that counts the POSTs. The publisher, the sink and the bare
//! client are roles of this binary, each in its own process, so that all of them share the machine
//! as in production.
//!
//! [`parts`] has the measurements, and [`plan`] their sizes. [`stage`] and [`world`] start the
//! processes, [`sink`] counts, and [`report`] writes the results.

mod client;
mod console;
mod event;
mod machine;
mod number;
mod parts;
mod plan;
mod process;
mod progress;
mod publisher;
mod queue;
mod report;
mod seed;
mod sink;
mod stage;
mod usage;
mod wire;
mod world;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use fanfare_testkit::build;

use parts::Part;
use plan::{Plan, Size};
use report::Report;
use stage::Stage;
use tikv_jemallocator::Jemalloc;

/// The same allocator as Fanfare's, so that the bare client shows Fanfare's limit.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Measures Fanfare, and the limits of this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-all", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    run: Run,
}

/// The measurements of one run.
#[derive(Debug, clap::Args)]
struct Run {
    /// The parts to run [default: all]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Check that everything works, with small counts and one round; the figures say nothing about
    /// speed
    #[arg(long, conflicts_with_all = ["full", "save"])]
    smoke: bool,
    /// Also measure with ten million stored attempts
    #[arg(long)]
    full: bool,
    /// The number of rounds of each figure [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "smoke")]
    rounds: Option<u64>,
    /// Run only the cases of `ledger`, `best`, `throughput`, `isolation` and `partitions` whose names
    /// contain these words; those of `partitions` are pages, throughput, reader and retention
    #[arg(long, value_name = "WORDS", default_value = "")]
    case: String,
    /// The duration of the part `churn`, in minutes [default: 60]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1440), conflicts_with = "smoke")]
    minutes: Option<u64>,
    /// For how long a reader holds its snapshot in the part `partitions`, in seconds [default: 600]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=3600), conflicts_with = "smoke")]
    reader: Option<u64>,
    /// Copy the report to docs/bench
    #[arg(long)]
    save: bool,
    /// The fanfare binary to measure [default: a new build]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// The roles of the benchmark's own processes.
#[derive(Debug, clap::Subcommand)]
enum Role {
    /// Receives POSTs and counts them
    #[command(hide = true)]
    Sink,
    /// Signs and sends POSTs, and does nothing else
    #[command(hide = true)]
    Client,
    /// Publishes to a queue and consumes from it
    #[command(hide = true)]
    Queue,
    /// Publishes events as the report server does
    #[command(hide = true)]
    Publisher,
}

fn main() -> ExitCode {
    // The alias of cargo ends in `--`, and people may add another one.
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "--") {
        words.remove(1);
    }
    let arguments = Arguments::parse_from(words);
    let done = match arguments.role {
        Some(Role::Sink) => sink::run(),
        Some(Role::Client) => client::run(),
        Some(Role::Queue) => queue::run(),
        Some(Role::Publisher) => publisher::run(),
        None => runtime().and_then(|runtime| runtime.block_on(measure(&arguments.run))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-all: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The measuring process mostly waits, so one thread is enough.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

async fn measure(run: &Run) -> Result<()> {
    let size = if run.smoke { Size::Smoke } else { Size::Whole { full: run.full } };
    let mut plan = Plan { case: run.case.clone(), ..Plan::of(size) };
    plan.rounds = run.rounds.unwrap_or(plan.rounds);
    plan.churn = run.minutes.map_or(plan.churn, Duration::from_mins);
    plan.partitions_reader = run.reader.map_or(plan.partitions_reader, Duration::from_secs);
    let binary = match &run.binary {
        Some(path) => {
            path.canonicalize().with_context(|| format!("looking for {}", path.display()))?
        }
        None => build::fanfare(machine::PROFILE).await?,
    };
    let mut stage = Stage::start(binary).await?;
    let mut report = Report::new(machine::describe(&stage)?, run.smoke);
    let failed = parts::run_all(&run.parts, &mut stage, &plan, &mut report).await;
    stage.end(failed.is_err()).await;
    print!("{}", report.table());
    eprintln!("the report is in {}", report.folder().display());
    // A lost delivery must fail the run, even though there are figures.
    failed?;
    if run.save {
        let folder = build::workspace().join("docs/bench");
        report.complete(&folder, &parts::names())?;
        report.write(&folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["bench-all", "throughput", "latency", "--full"]);
        assert_eq!(arguments.run.parts, [Part::Throughput, Part::Latency]);
        assert!(arguments.run.full && arguments.role.is_none());
    }
}
