//! `/api/v1/dead-letters`: list, replay and discard dead letters.
//!
//! A long list takes several requests, and so does the replay of many letters, which stops before the
//! request's time limit: then the answer has a `next`, and a request with that value as its `cursor`
//! continues from there.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use fanfare_app::Actor;
use fanfare_app::dead_letters::{self, Action, Listing, Outcome, Request, Stores, settle};
use fanfare_app::json::{dead_letter as view, dead_letter_group as group_view};
use fanfare_broker::Session;
use fanfare_core::dead_letter::{Choice, GroupBy, Kind, NoPosition, Position};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::{IntoParams, ToSchema};

use super::list::{Limit, limit};
use super::problem::{BROKER_UNAVAILABLE, FieldError, Problem};
use super::request::{Administrator, Parameter, Query, Within, members, parameter};
use crate::api::json::json;
use crate::app::{App, Shared};

/// The longest time for which one request works.
const SEARCH_TIME: Duration = Duration::from_secs(15);

/// A part of the dead letters.
#[derive(Serialize, ToSchema)]
pub(crate) struct Found {
    #[schema(value_type = Vec<view::Json<'static>>)]
    items: Vec<Box<RawValue>>,
    /// Whether these are all that remain.
    complete: bool,
    /// The `cursor` of the next request; absent when `complete`.
    #[schema(value_type = String, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which dead letters to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only this queue: `events` or `deliveries`.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    queue: Option<Kind>,
    /// Only letters with this reason, such as `unknown-filter`.
    #[serde(deserialize_with = "parameter")]
    reason: Option<String>,
    /// Only letters of the webhook with this id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only letters of the webhooks of this user.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// Only letters of webhooks at this host.
    #[serde(deserialize_with = "parameter")]
    host: Option<String>,
    /// Only events of this type, such as `reports.upload`.
    #[serde(rename = "type", deserialize_with = "parameter")]
    event_type: Option<String>,
    /// Only letters with this HTTP status of the last answer.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 100, maximum = 999)]
    status: Option<Within<100, 999>>,
    /// Only letters with this `cause`.
    #[serde(deserialize_with = "parameter")]
    cause: Option<String>,
    /// Only letters that died at this time or later.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// Only letters that died before this time.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<DateTime<Utc>>,
    /// Only letters with this text in an id, a name, the reason or the error.
    #[serde(deserialize_with = "parameter")]
    text: Option<String>,
    /// For groups: the property by which letters are grouped: `reason`, `webhook`, `owner`, `host`,
    /// `type`, `status` or `cause`; `reason` when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    by: Option<GroupBy>,
    /// The maximum number of results, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the previous answer.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    cursor: Option<Position>,
}

impl ListQuery {
    fn choice(&self) -> Choice {
        Choice {
            ids: Vec::new(),
            kind: self.queue,
            reason: self.reason.clone(),
            webhook: self.webhook,
            owner: self.owner.clone(),
            host: self.host.clone(),
            event_type: self.event_type.clone(),
            status: self.status.and_then(|status| i32::try_from(status.0).ok()),
            cause: self.cause.clone(),
            since: self.since,
            until: self.until,
            text: self.text.clone(),
        }
    }
}

/// The groups of a choice of dead letters.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterGroups)]
pub(crate) struct FoundGroups {
    /// The largest groups, at most 100.
    #[schema(value_type = Vec<group_view::Json<'static>>)]
    items: Vec<Box<RawValue>>,
    /// The number of all groups.
    total: usize,
}

/// Group dead letters by a property.
///
/// For System Administrators. `limit` and `cursor` have no meaning here.
#[utoipa::path(
    get,
    path = "/dead-letters/groups",
    tag = "Dead letters",
    params(ListQuery),
    responses(
        (status = 200, description = "The groups, the largest first.", body = FoundGroups),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn groups(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
    Query(wanted): Query<ListQuery>,
) -> Result<Response, Problem> {
    let by = wanted.by.unwrap_or(GroupBy::Reason);
    let found = dead_letters::groups(&app.store, &actor, &wanted.choice(), by).await?;
    let items = group_view::json(by, &found).iter().map(to_raw_value).collect::<Result<_, _>>();
    let items = items.map_err(|_| Problem::Internal)?;
    Ok(json(StatusCode::OK, &FoundGroups { items, total: found.total }))
}

/// List dead letters, the oldest of each queue first.
///
/// For System Administrators. A long queue takes several requests: while an answer is not complete,
/// send another request with its `next` as `cursor`.
#[utoipa::path(
    get,
    path = "/dead-letters",
    tag = "Dead letters",
    params(ListQuery),
    responses(
        (status = 200, description = "A part of the dead letters.", body = inline(Found)),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
    Query(wanted): Query<ListQuery>,
) -> Result<Response, Problem> {
    let (choice, most, from) = (wanted.choice(), wanted.limit, wanted.cursor);
    let until = Some(Instant::now() + SEARCH_TIME);
    let listing = Listing { choice, from, until, limit: usize::try_from(limit(most)).ok() };
    // Keep only what is shown, because the messages may be many and large.
    let mut items = Vec::new();
    let session = session(&app).await?;
    let stores = Stores { session: &session, store: &app.store };
    let next = dead_letters::list(stores, &actor, listing, |letter| {
        items.push(to_raw_value(&view::json(&letter)));
    });
    let next = next.await?;
    let items = items.into_iter().collect::<Result<_, _>>().map_err(|_| Problem::Internal)?;
    let next = next.map(|next| next.to_string());
    Ok(json(StatusCode::OK, &Found { items, complete: next.is_none(), next }))
}

/// A selection of dead letters: by ids, by all other members together, or all of them.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DeadLetterChoice)]
pub(crate) struct Selection {
    /// The ids of the letters.
    #[serde(default)]
    ids: Vec<String>,
    /// Select all letters. Required without `ids`, `reason` and `webhook`.
    #[serde(default)]
    all: bool,
    /// Only letters of this queue: `events` or `deliveries`.
    queue: Option<String>,
    /// Only letters with this reason.
    reason: Option<String>,
    /// Only letters of the webhook with this id.
    webhook: Option<String>,
    /// Count the letters without replaying or discarding them.
    #[serde(default)]
    dry_run: bool,
    /// The `next` of an answer that was not complete, to continue from there.
    cursor: Option<String>,
}

/// The result of a replay or discard.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLettersResult)]
pub(crate) struct SettleResult {
    /// The number of letters that were replayed or discarded, or would be.
    count: u64,
    /// Whether the letters were only counted.
    dry_run: bool,
    /// Whether all letters were done. If not, send another request with `next` as
    /// `cursor`.
    complete: bool,
    /// The `cursor` of the next request; absent when `complete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// The requested ids that were not found.
    missing: Vec<String>,
    /// The ids of letters that could not be replayed and were kept.
    kept: Vec<String>,
    /// Why each of these letters was kept, in the same order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept_because: Vec<KeptLetter>,
}

/// Why a dead letter could not be replayed.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeptLetter {
    /// The letter's id.
    id: String,
    /// A stable code: `webhook-paused`, `webhook-deleted`, `unknown-delivery`,
    /// `attempt-under-way`, `payload-removed` or `unsendable`.
    code: &'static str,
    /// The reason in words.
    detail: String,
}

