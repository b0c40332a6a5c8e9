//! The `fanfare` command: one binary, a process for each role, and the commands of its operators.
//!
//! This crate alone reads arguments, the environment, settings files and signals. Each library gets
//! its own configuration from here.

mod cli;
mod commands;
mod input;
mod lifecycle;
mod logging;
mod observe;
mod operator;
mod output;
mod settings;
mod spans;
mod table;
mod wiring;

use std::process::ExitCode;

use cli::{Cli, Task};
use commands::Command;
use settings::{Flags, Settings};
use tikv_jemallocator::Jemalloc;

/// A delivery makes some hundred small allocations, and often frees them on another thread. With the
/// system's allocator that took a quarter of a worker's time (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let _failpoints = fanfare_failpoints::start();
    if std::env::args_os().len() <= 1 {
        return output::finish_without_command(cli::FIRST_STEPS);
    }
    match Cli::read() {
        Ok((Task::Describe(command), _)) => output::finish(&command.run(cli::command())),
        Ok((Task::Work(command), flags)) => output::finish(&run(*command, &flags)),
        Err(error) => output::finish_usage(&error),
    }
}

fn run(command: Command, flags: &Flags) -> anyhow::Result<()> {
    let settings = Settings::load(flags)?;
    // An error means that a provider is installed already, and any provider will do.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let exporter = match command.traced_role() {
        Some(role) => spans::start(&settings, role)?,
        None => None,
    };
    logging::start(&settings.log, command.is_role(), exporter.as_ref());
    let result = lifecycle::block_on(command.run(&settings));
    spans::finish(exporter);
    result
}
