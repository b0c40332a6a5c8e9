//! `/api/v1/events`: what was published, where it went, and why it did not go elsewhere.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use fanfare_app::events::{self, EventError, EventPage};
use fanfare_app::json::{event as view, explanation};
use fanfare_core::access::Resource;
use fanfare_core::filter::Filters;
use fanfare_store::events::EventFilter;
use fanfare_store::explain::ExplainFilter;

use super::list::{LARGEST_PAGE, PAGE, cursor, page, place};
use super::problem::{Conflict, NO_WEBHOOK, Problem};
use super::request::{Administrator, Id, Query, User, id, name, number, text, time};
use crate::api::json::json;
use crate::app::Shared;

/// The webhooks that one explanation tells of, when nothing else is asked for, and at most.
const EXPLAINED: i64 = 10_000;

/// Says that an explanation leaves webhooks out, which is then to be asked with a narrower question.
const CUT: HeaderName = HeaderName::from_static("x-fanfare-cut");

/// `GET` of all.
pub(crate) async fn list(
    State(app): State<Shared>,
    Administrator(caller): Administrator,
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
    let EventPage { events, next } = events::list(&app.context, &caller.actor(), filter).await?;
    Ok(page(events.iter().map(view::json).collect(), next.as_ref().map(cursor)))
}

/// `GET` of one, with what its receivers get and its deliveries.
pub(crate) async fn show(
    State(app): State<Shared>,
    Administrator(caller): Administrator,
    Id(id): Id<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri, &["source"]);
    let source = query.take("source", text);
    query.end()?;
    let (event, detail) =
        events::show(&app.context, &caller.actor(), &id, source.as_deref()).await?;
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
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let filter = ExplainFilter { webhook, owner, limit };
    let actor = user.0.actor();
    let explained =
        events::explain(&app.context, &actor, &id_text, source.as_deref(), filter).await?.explained;
    let verdicts =
        explained.webhooks.iter().map(|one| explanation::seen_by(&actor, &explained, one));
    let answer = json(StatusCode::OK, &verdicts.collect::<Vec<_>>());
    let cut = explained.cut.then_some([(CUT, HeaderValue::from_static("true"))]);
    Ok(match cut {
        Some(cut) => (cut, answer).into_response(),
        None => answer,
    })
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        match error {
            EventError::NotAdministrator(error) => error.into(),
            EventError::Unknown => Self::NotFound("There is no such event."),
            EventError::UnknownWebhook => Self::NotFound(NO_WEBHOOK),
            EventError::Ambiguous(sources) => ambiguous(&sources),
            EventError::Store(error) => error.into(),
        }
    }
}

fn ambiguous(sources: &[String]) -> Problem {
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