/// Replay dead letters.
///
/// For System Administrators. Events are routed again, and deliveries are attempted again. While an
/// answer is not complete, send another request with its `next` as `cursor`.
#[utoipa::path(
    post,
    path = "/dead-letters/replay",
    tag = "Dead letters",
    request_body = Selection,
    responses(
        (status = 200, description = "The result.", body = SettleResult),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn replay_all(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let action = Action::Replay;
    settle_selected(&app, &actor, action, members(body).await?).await
}

/// Discard dead letters for good.
///
/// For System Administrators. While an answer is not complete, send another request with its `next`
/// as `cursor`.
#[utoipa::path(
    post,
    path = "/dead-letters/discard",
    tag = "Dead letters",
    request_body = Selection,
    responses(
        (status = 200, description = "The result.", body = SettleResult),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn discard(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
    body: Body,
) -> Result<Response, Problem> {
    settle_selected(&app, &actor, Action::Discard, members(body).await?).await
}

async fn settle_selected(
    app: &App,
    actor: &Actor,
    action: Action,
    selection: Selection,
) -> Result<Response, Problem> {
    let dry_run = selection.dry_run;
    let (choice, from) = choice(selection)?;
    let session = session(app).await?;
    let request = Request { choice, from, until: Some(Instant::now() + SEARCH_TIME), dry_run };
    let mut kept_because = Vec::new();
    let stores = Stores { session: &session, store: &app.store };
    let settled = settle(stores, actor, action, request, |letter, why| {
        let (code, detail) = (why.code(), why.to_string());
        kept_because.push(KeptLetter { id: letter.id, code, detail });
    });
    let Outcome { count, next, missing } = settled.await?;
    let next = next.map(|next| next.to_string());
    let complete = next.is_none();
    // Letters that were not read yet are not known to be missing.
    let missing = if complete { missing } else { Vec::new() };
    let kept = kept_because.iter().map(|letter| letter.id.clone()).collect();
    let result = SettleResult { count, dry_run, complete, next, missing, kept, kept_because };
    Ok(json(StatusCode::OK, &result))
}

fn choice(selection: Selection) -> Result<(Choice, Option<Position>), Problem> {
    let (mut wrong, all) = (Vec::new(), selection.all);
    let kind = read("queue", selection.queue.as_deref(), &mut wrong);
    let webhook = read("webhook", selection.webhook.as_deref(), &mut wrong);
    let from = read("cursor", selection.cursor.as_deref(), &mut wrong);
    let Selection { ids, reason, .. } = selection;
    let choice = Choice { ids, kind, reason, webhook, ..Choice::default() };
    if !wrong.is_empty() {
        return Err(Problem::Invalid(wrong));
    }
    if !all && !choice.narrows() {
        return Err(Problem::invalid(
            "",
            "select letters by ids, reason or webhook, or with \"all\": true",
        ));
    }
    if all && !choice.ids.is_empty() {
        return Err(Problem::invalid("all", "leave it out when ids are given"));
    }
    Ok((choice, from))
}

/// Reads the value of a member. An error is added to `wrong`.
fn read<T: Parameter>(name: &str, text: Option<&str>, wrong: &mut Vec<FieldError>) -> Option<T> {
    let refuse = |detail| wrong.push(FieldError { name: name.to_owned(), detail });
    text.and_then(|text| T::read(text).map_err(refuse).ok())
}

impl Parameter for Kind {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "the queues are events and deliveries".to_owned())
    }
}

impl Parameter for GroupBy {
    fn read(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::parse(text).ok_or_else(|| format!("letters are grouped by {known}"))
    }
}

impl Parameter for Position {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: NoPosition| error.to_string())
    }
}

async fn session(app: &App) -> Result<Session, Problem> {
    app.context.publisher.session().await.ok_or(Problem::Unavailable(BROKER_UNAVAILABLE))
}
