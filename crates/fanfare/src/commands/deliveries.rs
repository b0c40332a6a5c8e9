//! `fanfare deliveries`: list, show and retry deliveries.

mod show;

use anyhow::{anyhow, bail};
use fanfare_app::deliveries::{self, DeliveryError, Retried, RetryError};
use fanfare_app::json::delivery as view;
use fanfare_app::{Context, NotReceiving, Publisher};
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use fanfare_store::deliveries::DeliveryFilter;

use super::ids::{self, Ids};
use super::users;
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The commands about deliveries.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List deliveries, the newest first
    List(ListArgs),
    /// Show a delivery with its attempts
    Show(ShowArgs),
    /// Attempt deliveries again now, and retry attempts that fail
    Retry(Ids<DeliveryId>),
}

/// The arguments of `fanfare deliveries list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only deliveries to this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
    /// Only deliveries of the event with this id, which its publisher gave it
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only deliveries to this user's webhooks
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// Only deliveries in this state: pending, retrying, delivered, dropped or dead
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// The largest number of deliveries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare deliveries show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The delivery's id, which receivers get as Id
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
    match command {
        Command::List(args) => list(args, &wiring::context(settings, "deliveries")?).await,
        Command::Show(args) => show(&args, &wiring::context(settings, "deliveries")?).await,
        Command::Retry(args) => retry(&args.ids, settings).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> anyhow::Result<()> {
    let mut filter = DeliveryFilter {
        webhook: args.webhook,
        event: args.event,
        owner: args.owner,
        state: args.state,
        limit: args.limit,
        ..DeliveryFilter::default()
    };
    let (operator, mut deliveries) = (operator(), Vec::new());
    // A page may have fewer deliveries than its limit, with a cursor for the next page.
    while filter.limit > 0 {
        let page = deliveries::list(context, &operator, filter.clone()).await;
        let page = page.map_err(failed)?;
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

async fn show(args: &ShowArgs, context: &Context) -> anyhow::Result<()> {
    let shown = deliveries::show(context, &operator(), args.id).await;
    let (delivery, attempts) = shown.map_err(|error| failed_for(args.id, error))?;
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

async fn retry(ids: &[DeliveryId], settings: &Settings) -> anyhow::Result<()> {
    // Connect first, so that nothing is changed if the broker can't be reached.
    let session = wiring::session(settings, "deliveries").await?;
    let publisher = Publisher::connected(wiring::broker(settings, "deliveries")?, session.clone());
    let context = wiring::context_with(settings, "deliveries", publisher)?;
    let (mut begun, mut refused) = (0, 0);
    for &id in ids {
        match deliveries::retry(&context, &operator(), id).await {
            Ok(Retried::Begun { enqueued }) => {
                begun += 1;
                if !enqueued {
                    output::note(&format!(
                        "fanfare: the job of {id} could not be published now; a router publishes it \
                         within minutes"
                    ));
                }
            }
            Ok(Retried::AlreadyDue) => {
                output::note(&format!(
                    "fanfare: {id} is not retried, because an attempt is due now"
                ));
            }
            Err(RetryError::Delivery(error)) => return Err(failed_for(id, error)),
            Err(RetryError::NotReceiving(why)) => {
                refused += 1;
                output::note(&format!("fanfare: {id} is not retried: {why}{}", advice(why)));
            }
            Err(error @ (RetryError::InProgress | RetryError::PayloadRemoved)) => {
                refused += 1;
                output::note(&format!("fanfare: {id} is not retried: {error}"));
            }
        }
    }
    session.close().await;
    output::print(&format!("retrying {begun}\n"))?;
    if refused > 0 {
        bail!("{refused} of {} deliveries are not retried; the lines above say why", ids.len());
    }
    Ok(())
}

/// The advice if nothing is sent to a webhook, to follow the reason.
pub(super) fn advice(why: NotReceiving) -> String {
    match why {
        NotReceiving::Paused(id) => {
            format!("; resume it first with `fanfare webhooks resume {id}`")
        }
        NotReceiving::Deleted(_) => String::new(),
    }
}

fn failed_for(id: DeliveryId, error: DeliveryError) -> anyhow::Error {
    match error {
        DeliveryError::Unknown => {
            anyhow!("there is no delivery {id}; `fanfare deliveries list` lists them")
        }
        other => failed(other),
    }
}

fn failed(error: DeliveryError) -> anyhow::Error {
    match error {
        DeliveryError::Store(error) => error.into(),
        other => other.into(),
    }
}
