//! `fanfare deliveries`: list, show and retry deliveries.

mod show;

use anyhow::{anyhow, bail};
use fanfare_app::deliveries::{self, Retried, RetryError};
use fanfare_app::{Actor, Context, NotReceiving, Publisher};
use fanfare_console::view::delivery as view;
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use fanfare_store::Store;
use fanfare_store::deliveries::DeliveryFilter;

use super::ids::{self, Ids};
use super::users;
use crate::output;
use crate::parts;
use crate::settings::Settings;
use crate::table;

/// What can be done with deliveries.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List deliveries, the newest first
    List(ListArgs),
    /// Show a delivery with its attempts
    Show(ShowArgs),
    /// Make a new attempt now, and further ones if it fails
    Retry(Ids<DeliveryId>),
}

/// The arguments of `fanfare deliveries list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only to this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
    /// Only of the event with this id of its publisher
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only to this user's webhooks
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// Only in this state: pending, retrying, delivered, dropped or dead
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// The most that are listed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare deliveries show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The delivery's id, which receivers see as Id
    #[arg(value_parser = ids::parse::<DeliveryId>)]
    id: DeliveryId,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

fn state(text: &str) -> Result<State, String> {
    let known = State::ALL.map(State::name).join(", ");
    State::parse(text).ok_or_else(|| format!("the states are {known}"))
}

/// Runs a command about deliveries.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let store = parts::store(settings, "deliveries")?;
    match command {
        Command::List(args) => list(args, &store).await,
        Command::Show(args) => show(&args, &store).await,
        Command::Retry(args) => retry(&args.ids, &store, settings).await,
    }
}

async fn list(args: ListArgs, store: &Store) -> anyhow::Result<()> {
    let mut filter = DeliveryFilter {
        webhook: args.webhook,
        event: args.event,
        owner: args.owner,
        state: args.state,
        limit: args.limit,
        ..DeliveryFilter::default()
    };
    let mut deliveries = Vec::new();
    // A page may end before it is full, with a place to go on from.
    while filter.limit > 0 {
        let page = store.deliveries_page(&filter).await?;
        filter.limit -= i64::try_from(page.deliveries.len()).unwrap_or(i64::MAX);
        deliveries.extend(page.deliveries);
        let Some(next) = page.next else { break };
        filter.after = Some(next);
    }
    if args.json {
        return output::print_json(&deliveries.iter().map(view::json).collect::<Vec<_>>());
    }
    output::print(&table::render(&show::HEADINGS, deliveries.iter().map(show::row)))
}

async fn show(args: &ShowArgs, store: &Store) -> anyhow::Result<()> {
    let found = store.delivery_show(args.id).await?;
    let (delivery, attempts) = found.ok_or_else(|| unknown(args.id))?;
    if args.json {
        return output::print_json(&view::json_with_attempts(&delivery, &attempts));
    }
    output::print(&table::facts(&show::facts(&delivery)))?;
    if attempts.is_empty() {
        return Ok(());
    }
    let rows = attempts.iter().map(show::attempt_row);
    output::print(&format!("\n{}", table::render(&show::ATTEMPT_HEADINGS, rows)))
}

async fn retry(ids: &[DeliveryId], store: &Store, settings: &Settings) -> anyhow::Result<()> {
    // Without the broker nothing is begun.
    let session = parts::session(settings, "deliveries").await?;
    let publisher = Publisher::connected(parts::broker(settings, "deliveries")?, session.clone());
    let context = Context::new(store.clone(), publisher);
    let (mut begun, mut refused) = (0, 0);
    for &id in ids {
        match deliveries::retry(&context, &Actor::Operator, id).await {
            Ok(Retried::Begun { enqueued }) => {
                begun += 1;
                if !enqueued {
                    output::note(&format!(
                        "fanfare: the broker did not get the job of {id}; a router publishes it \
                         within minutes"
                    ));
                }
            }
            Ok(Retried::AlreadyDue) => {
                output::note(&format!("fanfare: {id} is about to be attempted anyway"));
            }
            Err(RetryError::Unknown) => return Err(unknown(id)),
            Err(RetryError::Store(error)) => return Err(error.into()),
            Err(RetryError::NotReceiving(why)) => {
                refused += 1;
                output::note(&format!("fanfare: {id} is not retried: {why}{}", advice(why)));
            }
            Err(error @ RetryError::InProgress) => {
                refused += 1;
                output::note(&format!("fanfare: {id} is not retried: {error}"));
            }
        }
    }
    session.close().await;
    output::print(&format!("retrying {begun}\n"))?;
    if refused > 0 {
        bail!("{refused} of {} deliveries are not retried; see above", ids.len());
    }
    Ok(())
}

/// What to do when a webhook is sent nothing, to follow the reason.
pub(super) fn advice(why: NotReceiving) -> String {
    match why {
        NotReceiving::Paused(id) => {
            format!("; resume it first with `fanfare webhooks resume {id}`")
        }
        NotReceiving::Deleted(_) => String::new(),
    }
}

fn unknown(id: DeliveryId) -> anyhow::Error {
    anyhow!("there is no delivery {id}; `fanfare deliveries list` lists them")
}
