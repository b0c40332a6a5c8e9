//! `/api/v1/dead-letters`: what nobody could take further, looked at, brought back, or thrown away.
//!
//! A look goes through the broker's queues, which can be long. It ends before the request's time is
//! over; then the answer has a `next`, and a request with that as its `cursor` goes on behind it.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::Actor;
use fanfare_app::dead_letters::{self, Action, Listing, Outcome, Request, settle};
use fanfare_app::json::dead_letter as view;
use fanfare_broker::Session;
use fanfare_broker::dead_letters::{Choice, Kind, NoPosition, Position};
use fanfare_core::ids::WebhookId;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::{IntoParams, ToSchema};

use super::list::{Limit, limit};
use super::problem::{BROKER_AWAY, FieldError, Problem};
use super::request::{Administrator, Parameter, Query, members, parameter};
use crate::api::json::json;
use crate::app::{App, Shared};

/// How long a look may take.
const SEARCH_TIME: Duration = Duration::from_secs(15);

/// Dead letters that were found.
#[derive(Serialize, ToSchema)]
pub(crate) struct Found {
    #[schema(value_type = Vec<view::Json<'static>>)]
    items: Vec<Box<RawValue>>,
    /// Whether there is nothing more.
    complete: bool,
    /// Where to go on, while there may be more.
    #[schema(value_type = String, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What of the dead letters is listed.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// `events` or `deliveries`.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    queue: Option<Kind>,
    /// Only with this reason, such as `unknown-filter`.
    #[serde(deserialize_with = "parameter")]
    reason: Option<String>,
    /// Only of this webhook, by its id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// At most so many, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the page before.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    cursor: Option<Position>,
}

/// List dead letters, the oldest of each queue first.
///
/// For System Administrators. A long queue takes several requests: as long as an answer is not
/// complete, ask again with its `next` as `cursor`.
#[utoipa::path(
    get,
    path = "/dead-letters",
    tag = "Dead letters",
    params(ListQuery),
    responses(
        (status = 200, description = "What was found.", body = inline(Found)),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    Administrator(caller): Administrator,
    Query(wanted): Query<ListQuery>,
) -> Result<Response, Problem> {
    let ListQuery { queue: kind, reason, webhook, limit: most, cursor: from } = wanted;
    let choice = Choice { ids: Vec::new(), kind, reason, webhook };
    let until = Some(Instant::now() + SEARCH_TIME);
    let listing = Listing { choice, from, until, limit: usize::try_from(limit(most)).ok() };
    // Only what is shown is kept: the messages themselves may be many and large.
    let mut items = Vec::new();
    let (session, actor) = (session(&app).await?, caller.actor());
    let next = dead_letters::list(&session, &actor, listing, |kind, letter| {
        items.push(to_raw_value(&view::json(kind, &letter)));
    });
    let next = next.await?;
    let items = items.into_iter().collect::<Result<_, _>>().map_err(|_| Problem::Internal)?;
    let next = next.map(|next| next.to_string());
    Ok(json(StatusCode::OK, &Found { items, complete: next.is_none(), next }))
}

/// Which dead letters are meant: those with the ids, or that fit all the rest, or all.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DeadLetterChoice)]
pub(crate) struct Selection {
    /// Their ids.
    #[serde(default)]
    ids: Vec<String>,
    /// All that there are; needed when nothing else says which.
    #[serde(default)]
    all: bool,
    /// Only of this queue: `events` or `deliveries`.
    queue: Option<String>,
    /// Only with this reason.
    reason: Option<String>,
    /// Only of this webhook.
    webhook: Option<String>,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
    /// The `next` of an answer that was not complete, to go on behind it.
    cursor: Option<String>,
}

/// What became of dead letters.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLettersResult)]
pub(crate) struct Settled {
    /// How many were taken, or would be.
    count: u64,
    /// Whether they were only counted.
    dry_run: bool,
    /// Whether the whole queue was looked through; otherwise ask again, with `next` as `cursor`.
    complete: bool,
    /// Where to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Ids that were asked for and not found.
    missing: Vec<String>,
    /// Ids of letters that can't be replayed and were kept.
    kept: Vec<String>,
    /// Why each of them was kept, in the same order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept_because: Vec<KeptLetter>,
}

