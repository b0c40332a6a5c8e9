//! The `fanfare` command: one binary, a process for each role, and the commands of its operators.
//!
//! Only this crate reads arguments, environment, files and signals; it hands each library a
//! configuration of its own.

mod clock;
mod commands;
mod lifecycle;
mod logging;
mod output;
mod settings;

use std::process::ExitCode;

use clap::Parser;
use commands::{Command, config, listen};
use settings::{Flags, Settings};

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
    lifecycle::block_on(async {
        match cli.command {
            Command::Config(args) => config::run(&args, &settings),
            Command::Listen(args) => listen::run(args).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
