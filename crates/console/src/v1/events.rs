//! `/api/v1/events`: what was published, where it went, and why it did not go elsewhere.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use fanfare_core::access::Resource;
use fanfare_core::filter::Filters;
use fanfare_store::events::{EventFilter, EventSummary};
use fanfare_store::explain::{ExplainFilter, Explained, WebhookExplained};

use super::list::{LARGEST_PAGE, PAGE, cursor, page, place};
use super::problem::{Conflict, Problem};
use super::request::{Administrator, Id, Query, User, id, name, number, text, time};
use super::view::{event as view, explanation};
use crate::api::json::json;
use crate::app::{App, Shared};

/// The webhooks that one explanation tells of, when nothing else is asked for, and at most.
const EXPLAINED: i64 = 10_000;

/// Says that an explanation leaves webhooks out, which is then to be asked with a narrower question.
const CUT: HeaderName = HeaderName::from_static("x-fanfare-cut");

/// `GET` of all.
pub(crate) async fn list(
    State(app): State<Shared>,
    _: Administrator,
    uri: Uri,
) -> Result<Response, Problem> {
    let known = ["type", "subject", "webhook", "since", "limit", "cursor"].as_slice();
    let mut query = Query::of(&uri, known);
    let since: Option<DateTime<Utc>> = query.take("since", time);
    let filter = EventFilter {
        event_type: query.take("type", event_type),
        subject: query.take("subject", subject),
        webhook: query.take("webhook", id),
        since: since.map(|since| ((app.clock)() - since).to_std().unwrap_or_default()),
        after: query.take("cursor", place),
        limit: query.take("limit", number(1, LARGEST_PAGE)).unwrap_or(PAGE),
    };
    query.end()?;
    let limit = usize::try_from(filter.limit).unwrap_or(0);
    let more = EventFilter { limit: filter.limit + 1, ..filter };
    let mut events = app.store.events_list(&more).await?;
    let is_more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| is_more).map(|last| cursor(&last.place()));
    Ok(page(events.iter().map(view::json).collect(), next))
}

/// `GET` of one, with what its receivers get and its deliveries.
pub(crate) async fn show(
    State(app): State<Shared>,
    _: Administrator,
    Id(id): Id<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri, &["source"]);
    let source = query.take("source", text);
    query.end()?;
    let event = find(&app, &id, source.as_deref()).await?;
    let detail = app.store.event_show(event.key).await?.ok_or(NOTHING)?;
    let shown = view::json_with_detail(&event, &detail).map_err(|error| {
        tracing::error!(%error, "the notification of an event is not JSON");
        Problem::Internal
    })?;
    Ok(json(StatusCode::OK, &shown))
}

/// `GET` of `…/explain`: each webhook's verdict; a user's own ones only, unless an administrator
/// asks.
pub(crate) async fn explain(
    State(app): State<Shared>,
    user: User,
    Id(id_text): Id<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri, &["source", "webhook", "owner", "limit"]);
    let source = query.take("source", text);
    let webhook = query.take("webhook", id);
    let owner = query.take("owner", name);
    let limit = query.take("limit", number(1, EXPLAINED)).unwrap_or(EXPLAINED);
    query.end()?;
    let owner = user.whose(owner)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let filter = ExplainFilter { webhook, owner, limit };
    let explained = if user.0.administrator {
        let event = find(&app, &id_text, source.as_deref()).await?;
        app.store.explain(event.key, &filter).await?.ok_or(NOTHING)?
    } else {
        explain_to_owner(&app, &id_text, source.as_deref(), &filter).await?
    };
    if webhook.is_some() && explained.webhooks.is_empty() {
        return Err(Problem::NotFound(super::problem::NO_WEBHOOK));
    }
    let verdicts = explained.webhooks.iter().map(|one| {
        if user.0.administrator {
            explanation::json(None, &explained, one)
        } else {
            explanation::json_for_owner(&explained, one)
        }
    });
    let answer = json(StatusCode::OK, &verdicts.collect::<Vec<_>>());
    let cut = explained.cut.then_some([(CUT, HeaderValue::from_static("true"))]);
    Ok(match cut {
        Some(cut) => (cut, answer).into_response(),
        None => answer,
    })
}

const NOTHING: Problem = Problem::NotFound("There is no such event.");

/// The most events of one id that are looked at for an owner.
const SAME_ID: usize = 20;

/// The explanation for an owner. Of several events with this id only those count that the owner may
/// know of: an id that somebody else's event has as well makes no difference.
async fn explain_to_owner(
    app: &App,
    id: &str,
    source: Option<&str>,
    filter: &ExplainFilter,
) -> Result<Explained, Problem> {
    let (mut known, mut other) = (Vec::new(), None);
    for event in events(app, id, source).await?.into_iter().take(SAME_ID) {
        let Some(explained) = app.store.explain(event.key, filter).await? else { continue };
        let may_know = |one: &WebhookExplained| one.grant.is_some() || one.delivery.is_some();
        if explained.webhooks.iter().any(may_know) {
            known.push((event.source, explained));
        } else {
            other.get_or_insert(explained);
        }
    }
    if known.len() > 1 {
        let sources: Vec<&str> = known.iter().map(|(source, _)| source.as_str()).collect();
        return Err(ambiguous(&sources));
    }
    known.pop().map(|(_, explained)| explained).or(other).ok_or(NOTHING)
}

/// The event with this id of its publisher, which must be the only one.
async fn find(app: &App, id: &str, source: Option<&str>) -> Result<EventSummary, Problem> {
    let mut found = events(app, id, source).await?;
    let event = found.pop().ok_or(NOTHING)?;
    if found.is_empty() {
        return Ok(event);
    }
    found.push(event);
    let sources: Vec<&str> = found.iter().map(|event| event.source.as_str()).collect();
    Err(ambiguous(&sources))
}

/// The events with this id of their publishers.
async fn events(app: &App, id: &str, source: Option<&str>) -> Result<Vec<EventSummary>, Problem> {
    if id.contains('\0') {
        return Ok(Vec::new());
    }
    Ok(app.store.events_find(&[id.to_owned()], source).await?)
}

fn ambiguous(sources: &[&str]) -> Problem {
    Problem::Conflict(Conflict {
        code: "ambiguous-event",
        title: "Several events have this id",
        detail: format!(
            "{} sources have such an event: {}. Choose one with ?source=.",
            sources.len(),
            sources.join(", ")
        ),
    })
}

/// A type or a filter, in the spelling in which filters are stored.
fn event_type(text: &str) -> Result<String, String> {
    let filters = Filters::parse(&[text]).map_err(|error| error.to_string())?;
    let form = filters.stored().first().map(|form| (*form).to_owned());
    form.ok_or_else(|| "leave it out to list all".to_owned())
}

fn subject(text: &str) -> Result<Resource, String> {
    Resource::parse(text).map_err(|reject| reject.detail)
}
