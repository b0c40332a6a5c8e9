//! `fanfare webhooks`: registered, looked at, paused and deleted by an operator.

mod add;
mod import;
mod set;
mod show;

use std::collections::{BTreeSet, HashMap};

use anyhow::anyhow;
use fanfare_core::explain::OwnerState;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::webhook::Webhook;
use fanfare_store::Store;
use fanfare_store::directory::UserStatus;

use super::ids::{self, Ids};
use super::users;
use crate::output;
use crate::parts;
use crate::settings::Settings;
use crate::table;

/// What can be done with webhooks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List webhooks, the oldest first
    List(ListArgs),
    /// Show a webhook with its secret
    Show(ShowArgs),
    /// Register a webhook for a user and print it
    Add(Box<add::AddArgs>),
    /// Change a webhook and print it
    Set(Box<set::SetArgs>),
    /// Take over webhooks from a report server, as its API lists them
    Import(import::ImportArgs),
    /// Send nothing more to these webhooks until they are resumed
    Pause(Ids<WebhookId>),
    /// Send to these webhooks again
    Resume(Ids<WebhookId>),
    /// Delete these webhooks
    Delete(Ids<WebhookId>),
    /// Send a webhook a signed notification that says nothing, and tell its answer
    Ping(PingArgs),
}

/// The arguments of `fanfare webhooks list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only this user's
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare webhooks show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The webhook's id
    #[arg(value_parser = ids::parse::<WebhookId>)]
    id: WebhookId,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare webhooks ping`.
#[derive(Debug, clap::Args)]
pub(crate) struct PingArgs {
    /// The webhook's id
    #[arg(value_parser = ids::parse::<WebhookId>)]
    id: WebhookId,
}

/// Runs a command about webhooks.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let store = parts::store(settings, "webhooks")?;
    match command {
        Command::List(args) => list(&args, &store).await,
        Command::Show(args) => print(&get(&store, args.id).await?, args.json, &store).await,
        Command::Add(args) => {
            let json = args.json;
            print(&add::add(*args, &store, settings).await?, json, &store).await
        }
        Command::Set(args) => {
            let json = args.json;
            print(&set::set(*args, &store, settings).await?, json, &store).await
        }
        Command::Import(args) => import::import(&args, &store, settings).await,
        Command::Pause(ids) => change(&ids, Change::Pause, &store).await,
        Command::Resume(ids) => change(&ids, Change::Resume, &store).await,
        Command::Delete(ids) => change(&ids, Change::Delete, &store).await,
        Command::Ping(args) => ping(&get(&store, args.id).await?, settings).await,
    }
}

async fn list(args: &ListArgs, store: &Store) -> anyhow::Result<()> {
    let webhooks = store.webhooks_list(args.owner.as_ref()).await?;
    let owners = Owners::of(&webhooks, store).await?;
    if args.json {
        let shown = webhooks.iter().map(|webhook| show::json(webhook, owners.state(webhook)));
        return output::print_json(&shown.collect::<Vec<_>>());
    }
    let rows = webhooks.iter().map(|webhook| show::row(webhook, owners.state(webhook)));
    output::print(&table::render(&show::HEADINGS, rows))
}

async fn print(webhook: &Webhook, json: bool, store: &Store) -> anyhow::Result<()> {
    let owner = Owners::of(std::slice::from_ref(webhook), store).await?.state(webhook);
    if json {
        output::print_json(&show::json(webhook, owner))
    } else {
        output::print(&table::facts(&show::facts(webhook, owner)))
    }
}

/// How the owners of webhooks stand right now.
struct Owners(HashMap<String, UserStatus>);

impl Owners {
    async fn of(webhooks: &[Webhook], store: &Store) -> anyhow::Result<Self> {
        let keys: BTreeSet<&str> = webhooks.iter().map(|webhook| webhook.owner.key()).collect();
        Ok(Self(store.user_status(&keys.into_iter().collect::<Vec<_>>()).await?))
    }

    fn state(&self, webhook: &Webhook) -> OwnerState {
        let status = self.0.get(webhook.owner.key()).copied();
        status.map_or(OwnerState::Deleted, OwnerState::from)
    }
}

async fn get(store: &Store, id: WebhookId) -> anyhow::Result<Webhook> {
    store.webhooks_get(&[id]).await?.pop().ok_or_else(|| unknown(id))
}

#[derive(Clone, Copy)]
enum Change {
    Pause,
    Resume,
    Delete,
}

async fn change(ids: &Ids<WebhookId>, change: Change, store: &Store) -> anyhow::Result<()> {
    for &id in &ids.ids {
        let (found, done) = match change {
            Change::Pause => (store.webhook_pause(id, true, None).await?, "paused"),
            Change::Resume => (store.webhook_pause(id, false, None).await?, "resumed"),
            Change::Delete => (store.webhook_delete(id).await?, "deleted"),
        };
        if !found {
            return Err(unknown(id));
        }
        output::print(&format!("{done} {id}\n"))?;
    }
    Ok(())
}

fn unknown(id: WebhookId) -> anyhow::Error {
    anyhow!("there is no webhook {id}; `fanfare webhooks list` lists them")
}

/// Sends one POST that looks like any other but tells of no event.
async fn ping(webhook: &Webhook, settings: &Settings) -> anyhow::Result<()> {
    let post = show::Ping::new(webhook, crate::clock::now());
    let client = parts::outbound(settings)?;
    let answer = client.post(&webhook.uri, &post.headers, post.body).await;
    let told = show::answer(&answer)?;
    output::print(&format!("{} answered {told}\n", webhook.uri.origin()))
}
