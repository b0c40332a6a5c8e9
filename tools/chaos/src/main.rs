//! `cargo chaos`: breaks a running installation for a while, and then compares what was promised
//! with what came.
//!
//! Everything is real: private RabbitMQ and PostgreSQL, two routers, three workers and a console,
//! each behind proxies of its own, a report server that publishes steadily, and receivers that
//! change their moods and remember every POST.
//!
//! [`schedule`] chooses the faults from a seed, and [`act`] makes them. [`world`] is the reference
//! for who may read what, [`publisher`] the load, [`sink`] the receivers. At the end [`judge`]
//! compares the evidence, and [`report`] writes it down. `docs/chaos.md` says how to use it.

mod act;
mod clock;
mod fault;
mod installation;
mod judge;
mod ledger;
mod mood;
mod processes;
mod publisher;
mod report;
mod run;
mod schedule;
mod settle;
mod sink;
mod spec;
mod world;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fanfare_testkit::small_disk;

/// Breaks a running installation for a while, and compares what was promised with what came.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo chaos")]
pub(crate) struct Arguments {
    /// How long things break; setting up and settling come on top
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = minutes)]
    minutes: f64,
    /// Decides the faults, the load and the receivers' moods
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// The number of messages that are published in a second
    #[arg(long, value_name = "EVENTS/S", default_value_t = 30.0, value_parser = rate)]
    rate: f64,
    /// Write the report into this Markdown page, between its markers, or into a new one
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The fanfare binary to break [default: a new build]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

impl Arguments {
    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    number(text, 0.5, 24.0 * 60.0)
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.1, 1000.0)
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    let fits = (least..=most).contains(&number);
    fits.then_some(number).ok_or_else(|| format!("it is not between {least} and {most}"))
}

fn main() -> ExitCode {
    // The alias of cargo ends in `--`, and people may add another one.
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "--") {
        words.remove(1);
    }
    let arguments = Arguments::parse_from(words);
    let has_own_mounts = match small_disk::in_own_mounts() {
        Ok(has) => has,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run::run(&arguments, has_own_mounts)));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["chaos", "--minutes", "2.5", "--seed", "9"]);
        assert_eq!(arguments.length(), Duration::from_secs(150));
        assert!(Arguments::try_parse_from(["chaos", "--minutes", "0"]).is_err());
    }
}
