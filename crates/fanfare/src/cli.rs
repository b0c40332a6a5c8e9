//! The command line: its arguments, its help, and the first steps that `fanfare` alone prints.

#[cfg(test)]
mod document;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::{Command, reference};
use crate::settings::Flags;

/// The end of every command's help, because every command accepts the settings as options.
const SETTINGS_HINT: &str = "Settings such as --database-url are options of every command: \
                             `fanfare help settings` lists them.";

/// The text that `fanfare` prints when it is called without a command.
pub(crate) const FIRST_STEPS: &str = "\
Fanfare delivers the events of a report server to its users' webhooks.

Usage: fanfare <COMMAND>

First steps:
  fanfare doctor     Check settings, database, broker and keys, and say how to fix each problem
  fanfare migrate    Create or update the database's tables
  fanfare all        Run a router, a worker and a console in one process

On more than one machine, run `fanfare router`, `fanfare worker` and `fanfare console` instead.

`fanfare --help` lists all commands, `fanfare help settings` all settings.
";

/// Webhook delivery for a report server.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// The command that was given, by whether it needs the settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// A command that reads the settings.
    #[command(flatten)]
    Work(Box<Command>),
    /// A command that describes the program. It reads no settings, because packagers run it on
    /// machines without them.
    #[command(flatten)]
    Describe(reference::Command),
}

impl Cli {
    /// Parses the arguments of this process: the command, and the settings that were given as options.
    ///
    /// # Errors
    ///
    /// The arguments are invalid, or they ask for the help or the version.
    pub(crate) fn read() -> Result<(Task, Flags), clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        Ok((cli.task, Flags::of(&matches)))
    }
}

/// The command with all its subcommands. The help of each points to the settings.
pub(crate) fn command() -> clap::Command {
    with_hint(Flags::add_to(Cli::command()))
}

fn with_hint(command: clap::Command) -> clap::Command {
    command.after_help(SETTINGS_HINT).mut_subcommands(|subcommand| match subcommand.get_name() {
        "settings" => Flags::list_in(subcommand),
        _ => with_hint(subcommand),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        command().debug_assert();
    }
}
