//! `fanfare events`: lists and shows events, and explains which webhooks got them and why.

mod explain;
mod show;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use fanfare_app::Context;
use fanfare_app::events::{self, EventError};
use fanfare_app::json::event as view;
use fanfare_core::duration;
use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::resource::Resource;
use fanfare_store::events::EventFilter;

use super::{access, ids};
use crate::operator::operator;
use crate::output::{self, Misuse};
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The commands about events.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List events, the newest first
    List(ListArgs),
    /// Show an event with its notification and its deliveries
    Show(ShowArgs),
    /// Explain for each webhook why it got an event or did not
    Explain(explain::ExplainArgs),
}

/// The arguments of `fanfare events list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only events of this type, such as reports.upload, or of this filter, such as reports
    #[arg(long = "type", value_name = "TYPE", value_parser = event_type)]
    event_type: Option<String>,
    /// Only events about the resource with this path
    #[arg(long, value_name = "PATH", value_parser = access::resource)]
    subject: Option<Resource>,
    /// Only events that go to this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
    /// Only events that were received within this time, such as 30m or 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// The largest number of events to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare events show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The event's id, which its publisher gave it
    id: String,
    /// The event's source, if several sources have an event with this id
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Parses a type or a filter, and returns the spelling in which filters are stored.
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
    let context = wiring::context(settings, "events")?;
    match command {
        Command::List(args) => list(args, &context).await,
        Command::Show(args) => show(&args, &context).await,
        Command::Explain(args) => explain::run(&args, &context).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> anyhow::Result<()> {
    let mut filter = EventFilter {
        event_type: args.event_type,
        subject: args.subject,
        webhook: args.webhook,
        settled: None,
        since: args.since,
        after: None,
        limit: args.limit,
    };
    let (operator, mut events) = (operator(), Vec::new());
    // A page may have fewer events than its limit, with a cursor for the next page.
    while filter.limit > 0 {
        let page = events::list(context, &operator, filter.clone()).await.map_err(failed)?;
        filter.limit -= i64::try_from(page.events.len()).unwrap_or(i64::MAX);
        events.extend(page.events);
        let Some(next) = page.next else { break };
        filter.after = Some(next);
    }
    if args.json {
        return output::print_json(&events.iter().map(view::json).collect::<Vec<_>>());
    }
    output::print(&table::render(&show::HEADINGS, events.iter().map(show::row)))
}

async fn show(args: &ShowArgs, context: &Context) -> anyhow::Result<()> {
    let source = args.source.as_deref();
    let shown = events::show(context, &operator(), &args.id, source).await;
    let (event, detail) = shown.map_err(|error| failed_for(&args.id, source, error))?;
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

fn failed_for(id: &str, source: Option<&str>, error: EventError) -> anyhow::Error {
    match error {
        EventError::Unknown => unknown(id, source),
        EventError::Ambiguous(sources) => Misuse(format!(
            "{} sources have an event {id}: {}; choose one with --source",
            sources.len(),
            sources.join(", ")
        ))
        .into(),
        other => failed(other),
    }
}

fn failed(error: EventError) -> anyhow::Error {
    match error {
        EventError::Store(error) => error.into(),
        other => other.into(),
    }
}

fn unknown(id: &str, source: Option<&str>) -> anyhow::Error {
    let source = source.map(|source| format!(" of the source {source}")).unwrap_or_default();
    anyhow!(
        "there is no event {id}{source}; `fanfare events list` lists the events that were accepted, \
         `fanfare dead-letters list --queue events` those that were refused"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_is_a_filter_with_or_without_an_action() {
        assert_eq!(event_type("Reports").unwrap(), "reports");
        assert_eq!(event_type("REPORTS.Upload").unwrap(), "reports.upload");
        assert!(event_type("galaxies.merge").unwrap_err().contains("galaxies.merge"));
        assert!(event_type("*").unwrap_err().contains("leave --type out"));
    }

    #[test]
    fn durations_over_100_years_are_capped() {
        assert_eq!(duration("2d"), Ok(Duration::from_hours(48)));
        assert_eq!(duration("99999d"), Ok(duration::LONGEST));
        assert!(duration("5").is_err());
    }
}
