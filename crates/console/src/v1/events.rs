//! `/api/v1/events`: what was published, where it went, and why it did not go elsewhere.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::resource::Resource;
use fanfare_store::events::{EventFilter, EventPosition, EventSummary};
use fanfare_store::explain::{ExplainFilter, Explained, WebhookExplained};
use serde::Deserialize;
use utoipa::IntoParams;

use super::list::{Limit, Page, cursor, limit, page};
use super::problem::{Conflict, Problem};
use super::request::{Administrator, Id, Parameter, Query, User, Within, parameter};
use super::view::{event as view, explanation};
use crate::api::json::json;
use crate::app::{App, Shared};

/// The webhooks that one explanation tells of, when nothing else is asked for, and at most.
const EXPLAINED: u32 = 10_000;

/// Says that an explanation leaves webhooks out, which is then to be asked with a narrower question.
const CUT: HeaderName = HeaderName::from_static("x-fanfare-cut");

/// What of the events is listed.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listed {
    /// Only of this type or filter, such as `reports.upload`.
    #[serde(rename = "type", deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    event_type: Option<EventType>,
    /// Only of this resource, by its path.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    subject: Option<Resource>,
    /// Only what goes to this webhook.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only what was taken in at this time or later.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// At most so many, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the page before.
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
    params(Listed),
    responses(
        (status = 200, description = "A page.", body = inline(Page<view::Json<'static>>)),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    _: Administrator,
    Query(wanted): Query<Listed>,
) -> Result<Response, Problem> {
    let filter = EventFilter {
        event_type: wanted.event_type.map(|event_type| event_type.0),
        subject: wanted.subject,
        webhook: wanted.webhook,
        since: wanted.since.map(|since| ((app.clock)() - since).to_std().unwrap_or_default()),
        after: wanted.cursor,
        limit: limit(wanted.limit),
    };
    let limit = usize::try_from(filter.limit).unwrap_or(0);
    let more = EventFilter { limit: filter.limit + 1, ..filter };
    let mut events = app.store.events_list(&more).await?;
    let is_more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| is_more).map(|last| cursor(&last.place()));
    Ok(page(events.iter().map(view::json).collect(), next))
}

/// Which of the events with an id is meant.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Published {
    /// The event's source, when several have its id.
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
    params(Published),
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
    _: Administrator,
    Id(id): Id<String>,
    Query(Published { source }): Query<Published>,
) -> Result<Response, Problem> {
    let event = find(&app, &id, source.as_deref()).await?;
    let detail = app.store.event_show(event.key).await?.ok_or(NOTHING)?;
    let shown = view::json_with_detail(&event, &detail).map_err(|error| {
        tracing::error!(%error, "the notification of an event is not JSON");
        Problem::Internal
    })?;
    Ok(json(StatusCode::OK, &shown))
}

/// For which webhooks an event is explained.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// The event's source, when several have its id.
    #[serde(deserialize_with = "parameter")]
    source: Option<String>,
    /// Only of this webhook, by its id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only of this user's webhooks; others' for System Administrators.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// At most so many webhooks, 1 to 10000, the oldest first.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    limit: Option<Within<1, EXPLAINED>>,
}

/// Say why webhooks were told of an event, or why not.
///
/// Users are told of their own webhooks. With the header `x-fanfare-cut` the answer leaves some out.
#[utoipa::path(
    get,
    path = "/events/{id}/explain",
    tag = "Events",
    params(Asked),
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
    user: User,
    Id(id_text): Id<String>,
    Query(Asked { source, webhook, owner, limit }): Query<Asked>,
) -> Result<Response, Problem> {
    let owner = user.whose(owner)?;
    let limit = limit.map_or(EXPLAINED, |limit| limit.0);
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
