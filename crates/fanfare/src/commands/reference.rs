//! The commands that describe the program: the list of settings, shell completions, manual pages.
//! They read no settings.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap_complete::Shell;

use crate::output;

/// The commands that describe the program.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the settings, each with its option, its environment variable and its default
    Settings,
    /// Print the completions of a shell
    ///
    /// For bash: `fanfare completions bash > /etc/bash_completion.d/fanfare`
    Completions(CompletionsArgs),
    /// Write the manual pages, one for each command
    ///
    /// For man(1): `fanfare man /usr/local/share/man/man1`
    Man(ManArgs),
}

/// The arguments of `fanfare completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// The arguments of `fanfare man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// The directory, which is created if it does not exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Command {
    /// Runs the command; `cli` is the command line to describe.
    pub(crate) fn run(self, cli: clap::Command) -> anyhow::Result<()> {
        match self {
            Self::Settings => settings(cli),
            Self::Completions(args) => completions(args.shell, cli),
            Self::Man(args) => man(&args.directory, cli),
        }
    }
}

/// Prints the same as `fanfare help settings`.
fn settings(mut cli: clap::Command) -> anyhow::Result<()> {
    cli.build();
    let topic = cli.find_subcommand_mut("settings").context("the settings have no help")?;
    output::print(&topic.render_help().to_string())
}

fn completions(shell: Shell, mut cli: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, "fanfare", &mut script);
    output::print(&String::from_utf8(script).context("the completions are not UTF-8")?)
}

fn man(directory: &Path, cli: clap::Command) -> anyhow::Result<()> {
    let shown = directory.display();
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(cli, directory))
        .with_context(|| format!("failed to write the manual pages to {shown}"))?;
    output::print(&format!("wrote the manual pages to {}\n", output::plain(&shown.to_string())))
}
