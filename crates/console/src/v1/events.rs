//! `/api/v1/events`: list, show and explain events.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use fanfare_app::events::{self, EventError};
use fanfare_app::json::{event as view, explanation};
use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::resource::Resource;
use fanfare_store::events::{EventFilter, EventPage, EventPosition};
use fanfare_store::explain::ExplainFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::list::{Limit, Page, cursor, limit, page};
use super::problem::{Conflict, NO_WEBHOOK, Problem};
use super::request::{Administrator, Id, Parameter, Query, User, Within, parameter};
use crate::api::json::json;
use crate::app::Shared;

/// The default and the maximum number of webhooks in one explanation.
const EXPLAINED: u32 = 10_000;

/// The header of an explanation that leaves webhooks out. A narrower request gets them.
const CUT: HeaderName = HeaderName::from_static("x-fanfare-cut");

/// Which events to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only events of this type or filter, such as `reports.upload`.
    #[serde(rename = "type", deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    event_type: Option<EventType>,
    /// Only events about the resource with this path.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    subject: Option<Resource>,
    /// Only events that go to the webhook with this id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only events that were received at this time or later.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// The maximum number of results, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the previous page.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    cursor: Option<EventPosition>,
}

/// List events, the newest first.
///
/// For System Administrators.
#[utoipa::path(
    get,
    path = "/events",
    tag = "Events",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of events.", body = inline(Page<view::Json<'static>>)),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
    Query(wanted): Query<ListQuery>,
) -> Result<Response, Problem> {
    let filter = EventFilter {
        event_type: wanted.event_type.map(|event_type| event_type.0),
        subject: wanted.subject,
        webhook: wanted.webhook,
        settled: None,
        since: wanted.since.map(|since| ((app.clock)() - since).to_std().unwrap_or_default()),
        after: wanted.cursor,
        limit: limit(wanted.limit),
    };
    let EventPage { events, next } = events::list(&app.context, &actor, filter).await?;
    Ok(page(events.iter().map(view::json).collect(), next.as_ref().map(cursor)))
}

/// Which event to show.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// The event's source. Required when several sources have an event with this id.
    #[serde(deserialize_with = "parameter")]
    source: Option<String>,
}

/// Show an event with its deliveries.
///
/// For System Administrators.
#[utoipa::path(
    get,
    path = "/events/{id}",
    tag = "Events",
    params(EventQuery),
    responses(
        (status = 200, description = "The event.", body = view::Json<'static>),
        (status = 400),
        (status = 403),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
    Id(id): Id<String>,
    Query(EventQuery { source }): Query<EventQuery>,
) -> Result<Response, Problem> {
    let (event, detail) = events::show(&app.context, &actor, &id, source.as_deref()).await?;
    let shown = view::json_with_detail(&event, &detail).map_err(|error| {
        tracing::error!(%error, "the notification of an event is not JSON");
        Problem::Internal
    })?;
    Ok(json(StatusCode::OK, &shown))
}

/// The webhooks for which to explain an event.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// The event's source. Required when several sources have an event with this id.
    #[serde(deserialize_with = "parameter")]
    source: Option<String>,
    /// Only the webhook with this id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only this user's webhooks. Only a System Administrator may name another user.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// The maximum number of webhooks, 1 to 10000, the oldest first.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    limit: Option<Within<1, EXPLAINED>>,
}

/// Explain for each webhook why it got an event, or why not.
///
/// Users get the verdicts of their own webhooks. The header `x-fanfare-cut` says that the answer
/// leaves some webhooks out.
#[utoipa::path(
    get,
    path = "/events/{id}/explain",
    tag = "Events",
    params(ExplainQuery),
    responses(
        (
            status = 200,
            description = "A verdict for each webhook.",
            body = Vec<explanation::Json<'static>>
        ),
        (status = 400),
        (status = 403),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn explain(
    State(app): State<Shared>,
    User(actor): User,
    Id(id_text): Id<String>,
    Query(ExplainQuery { source, webhook, owner, limit }): Query<ExplainQuery>,
) -> Result<Response, Problem> {
    let limit = limit.map_or(EXPLAINED, |limit| limit.0);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let filter = ExplainFilter { webhook, owner, limit };
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

/// A type or a filter, in the form in which filters are stored.
struct EventType(String);

impl Parameter for EventType {
    fn read(text: &str) -> Result<Self, String> {
        let filters = Filters::parse(&[text]).map_err(|error| error.to_string())?;
        let form = filters.stored().first().map(|form| Self((*form).to_owned()));
        form.ok_or_else(|| "leave it out to list all".to_owned())
    }
}

impl Parameter for Resource {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|reject| reject.detail)
    }
}