/// Why a dead letter can't be replayed.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeptLetter {
    /// Its id.
    id: String,
    /// A stable code: `webhook-paused`, `webhook-deleted`, `unknown-delivery`, `attempt-under-way`
    /// or `unsendable`.
    code: &'static str,
    /// The same for people.
    detail: String,
}

/// Bring dead letters back into the flow.
///
/// For System Administrators. Events are routed again, deliveries attempted again. As long as an
/// answer is not complete, ask again with its `next` as `cursor`.
#[utoipa::path(
    post,
    path = "/dead-letters/replay",
    tag = "Dead letters",
    request_body = Selection,
    responses(
        (status = 200, description = "How many.", body = Settled),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn replay_all(
    State(app): State<Shared>,
    Administrator(caller): Administrator,
    body: Body,
) -> Result<Response, Problem> {
    settle_selected(&app, &caller.actor(), members(body).await?, true).await
}

/// Throw dead letters away for good.
///
/// For System Administrators. As long as an answer is not complete, ask again with its `next` as
/// `cursor`.
#[utoipa::path(
    post,
    path = "/dead-letters/discard",
    tag = "Dead letters",
    request_body = Selection,
    responses(
        (status = 200, description = "How many.", body = Settled),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn discard(
    State(app): State<Shared>,
    Administrator(caller): Administrator,
    body: Body,
) -> Result<Response, Problem> {
    settle_selected(&app, &caller.actor(), members(body).await?, false).await
}

async fn settle_selected(
    app: &App,
    actor: &Actor,
    meant: Selection,
    is_replay: bool,
) -> Result<Response, Problem> {
    let dry_run = meant.dry_run;
    let (choice, from) = choice(meant)?;
    let session = session(app).await?;
    let action = if is_replay { Action::Replay(&app.store) } else { Action::Discard };
    let request = Request { choice, from, until: Some(Instant::now() + SEARCH_TIME), dry_run };
    let mut kept_because = Vec::new();
    let settled = settle(&session, actor, action, request, |letter, why| {
        let (code, detail) = (why.code(), why.to_string());
        kept_because.push(KeptLetter { id: letter.id, code, detail });
    });
    let Outcome { count, next, missing } = settled.await?;
    let next = next.map(|next| next.to_string());
    let complete = next.is_none();
    // What was not looked at is not known to be missing.
    let missing = if complete { missing } else { Vec::new() };
    let kept = kept_because.iter().map(|letter| letter.id.clone()).collect();
    let taken = Settled { count, dry_run, complete, next, missing, kept, kept_because };
    Ok(json(StatusCode::OK, &taken))
}

fn choice(meant: Selection) -> Result<(Choice, Option<Position>), Problem> {
    let mut wrong = Vec::new();
    let kind = read("queue", meant.queue.as_deref(), &mut wrong);
    let webhook = read("webhook", meant.webhook.as_deref(), &mut wrong);
    let from = read("cursor", meant.cursor.as_deref(), &mut wrong);
    let choice = Choice { ids: meant.ids, kind, reason: meant.reason, webhook };
    if !wrong.is_empty() {
        return Err(Problem::Invalid(wrong));
    }
    if !meant.all && !choice.narrows() {
        return Err(Problem::invalid("", "say which: ids, reason, webhook, or \"all\": true"));
    }
    if meant.all && !choice.ids.is_empty() {
        return Err(Problem::invalid("all", "leave it out when you give ids"));
    }
    Ok((choice, from))
}

/// A member's value; what is wrong with it is noted.
fn read<T: Parameter>(name: &str, text: Option<&str>, wrong: &mut Vec<FieldError>) -> Option<T> {
    let refuse = |detail| wrong.push(FieldError { name: name.to_owned(), detail });
    text.and_then(|text| T::read(text).map_err(refuse).ok())
}

impl Parameter for Kind {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "the queues are events and deliveries".to_owned())
    }
}

impl Parameter for Position {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: NoPosition| error.to_string())
    }
}

async fn session(app: &App) -> Result<Session, Problem> {
    app.context.publisher.session().await.ok_or(Problem::Away(BROKER_AWAY))
}
