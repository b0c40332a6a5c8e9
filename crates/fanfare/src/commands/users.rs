//! `fanfare users`: manages the accounts that may sign in at the API and the console.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use anyhow::Context as _;
use fanfare_app::accounts::{self, AccountError};
use fanfare_core::name::Name;
use fanfare_core::password;
use fanfare_store::Store;
use fanfare_store::accounts::Account;
use serde::Serialize;

use crate::operator::{author, operator};
use crate::output::{self, Misuse};
use crate::settings::Settings;
use crate::table;
use crate::wiring;
use fanfare_app::clock::rfc3339;

/// The reason of an account that an operator disabled without giving a reason.
const BY_AN_OPERATOR: &str = "disabled by an operator";

/// The commands about accounts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add an account, or change the password and the role of an existing one
    Add(AddArgs),
    /// List the accounts
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Remove an account and end its sessions
    Remove(OneArgs),
    /// Disable an account, so that it can't sign in, and end its sessions
    Disable {
        #[command(flatten)]
        one: OneArgs,
        /// The reason, which `fanfare users list` shows
        #[arg(long, value_name = "TEXT", default_value = BY_AN_OPERATOR)]
        reason: String,
    },
    /// Enable a disabled account, so that it can sign in again
    Enable(OneArgs),
    /// Change the password of an account and end its sessions
    Password {
        #[command(flatten)]
        one: OneArgs,
        /// Read the password from the first line of stdin instead of asking for it
        #[arg(long)]
        password_stdin: bool,
    },
}

/// The arguments of `fanfare users add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Make the account a System Administrator of Fanfare
    #[arg(long)]
    admin: bool,
    /// Read the password from the first line of stdin instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

/// One account.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// The user's name at the report server
    #[arg(value_parser = name)]
    name: Name,
}

/// An account in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    name: &'a str,
    administrator: bool,
    created_at: String,
    disabled_at: Option<String>,
    disabled_reason: Option<&'a str>,
    sessions: i64,
}

/// Parses a name on the command line.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    Name::parse(text)
        .ok_or_else(|| "a name has 1 to 256 characters and no control characters".to_owned())
}

/// Runs a command about accounts.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let (store, author) = (wiring::store(settings, "users")?, author());
    match command {
        Command::Add(args) => add(&args, &store).await,
        Command::List { json } => list(&store, json).await,
        Command::Remove(OneArgs { name }) => {
            done(store.account_remove(&name, &author).await?, "removed", &name)
        }
        Command::Disable { one: OneArgs { name }, reason } => {
            let changed = accounts::disable(&store, &operator(), &name, &reason).await;
            done(found(changed)?, "disabled", &name)
        }
        Command::Enable(OneArgs { name }) => {
            let changed = accounts::enable(&store, &operator(), &name).await;
            done(found(changed)?, "enabled", &name)
        }
        Command::Password { one: OneArgs { name }, password_stdin } => {
            let password = new_password(password_stdin)?;
            let found = store.account_set_password(&name, &password, &author).await?;
            done(found, "changed the password of", &name)
        }
    }
}

async fn add(args: &AddArgs, store: &Store) -> anyhow::Result<()> {
    let password = new_password(args.password_stdin)?;
    let name = &args.one.name;
    let new = store.account_put(name, &password, args.admin, &author()).await?;
    let role = if args.admin { " as a System Administrator" } else { "" };
    let done = if new { "added" } else { "the account existed, and now has this password:" };
    output::print(&format!("{done} {}{role}\n", output::plain(name.as_str())))
}

async fn list(store: &Store, json: bool) -> anyhow::Result<()> {
    let accounts = accounts::list(store, &operator()).await.map_err(failed)?;
    if json {
        return output::print_json(&accounts.iter().map(view).collect::<Vec<_>>());
    }
    let headings = ["NAME", "ROLE", "CREATED", "SESSIONS", "DISABLED"];
    output::print(&table::render(&headings, accounts.iter().map(row)))
}

/// Whether there is the account that was to be changed.
fn found(changed: Result<(), AccountError>) -> anyhow::Result<bool> {
    match changed {
        Ok(()) => Ok(true),
        Err(AccountError::Unknown) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: AccountError) -> anyhow::Error {
    match error {
        AccountError::Store(error) => error.into(),
        other => other.into(),
    }
}

/// Prints what was done; fails if there is no such account.
fn done(found: bool, what: &str, name: &Name) -> anyhow::Result<()> {
    let name = output::plain(name.as_str());
    if !found {
        anyhow::bail!("there is no account '{name}'; `fanfare users list` lists them");
    }
    output::print(&format!("{what} {name}\n"))
}

fn view(account: &Account) -> View<'_> {
    let disabled = account.disabled.as_ref();
    View {
        name: &account.name,
        administrator: account.administrator,
        created_at: rfc3339(account.created_at),
        disabled_at: disabled.map(|(at, _)| rfc3339(*at)),
        disabled_reason: disabled.and_then(|(_, reason)| reason.as_deref()),
        sessions: account.sessions,
    }
}

fn row(account: &Account) -> [String; 5] {
    let role = if account.administrator { "administrator" } else { "user" };
    let disabled = account.disabled.as_ref().map_or_else(String::new, |(at, reason)| {
        format!("{}: {}", rfc3339(*at), reason.as_deref().unwrap_or_default())
    });
    [
        account.name.clone(),
        role.to_owned(),
        rfc3339(account.created_at),
        account.sessions.to_string(),
        disabled,
    ]
}

/// Reads a new password, from stdin or from the terminal.
fn new_password(from_stdin: bool) -> anyhow::Result<String> {
    let text = if from_stdin { read_password()? } else { ask_password()? };
    password::check(&text).map_err(|error| Misuse(error.to_string()))?;
    Ok(text)
}

fn read_password() -> anyhow::Result<String> {
    // One byte more than the limit, and the line break: a longer password is then refused as too long.
    let most = u64::try_from(password::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(3);
    let mut line = Vec::new();
    std::io::BufReader::new(std::io::stdin().lock().take(most))
        .read_until(b'\n', &mut line)
        .context("failed to read the password from stdin")?;
    let line = String::from_utf8(line)
        .map_err(|_| Misuse("the password is not UTF-8; give it as UTF-8 text".to_owned()))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask_password() -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        let text = "stdin is not a terminal; give the password on stdin with --password-stdin";
        return Err(Misuse(text.to_owned()).into());
    }
    rpassword::prompt_password("Password: ").context("failed to ask for the password")
}
