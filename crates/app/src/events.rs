//! Use cases of events: list, show, and explain for each webhook.

use std::time::Duration;

use fanfare_core::ids::WebhookId;
use fanfare_core::resource::Resource;
use fanfare_store::StoreError;
use fanfare_store::events::{EventDetail, EventFilter, EventPage, EventSummary};
use fanfare_store::explain::{ExplainFilter, Explained, WebhookExplained};

use crate::{Actor, Context, NotAdministrator};

/// The maximum number of events with the same id that are explained for an owner.
const SAME_ID: usize = 20;

/// The most events of a resource that are explained, and their greatest age.
const OF_RESOURCE: i64 = 10;
const RECENT: Duration = Duration::from_hours(7 * 24);

/// Why an event can't be shown or explained.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The actor asks about another user's webhooks, or about events themselves.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// There is no such event.
    #[error("there is no such event")]
    Unknown,
    /// Several sources published an event with this id.
    #[error("several sources have such an event: {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// The webhook that the query names does not exist for the actor.
    #[error("there is no such webhook")]
    UnknownWebhook,
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An event, and each webhook's verdict on it.
#[derive(Debug)]
pub struct Explanation {
    pub event: EventSummary,
    pub explained: Explained,
}

/// Lists a page of events, the newest first. A page may end before it is full; then it has the
/// position of the next page. Only an operator or a System Administrator may.
///
/// # Errors
///
/// [`EventError`]
pub async fn list(
    context: &Context,
    actor: &Actor,
    filter: EventFilter,
) -> Result<EventPage, EventError> {
    actor.administrator()?;
    Ok(context.store.events_page(&filter).await?)
}

/// Finds the events with this id of all sources. Only an operator or a System Administrator may.
///
/// # Errors
///
/// [`EventError`]
pub async fn named(
    context: &Context,
    actor: &Actor,
    id: &str,
) -> Result<Vec<EventSummary>, EventError> {
    actor.administrator()?;
    Ok(events(context, id, None).await?)
}

/// Shows an event with its notification and its deliveries. `source` is needed when several sources
/// have an event with this id.
///
/// # Errors
///
/// [`EventError`]
pub async fn show(
    context: &Context,
    actor: &Actor,
    id: &str,
    source: Option<&str>,
) -> Result<(EventSummary, EventDetail), EventError> {
    actor.administrator()?;
    let event = find(context, id, source).await?;
    let detail = context.store.event_show(event.key).await?.ok_or(EventError::Unknown)?;
    Ok((event, detail))
}

/// Explains for each webhook why it got an event, or why not. A user gets the verdicts of the
/// user's own webhooks.
///
/// # Errors
///
/// [`EventError`]
pub async fn explain(
    context: &Context,
    actor: &Actor,
    id: &str,
    source: Option<&str>,
    filter: ExplainFilter,
) -> Result<Explanation, EventError> {
    let owner = actor.owner_filter(filter.owner)?;
    let filter = ExplainFilter { owner, ..filter };
    let explanation = if actor.is_administrator() {
        let event = find(context, id, source).await?;
        let explained = context.store.explain(event.key, &filter).await?;
        Explanation { event, explained: explained.ok_or(EventError::Unknown)? }
    } else {
        explain_to_owner(context, id, source, &filter).await?
    };
    if filter.webhook.is_some() && explanation.explained.webhooks.is_empty() {
        return Err(EventError::UnknownWebhook);
    }
    Ok(explanation)
}

/// Explains for one webhook the newest events about a resource, the newest first. A user gets those that
/// the user may know of, so that nobody learns of the others.
///
/// # Errors
///
/// [`EventError`]
pub async fn explain_resource(
    context: &Context,
    actor: &Actor,
    subject: Resource,
    webhook: WebhookId,
) -> Result<Vec<Explanation>, EventError> {
    let owner = actor.owner_filter(None)?;
    let filter = ExplainFilter { webhook: Some(webhook), owner, limit: 1 };
    let newest = EventFilter {
        subject: Some(subject),
        since: Some(RECENT),
        limit: OF_RESOURCE,
        ..EventFilter::default()
    };
    let mut explanations = Vec::new();
    for event in context.store.events_page(&newest).await?.events {
        let Some(explained) = context.store.explain(event.key, &filter).await? else { continue };
        if explained.webhooks.is_empty() {
            return Err(EventError::UnknownWebhook);
        }
        if actor.is_administrator() || explained.webhooks.iter().any(may_know) {
            explanations.push(Explanation { event, explained });
        }
    }
    Ok(explanations)
}

/// Whether a webhook's owner may know of the event.
#[must_use]
pub fn may_know(one: &WebhookExplained) -> bool {
    one.grant.is_some() || one.delivery.is_some()
}

/// Explains an event to an owner. Of several events with this id, only those that the owner may
/// know of count, so that an event of another owner with the same id changes nothing.
async fn explain_to_owner(
    context: &Context,
    id: &str,
    source: Option<&str>,
    filter: &ExplainFilter,
) -> Result<Explanation, EventError> {
    let (mut known, mut other) = (Vec::new(), None);
    for event in events(context, id, source).await?.into_iter().take(SAME_ID) {
        let Some(explained) = context.store.explain(event.key, filter).await? else { continue };
        let is_known = explained.webhooks.iter().any(may_know);
        let explanation = Explanation { event, explained };
        if is_known {
            known.push(explanation);
        } else {
            other.get_or_insert(explanation);
        }
    }
    if known.len() > 1 {
        return Err(ambiguous(known.iter().map(|known| &known.event)));
    }
    known.pop().or(other).ok_or(EventError::Unknown)
}

/// Finds the event with this id. It must be the only one.
async fn find(
    context: &Context,
    id: &str,
    source: Option<&str>,
) -> Result<EventSummary, EventError> {
    let mut found = events(context, id, source).await?;
    if found.len() > 1 {
        return Err(ambiguous(&found));
    }
    found.pop().ok_or(EventError::Unknown)
}

/// Finds all events with this id.
async fn events(
    context: &Context,
    id: &str,
    source: Option<&str>,
) -> Result<Vec<EventSummary>, StoreError> {
    // PostgreSQL can't store this character, so no event has it.
    if id.contains('\0') {
        return Ok(Vec::new());
    }
    context.store.events_find(&[id.to_owned()], source).await
}

fn ambiguous<'a>(events: impl IntoIterator<Item = &'a EventSummary>) -> EventError {
    EventError::Ambiguous(events.into_iter().map(|event| event.source.clone()).collect())
}
