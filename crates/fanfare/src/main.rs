//! The `fanfare` command: one binary, a process for each role, and the commands of its operators.
//!
//! Only this crate reads arguments, environment, files and signals; it hands each library a
//! configuration of its own.

mod cli;
mod commands;
mod input;
mod lifecycle;
mod logging;
mod observe;
mod output;
mod parts;
mod settings;
mod spans;
mod table;

use std::process::ExitCode;

use cli::{Cli, Task};
use commands::Command;
use settings::{Flags, Settings};
use tikv_jemallocator::Jemalloc;

/// A delivery is some hundred small pieces of memory, made on one thread and freed on another: the
/// system's allocator took a quarter of a worker's time (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    if std::env::args_os().len() <= 1 {
        return output::finish_without_command(cli::FIRST_STEPS);
    }
    match Cli::read() {
        Ok((Task::Describe(command), _)) => output::finish(&command.run(cli::command())),
        Ok((Task::Work(command), flags)) => output::finish(&run(command, &flags)),
        Err(error) => output::finish_usage(&error),
    }
}

fn run(command: Command, flags: &Flags) -> anyhow::Result<()> {
    let settings = Settings::load(flags)?;
    // An error means that there is a provider already, which serves as well.
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
