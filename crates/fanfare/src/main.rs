//! The `fanfare` command: one binary, a process for each role, and the commands of its operators.
//!
//! Only this crate reads arguments, environment, files and signals; it hands each library a
//! configuration of its own.

mod clock;
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

use clap::Parser;
use commands::Command;
use settings::{Flags, Settings};
use tikv_jemallocator::Jemalloc;

/// A delivery is some hundred small pieces of memory, made on one thread and freed on another: the
/// system's allocator took a quarter of a worker's time (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Webhook delivery for a report server.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => output::finish(&run(cli)),
        Err(error) => output::finish_usage(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let settings = Settings::load(&cli.flags)?;
    logging::start(&settings.log, cli.command.is_role());
    // An error means that there is a provider already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    lifecycle::block_on(cli.command.run(&settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
