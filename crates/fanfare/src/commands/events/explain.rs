//! `fanfare events explain`: the verdict for each webhook on an event, with its reasons.

use anyhow::anyhow;
use fanfare_app::events::{self, EventError, Explanation};
use fanfare_app::json::explanation::json;
use fanfare_app::{Context, clock};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_store::explain::{ExplainFilter, WebhookExplained};

use super::super::{ids, users};
use crate::operator::operator;
use crate::output;
use crate::table;

/// The arguments of `fanfare events explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The events' ids, which their publisher gave them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// The events' source, if several sources have events with these ids
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Only for this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
    /// Only for this user's webhooks
    #[arg(long, value_name = "NAME", value_parser = users::name)]
    owner: Option<Name>,
    /// The largest number of webhooks to explain, the oldest first
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = limit)]
    limit: usize,
    /// Print a JSON array; with several ids, each object contains the event's id
    #[arg(long)]
    json: bool,
}

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| "give a whole number from 1 to 1000000".to_owned())
}

pub(super) async fn run(args: &ExplainArgs, context: &Context) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for id in &args.ids {
        all.push(explain(args, context, id).await?);
    }
    if args.json {
        let is_one = all.len() == 1;
        let objects = all.iter().flat_map(|Explanation { event, explained }| {
            let event = (!is_one).then_some(event.id.as_str());
            explained.webhooks.iter().map(move |one| json(event, explained, one))
        });
        return output::print_json(&objects.collect::<Vec<_>>());
    }
    let texts: Vec<String> = all.iter().map(text).collect();
    output::print(&texts.join("\n"))
}

async fn explain(args: &ExplainArgs, context: &Context, id: &str) -> anyhow::Result<Explanation> {
    let filter =
        ExplainFilter { webhook: args.webhook, owner: args.owner.clone(), limit: args.limit };
    let source = args.source.as_deref();
    let explanation = events::explain(context, &operator(), id, source, filter).await;
    let explanation = explanation.map_err(|error| match (error, args.webhook) {
        (EventError::UnknownWebhook, Some(webhook)) => {
            let owner = args.owner.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default();
            anyhow!("there is no webhook {webhook}{owner}; `fanfare webhooks list` lists them")
        }
        (error, _) => super::failed_for(id, source, error),
    })?;
    if explanation.explained.cut {
        output::note(&format!(
            "fanfare: only the first {} webhooks are explained for the event {}; \
             raise --limit, or choose with --webhook or --owner",
            args.limit,
            output::plain(id),
        ));
    }
    Ok(explanation)
}

const HEADINGS: [&str; 5] = ["WEBHOOK", "OWNER", "VERDICT", "DELIVERY", "WHY"];

/// A line about the event, and a table of webhooks.
fn text(Explanation { event, explained }: &Explanation) -> String {
    let line = format!(
        "{} {} on {}, decided by revision {}",
        event.id, event.event_type, event.subject, event.decided_revision
    );
    let rows = explained.webhooks.iter().map(row);
    format!("{}\n{}", output::plain(&line), table::render(&HEADINGS, rows))
}

fn row(one: &WebhookExplained) -> [String; HEADINGS.len()] {
    let delivery = one.delivery.as_ref().map(|sent| match (&sent.reason, sent.held_until) {
        (None, Some(until)) => format!(
            "{} (the receiver asked to wait until {})",
            sent.state.name(),
            clock::rfc3339(until)
        ),
        (reason, _) => table::state(sent.state, reason.as_deref()),
    });
    [
        one.webhook.to_string(),
        one.owner.clone(),
        one.explanation.verdict().to_owned(),
        table::or_dash(delivery),
        one.explanation.detail.clone(),
    ]
}
