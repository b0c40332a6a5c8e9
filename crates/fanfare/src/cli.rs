//! The command line: its arguments, its help, and what `fanfare` alone says.

#[cfg(test)]
mod document;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::{Command, reference};
use crate::settings::Flags;

/// What a command's help says of the settings, which every command takes as flags.
const SETTINGS_HINT: &str =
    "Settings such as --database-url are options too: `fanfare help settings` lists them.";

/// What `fanfare` alone says.
pub(crate) const FIRST_STEPS: &str = "\
Fanfare delivers the events of a report server to its users' webhooks.

Usage: fanfare <COMMAND>

First steps:
  fanfare doctor     Check settings, database, broker and keys, and say what to correct
  fanfare migrate    Create the database's tables, or bring them up to date
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

/// What the program is asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Work, for which settings are read.
    #[command(flatten)]
    Work(Command),
    /// A description of the program. Packagers ask for it where no settings are.
    #[command(flatten)]
    Describe(reference::Command),
}

impl Cli {
    /// Reads the arguments of this process: the task, and the settings that are among them.
    ///
    /// # Errors
    ///
    /// The arguments are wrong, or ask for help or the version.
    pub(crate) fn read() -> Result<(Task, Flags), clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        Ok((cli.task, Flags::of(&matches)))
    }
}

/// The command with all its subcommands, whose help points to the settings.
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
    fn the_arguments_are_consistent() {
        command().debug_assert();
    }
}
