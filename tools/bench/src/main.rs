//! `cargo bench-all`: Fanfare measured on one machine, beside the limits of that machine.
//!
//! Everything is real and on loopback: private RabbitMQ and PostgreSQL, the `fanfare` binary in
//! processes of its own, a publisher, and a sink that counts what arrives. The publisher, the sink
//! and the bare client that shows the limit are this same binary in other roles, each a process, so
//! that all share the machine as they would in use.
//!
//! Read [`parts`] for what is measured, [`plan`] for how much of it, [`stage`] and [`world`] for
//! what runs, [`sink`] for how it is counted, and [`report`] for what comes out.

mod client;
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

use anyhow::{Context as _, Result};
use clap::Parser;
use fanfare_testkit::build;

use parts::Part;
use plan::{Plan, Size};
use report::Report;
use stage::Stage;
use tikv_jemallocator::Jemalloc;

/// As Fanfare has it, so that the bare client is what Fanfare could be at most.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Measures Fanfare beside the limits of this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-all", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    run: Run,
}

/// What one run measures.
#[derive(Debug, clap::Args)]
struct Run {
    /// The parts to run; all of them when none is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Small counts and one round: shows that everything works, and says nothing about speed
    #[arg(long, conflicts_with_all = ["full", "save"])]
    smoke: bool,
    /// Ten million stored attempts, too
    #[arg(long)]
    full: bool,
    /// So many rounds of each figure, instead of three
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "smoke")]
    rounds: Option<u64>,
    /// Only the cases with these words in their names, of `ledger`, `best`, `throughput` and `isolation`
    #[arg(long, value_name = "WORDS", default_value = "")]
    case: String,
    /// Copy the report and the chart to docs/bench
    #[arg(long)]
    save: bool,
    /// The fanfare binary to measure; built when not given
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// The benchmark's own processes.
#[derive(Debug, clap::Subcommand)]
enum Role {
    /// Takes POSTs and counts them
    #[command(hide = true)]
    Sink,
    /// Signs and posts without anything around it
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
    // The alias ends in `--`, and people add one of their own.
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

/// The one that measures mostly waits; one thread leaves the machine to the others.
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
    // What was lost must not be overlooked for the numbers.
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
