//! `fanfare publishers`: manages the report servers that may publish events over HTTP.

use anyhow::bail;
use fanfare_app::clock::rfc3339;
use fanfare_app::publishers;
use fanfare_core::name::Name;
use fanfare_store::Store;
use fanfare_store::publishers::Publisher;
use serde::Serialize;

use super::users::name;
use crate::operator::author;
use crate::output;
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The commands about publishers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add a publisher and print its access token, which can't be shown again
    Add {
        #[command(flatten)]
        one: OneArgs,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the publishers, and when each was last used
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Revoke the access token of a publisher at once
    Revoke(OneArgs),
}

/// One publisher.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// The name of the publisher, such as that of the report server
    #[arg(value_parser = name)]
    name: Name,
}

/// A new publisher in JSON.
#[derive(Serialize)]
struct AddedView<'a> {
    name: &'a str,
    token: &'a str,
}

/// A publisher in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    name: &'a str,
    created_at: String,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

/// Runs a command about publishers.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let store = wiring::store(settings, "publishers")?;
    match command {
        Command::Add { one: OneArgs { name }, json } => add(&store, &name, json).await,
        Command::List { json } => list(&store, json).await,
        Command::Revoke(OneArgs { name }) => revoke(&store, &name).await,
    }
}

async fn add(store: &Store, name: &Name, json: bool) -> anyhow::Result<()> {
    let shown = output::plain(name.as_str());
    let Some(token) = publishers::add(store, name, &author()).await? else {
        bail!(
            "there is a publisher '{shown}'; add one with another name, or revoke its token with \
             `fanfare publishers revoke` first"
        );
    };
    if json {
        return output::print_json(&AddedView { name: name.as_str(), token: token.reveal() });
    }
    // The token alone is on stdout, for a script that stores it.
    output::note(&format!("added the publisher {shown}; its token is not shown again:"));
    output::print(&format!("{}\n", token.reveal()))
}

async fn list(store: &Store, json: bool) -> anyhow::Result<()> {
    let publishers = store.publishers_list().await?;
    if json {
        return output::print_json(&publishers.iter().map(view).collect::<Vec<_>>());
    }
    let headings = ["NAME", "CREATED", "LAST USED", "REVOKED"];
    output::print(&table::render(&headings, publishers.iter().map(row)))
}

async fn revoke(store: &Store, name: &Name) -> anyhow::Result<()> {
    let shown = output::plain(name.as_str());
    if !store.publisher_revoke(name, &author()).await? {
        bail!("there is no publisher '{shown}'; `fanfare publishers list` lists them");
    }
    output::print(&format!("revoked the token of {shown}\n"))
}

fn view(publisher: &Publisher) -> View<'_> {
    View {
        name: &publisher.name,
        created_at: rfc3339(publisher.created_at),
        last_used_at: publisher.last_used_at.map(rfc3339),
        revoked_at: publisher.revoked_at.map(rfc3339),
    }
}

fn row(publisher: &Publisher) -> [String; 4] {
    let time = |time: Option<_>| time.map_or_else(String::new, rfc3339);
    [
        publisher.name.clone(),
        rfc3339(publisher.created_at),
        time(publisher.last_used_at),
        time(publisher.revoked_at),
    ]
}
