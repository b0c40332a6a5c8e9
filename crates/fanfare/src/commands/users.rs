//! `fanfare users`: accounts that may sign in at the API and the console.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::Context as _;
use fanfare_core::name::Name;

use crate::output::{self, Misuse};
use crate::parts;
use crate::settings::Settings;

/// What can be done with accounts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add an account, or give an existing one this password and role
    Add(AddArgs),
}

/// The arguments of `fanfare users add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The user's name, as in the report server
    #[arg(value_parser = name)]
    name: Name,
    /// Make the account a System Administrator of Fanfare
    #[arg(long)]
    admin: bool,
    /// Read the password from the first line of stdin instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

/// Parses a name on the command line.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    Name::parse(text)
        .ok_or_else(|| "a name has 1 to 256 characters and no control characters".to_owned())
}

/// Runs a command about accounts.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::Add(args) => add(&args, settings).await,
    }
}

async fn add(args: &AddArgs, settings: &Settings) -> anyhow::Result<()> {
    let store = parts::store(settings, "users")?;
    let password = if args.password_stdin { read_password()? } else { ask_password()? };
    if password.is_empty() {
        return Err(
            Misuse("the password is empty; give one of at least one character".into()).into()
        );
    }
    let new = store.account_put(&args.name, &password, args.admin).await?;
    let role = if args.admin { " as a System Administrator" } else { "" };
    let done = if new { "added" } else { "there before, now with this password:" };
    output::print(&format!("{done} {}{role}\n", output::plain(args.name.as_str())))
}

fn read_password() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("failed to read the password from stdin")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask_password() -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        let text =
            "nobody is there to ask for the password; give it on stdin with --password-stdin";
        return Err(Misuse(text.to_owned()).into());
    }
    rpassword::prompt_password("Password: ").context("failed to ask for the password")
}
