//! `fanfare webhooks`: an operator's commands to list, add, change, pause and delete webhooks.

mod add;
mod import;
mod set;
mod show;

use anyhow::anyhow;
use fanfare_app::json::webhook::for_operator;
use fanfare_app::webhooks::{self, OwnerScope, WebhookError};
use fanfare_app::{Context, clock};
use fanfare_core::explain::OwnerState;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;

use super::ids::{self, Ids};
use super::users;
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The commands about webhooks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List webhooks, the oldest first
    List(ListArgs),
    /// Show a webhook, including its secret
    Show(ShowArgs),
    /// Register a webhook for a user and print it
    Add(Box<add::AddArgs>),
    /// Change a webhook and print it
    Set(Box<set::SetArgs>),
    /// Import webhooks from a report server, in the form in which its API lists them
    Import(import::ImportArgs),
    /// Pause webhooks: nothing is sent to them until they are resumed
    Pause(PauseArgs),
    /// Resume paused webhooks
    Resume(Ids<WebhookId>),
    /// Delete webhooks
    Delete(Ids<WebhookId>),
    /// Send a signed test notification to a webhook, and print the answer
    Ping(PingArgs),
}

/// The arguments of `fanfare webhooks pause`.
#[derive(Debug, clap::Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    ids: Ids<WebhookId>,
    /// Hold what happens meanwhile: it is sent when the webhook is resumed. The choice is kept for later
    /// pauses, those by the service included
    #[arg(long)]
    hold: bool,
    /// Drop what happens meanwhile, as without an earlier choice
    #[arg(long = "drop", conflicts_with = "hold")]
    drops: bool,
}

impl PauseArgs {
    fn hold(&self) -> Option<bool> {
        (self.hold || self.drops).then_some(self.hold)
    }
}

/// The arguments of `fanfare webhooks list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only this user's webhooks
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
    let context = &wiring::context(settings, "webhooks")?;
    match command {
        Command::List(args) => list(&args, context).await,
        Command::Show(args) => print(&reveal(context, args.id).await?, args.json, context).await,
        Command::Add(args) => {
            let json = args.json;
            print(&add::add(*args, context, settings).await?, json, context).await
        }
        Command::Set(args) => {
            let json = args.json;
            let changed = set::set(*args, context, settings).await?;
            print(&reveal(context, changed.id).await?, json, context).await
        }
        Command::Import(args) => import::import(&args, context, settings).await,
        Command::Pause(args) => change(&args.ids, Change::Pause(args.hold()), context).await,
        Command::Resume(ids) => change(&ids, Change::Resume, context).await,
        Command::Delete(ids) => change(&ids, Change::Delete, context).await,
        Command::Ping(args) => ping(&get(context, args.id).await?, settings).await,
    }
}

async fn list(args: &ListArgs, context: &Context) -> anyhow::Result<()> {
    let (operator, owner) = (operator(), args.owner.as_ref());
    // Only the JSON form has secrets.
    let listed = if args.json {
        webhooks::list_with_secrets(context, &operator, owner).await
    } else {
        let scope = owner.cloned().map_or(OwnerScope::All, OwnerScope::Of);
        webhooks::list(context, &operator, &scope).await
    };
    let webhooks = listed.map_err(failed)?;
    let owners = webhooks::owners(context, &webhooks).await?;
    let state = |webhook: &Webhook| owners.state(&webhook.owner);
    if args.json {
        let shown = webhooks.iter().map(|webhook| for_operator(webhook, state(webhook)));
        return output::print_json(&shown.collect::<Vec<_>>());
    }
    let rows = webhooks.iter().map(|webhook| show::row(webhook, state(webhook)));
    output::print(&table::render(&show::HEADINGS, rows))
}

async fn print(webhook: &Webhook, json: bool, context: &Context) -> anyhow::Result<()> {
    let owner = owner(webhook, context).await?;
    if json {
        output::print_json(&for_operator(webhook, owner))
    } else {
        output::print(&table::facts(&show::facts(webhook, owner)))
    }
}

/// The present state of a webhook's owner.
async fn owner(webhook: &Webhook, context: &Context) -> Result<OwnerState, StoreError> {
    let owners = webhooks::owners(context, std::slice::from_ref(webhook)).await?;
    Ok(owners.state(&webhook.owner))
}

/// Finds a webhook whose secret is about to be printed.
async fn reveal(context: &Context, id: WebhookId) -> anyhow::Result<Webhook> {
    let found = webhooks::reveal(context, &operator(), id).await;
    found.map_err(|error| failed_for(id, error))
}

async fn get(context: &Context, id: WebhookId) -> anyhow::Result<Webhook> {
    let found = webhooks::find(context, &operator(), id).await;
    found.map_err(|error| failed_for(id, error))
}

#[derive(Clone, Copy)]
enum Change {
    /// With what becomes of what happens meanwhile.
    Pause(Option<bool>),
    Resume,
    Delete,
}

async fn change(ids: &Ids<WebhookId>, change: Change, context: &Context) -> anyhow::Result<()> {
    let actor = &operator();
    for &id in &ids.ids {
        let (changed, done) = match change {
            Change::Pause(hold) => (webhooks::pause(context, actor, id, hold).await, "paused"),
            Change::Resume => (webhooks::resume(context, actor, id).await, "resumed"),
            Change::Delete => (webhooks::delete(context, actor, id).await, "deleted"),
        };
        changed.map_err(|error| failed_for(id, error))?;
        output::print(&format!("{done} {id}\n"))?;
    }
    Ok(())
}

fn failed_for(id: WebhookId, error: WebhookError) -> anyhow::Error {
    match error {
        WebhookError::Unknown => {
            anyhow!("there is no webhook {id}; `fanfare webhooks list` lists them")
        }
        other => failed(other),
    }
}

fn failed(error: WebhookError) -> anyhow::Error {
    match error {
        // The store's error has advice for an operator, who may raise the limit.
        WebhookError::TooMany { owner, most } => {
            StoreError::TooManyWebhooks { owner: owner.to_string(), most }.into()
        }
        WebhookError::NotVerified(error) => {
            anyhow!("{error} Nothing was changed; --no-verify skips the verification.")
        }
        WebhookError::Store(error) => error.into(),
        other => other.into(),
    }
}

/// Warns if nothing is sent to the owner. The directory may name or enable the owner later.
fn warn_about_owner(owner: &Name, state: OwnerState) {
    let problem = match state {
        OwnerState::Enabled => return,
        OwnerState::Disabled => "is disabled",
        OwnerState::Deleted => "is not in the directory",
    };
    let owner = output::plain(owner.as_str());
    output::note(&format!(
        "fanfare: warning: the user {owner} {problem}; nothing is sent to the webhook until that changes"
    ));
}

/// Sends one POST like any other, but without an event.
async fn ping(webhook: &Webhook, settings: &Settings) -> anyhow::Result<()> {
    let post = show::Ping::new(webhook, clock::now());
    let client = wiring::outbound(settings)?;
    let answer = client.post(&webhook.uri, &post.headers, post.body).await;
    let answer = show::answer(&answer)?;
    output::print(&format!("{} answered {answer}\n", webhook.uri.origin()))
}
