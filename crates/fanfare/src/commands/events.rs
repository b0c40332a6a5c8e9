//! `fanfare events`: what was published, where it went, and why it did not go elsewhere.

mod explain;
mod show;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use fanfare_console::view::event as view;
use fanfare_core::duration;
use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::resource::Resource;
use fanfare_store::Store;
use fanfare_store::events::{EventFilter, EventSummary};

use super::{access, ids};
use crate::output::{self, Misuse};
use crate::parts;
use crate::settings::Settings;
use crate::table;

/// What can be asked about events.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List events, the newest first
    List(ListArgs),
    /// Show an event with what its receivers get, and its deliveries
    Show(ShowArgs),
    /// Say for each webhook why it was told of an event, or why not
    Explain(explain::ExplainArgs),
}

/// The arguments of `fanfare events list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only of this type, such as reports.upload, or of all types of reports
    #[arg(long = "type", value_name = "TYPE", value_parser = event_type)]
    event_type: Option<String>,
    /// Only of this resource, by its path
    #[arg(long, value_name = "PATH", value_parser = access::resource)]
    subject: Option<Resource>,
    /// Only what goes to this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
    /// Only what was taken in no longer ago, such as 30m or 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// The most that are listed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare events show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The event's id, as its publisher gave it
    id: String,
    /// The event's source, when several have such an id
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Parses a type or a filter, in the spelling in which filters are stored.
fn event_type(text: &str) -> Result<String, String> {
    let filters = Filters::parse(&[text]).map_err(|error| error.to_string())?;
    let form = filters.stored().first().map(|form| (*form).to_owned());
    form.ok_or_else(|| "leave --type out to list all".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write it as 500ms, 30s, 5m, 12h or 3d".to_owned();
    duration::parse(text).map(|duration| duration.min(duration::LONGEST)).ok_or_else(wrong)
}

/// Runs a command about events.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let store = parts::store(settings, "events")?;
    match command {
        Command::List(args) => list(args, &store).await,
        Command::Show(args) => show(&args, &store).await,
        Command::Explain(args) => explain::run(&args, &store).await,
    }
}

async fn list(args: ListArgs, store: &Store) -> anyhow::Result<()> {
    let filter = EventFilter {
        event_type: args.event_type,
        subject: args.subject,
        webhook: args.webhook,
        since: args.since,
        after: None,
        limit: args.limit,
    };
    let events = store.events_list(&filter).await?;
    if args.json {
        return output::print_json(&events.iter().map(view::json).collect::<Vec<_>>());
    }
    output::print(&table::render(&show::HEADINGS, events.iter().map(show::row)))
}

async fn show(args: &ShowArgs, store: &Store) -> anyhow::Result<()> {
    let ids = std::slice::from_ref(&args.id);
    let source = args.source.as_deref();
    let found = find(store, ids, source).await?.pop();
    let event = found.ok_or_else(|| unknown(&args.id, source))?;
    let detail = store.event_show(event.key).await?.ok_or_else(|| unknown(&args.id, source))?;
    if args.json {
        let json = view::json_with_detail(&event, &detail)
            .context("the event's notification in the database is not JSON")?;
        return output::print_json(&json);
    }
    output::print(&table::facts(&show::facts(&event, &detail)))?;
    if detail.deliveries.is_empty() {
        return Ok(());
    }
    let rows = detail.deliveries.iter().map(show::delivery_row);
    output::print(&format!("\n{}", table::render(&show::DELIVERY_HEADINGS, rows)))
}

/// The events with these ids of their publishers, in this order; each must be the only one.
async fn find(
    store: &Store,
    ids: &[String],
    source: Option<&str>,
) -> anyhow::Result<Vec<EventSummary>> {
    let found = store.events_find(ids, source).await?;
    let one = |id: &String| {
        let same: Vec<&EventSummary> = found.iter().filter(|event| event.id == *id).collect();
        match same.as_slice() {
            [] => Err(unknown(id, source)),
            [event] => Ok((*event).clone()),
            several => Err(ambiguous(id, several)),
        }
    };
    ids.iter().map(one).collect()
}

fn unknown(id: &str, source: Option<&str>) -> anyhow::Error {
    let source = source.map(|source| format!(" of the source {source}")).unwrap_or_default();
    anyhow!(
        "there is no event {id}{source}; `fanfare events list` lists what was taken, \
         `fanfare dead-letters list --queue events` what was not"
    )
}

fn ambiguous(id: &str, events: &[&EventSummary]) -> anyhow::Error {
    let sources: Vec<&str> = events.iter().map(|event| event.source.as_str()).collect();
    let n_sources = sources.len();
    let sources = sources.join(", ");
    Misuse(format!("{n_sources} sources have an event {id}: {sources}; choose one with --source"))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_a_filter_with_or_without_an_action() {
        assert_eq!(event_type("Reports").unwrap(), "reports");
        assert_eq!(event_type("REPORTS.Upload").unwrap(), "reports.upload");
        assert!(event_type("galaxies.merge").unwrap_err().contains("galaxies.merge"));
        assert!(event_type("*").unwrap_err().contains("leave --type out"));
    }

    #[test]
    fn a_duration_beyond_a_hundred_years_counts_as_a_hundred() {
        assert_eq!(duration("2d"), Ok(Duration::from_hours(48)));
        assert_eq!(duration("99999d"), Ok(duration::LONGEST));
        assert!(duration("5").is_err());
    }
}
