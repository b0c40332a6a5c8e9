//! `/api/v1/operations`: bulk operations on dead letters, and on what webhooks missed.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use fanfare_app::Actor;
use fanfare_app::json::operation as view;
use fanfare_app::operations::{self, OperationError, OperationPage, Plan, Request};
use fanfare_core::dead_letter::{Choice, Kind as Queue};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::operation::{Change, Kind, Rate};
use fanfare_core::recover::BadMissed;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::list::{Limit, Page, limit, page};
use super::problem::{Conflict, FieldError, Problem};
use super::request::{Administrator, Id, Parameter, Query, User, members, parameter};
use crate::api::json::json;
use crate::app::{App, Shared};

/// Which operations to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// The maximum number of results, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the previous page.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    cursor: Option<Uuid>,
}

/// A new operation. Without `dryRun` it begins.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewOperation)]
pub(crate) struct New {
    /// `replay` or `discard` of dead letters, or `recover` of what webhooks missed: the events of a time
    /// that match a webhook's filters now, whose resource its owner may read now and could read then, and
    /// that it has no delivery of, or one that was dropped.
    kind: String,
    /// The letters, by all members together. For `recover` only `webhook`, `owner`, `since` (required) and
    /// `until`, the time in which events were received or deliveries dropped.
    #[serde(default)]
    filter: Filter,
    /// Choose all letters. Required when `filter` has no member but `queue`.
    #[serde(default)]
    all: bool,
    /// A remark for others, up to 500 characters.
    note: Option<String>,
    /// The most letters a second, from 1 to 10000; as fast as possible when left out.
    rate: Option<u32>,
    /// Send each webhook one letter first, then up to ten at a time, and no more when its receiver
    /// fails again.
    #[serde(default)]
    canary: bool,
    /// Only count the letters, with the reasons for which some would be kept.
    #[serde(default)]
    dry_run: bool,
}

/// The conditions that choose dead letters.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DeadLetterFilter)]
pub(crate) struct Filter {
    /// The ids of the letters.
    ids: Vec<String>,
    /// Only letters of this queue: `events` or `deliveries`.
    queue: Option<String>,
    /// Only letters with this reason.
    reason: Option<String>,
    /// Only letters of the webhook with this id.
    webhook: Option<String>,
    /// Only letters of this user's webhooks.
    owner: Option<String>,
    /// Only letters of webhooks at this host.
    host: Option<String>,
    /// Only letters of events of this type.
    r#type: Option<String>,
    /// Only letters whose last answer had this HTTP status.
    status: Option<i32>,
    /// Only letters with this cause: the error without its numbers and ids.
    cause: Option<String>,
    /// Only letters that died at this time or later.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Only letters that died before this time.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Only letters with this text in an id, a name, the reason or the error.
    text: Option<String>,
}

/// What an operation would do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OperationPlan)]
pub(crate) struct Planned {
    /// The number of letters that would be replayed, discarded or recovered.
    count: i64,
    /// Always true: the letters were only counted.
    dry_run: bool,
    /// The numbers of letters that would be kept or left out, by the code of the reason.
    kept: BTreeMap<String, i64>,
}

/// The result of restoring letters.
#[derive(Serialize, ToSchema)]
#[schema(as = RestoredLetters)]
pub(crate) struct Restored {
    /// The number of letters that were restored.
    count: i64,
}

/// List bulk operations, the newest first.
///
/// System Administrators see all of them, and owners those of their webhooks.
#[utoipa::path(
    get,
    path = "/operations",
    tag = "Operations",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of operations.", body = inline(Page<view::Json<'static>>)),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    User(actor): User,
    Query(ListQuery { limit: most, cursor }): Query<ListQuery>,
) -> Result<Response, Problem> {
    let listed = operations::list(&app.context, &actor, cursor, limit(most)).await?;
    let OperationPage { operations, next } = listed;
    let next = next.map(|id| id.simple().to_string());
    Ok(page(operations.iter().map(view::json).collect(), next))
}

/// Begin a bulk operation.
///
/// For System Administrators; an owner may recover what a webhook of the owner missed. It has the letters
/// that are dead now, up to 500000, the oldest first, or what was missed, and goes on by itself, step by
/// step. Access is decided again for each letter.
#[utoipa::path(
    post,
    path = "/operations",
    tag = "Operations",
    request_body = New,
    responses(
        (status = 200, description = "The letters were only counted.", body = Planned),
        (status = 202, description = "The operation has begun.", body = view::Json<'static>),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn begin(
    State(app): State<Shared>,
    User(actor): User,
    body: Body,
) -> Result<Response, Problem> {
    let new: New = members(body).await?;
    let dry_run = new.dry_run;
    let request = request(new)?;
    if dry_run {
        let plan = operations::plan(&app.context, &actor, request.kind, &request.choice).await?;
        let Plan { settle: count, keep: kept } = plan;
        return Ok(json(StatusCode::OK, &Planned { count, dry_run, kept }));
    }
    let begun = operations::begin(&app.context, &actor, &request).await?;
    Ok(json(StatusCode::ACCEPTED, &view::json(&begun)))
}

/// Show an operation with its progress.
///
/// For System Administrators, and for the owner of the webhook that it is for.
#[utoipa::path(
    get,
    path = "/operations/{id}",
    tag = "Operations",
    responses(
        (status = 200, description = "The operation.", body = view::Json<'static>),
        (status = 403),
        (status = 404),
    )
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<Uuid>,
) -> Result<Response, Problem> {
    let operation = operations::show(&app.context, &actor, id).await?;
    Ok(json(StatusCode::OK, &view::json(&operation)))
}

/// Pause an operation: it makes no further step.
///
/// For System Administrators, and for the owner of the webhook that it is for.
#[utoipa::path(
    post,
    path = "/operations/{id}/pause",
    tag = "Operations",
    responses(
        (status = 200, description = "The operation.", body = view::Json<'static>),
        (status = 403),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn pause(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<Uuid>,
) -> Result<Response, Problem> {
    change(&app, &actor, id, Change::Pause).await
}

/// Resume a paused operation.
///
/// For System Administrators, and for the owner of the webhook that it is for.
#[utoipa::path(
    post,
    path = "/operations/{id}/resume",
    tag = "Operations",
    responses(
        (status = 200, description = "The operation.", body = view::Json<'static>),
        (status = 403),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn resume(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<Uuid>,
) -> Result<Response, Problem> {
    change(&app, &actor, id, Change::Resume).await
}

/// Cancel an operation. Letters that it has not reached stay dead.
///
/// For System Administrators, and for the owner of the webhook that it is for.
#[utoipa::path(
    post,
    path = "/operations/{id}/cancel",
    tag = "Operations",
    responses(
        (status = 200, description = "The operation.", body = view::Json<'static>),
        (status = 403),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn cancel(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<Uuid>,
) -> Result<Response, Problem> {
    change(&app, &actor, id, Change::Cancel).await
}

/// Restore the dead deliveries that an operation discarded.
///
/// For System Administrators, up to 7 days after the operation ended.
#[utoipa::path(
    post,
    path = "/operations/{id}/undo",
    tag = "Operations",
    responses(
        (status = 200, description = "They are dead letters again.", body = Restored),
        (status = 403),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn undo(
    State(app): State<Shared>,
    Administrator(actor): Administrator,
    Id(id): Id<Uuid>,
) -> Result<Response, Problem> {
    let count = operations::undo(&app.context, &actor, id).await?;
    Ok(json(StatusCode::OK, &Restored { count }))
}

async fn change(app: &App, actor: &Actor, id: Uuid, change: Change) -> Result<Response, Problem> {
    let operation = operations::change(&app.context, actor, id, change).await?;
    Ok(json(StatusCode::OK, &view::json(&operation)))
}

/// Reads a new operation. All errors are reported together.
fn request(new: New) -> Result<Request, Problem> {
    let mut wrong = Vec::new();
    let mut refuse = |name: &str, detail: String| {
        wrong.push(FieldError { name: name.to_owned(), detail });
    };
    let kind = Kind::parse(&new.kind);
    if kind.is_none() {
        refuse("kind", "the kinds are replay, discard and recover".to_owned());
    }
    let rate = new.rate.map(Rate::of).transpose();
    if let Err(error) = &rate {
        refuse("rate", error.to_string());
    }
    let choice = choice(new.filter, &mut wrong);
    let (Some(kind), Ok(rate), true) = (kind, rate, wrong.is_empty()) else {
        return Err(Problem::Invalid(wrong));
    };
    if !new.all && !choice.narrows() {
        let detail = "narrow the filter, or choose all letters with \"all\": true";
        return Err(Problem::invalid("filter", detail));
    }
    let note = new.note.unwrap_or_default();
    Ok(Request { kind, choice, note, rate, canary: new.canary })
}

fn choice(filter: Filter, wrong: &mut Vec<FieldError>) -> Choice {
    Choice {
        kind: read::<Queue>("filter.queue", filter.queue.as_deref(), wrong),
        webhook: read::<WebhookId>("filter.webhook", filter.webhook.as_deref(), wrong),
        owner: read::<Name>("filter.owner", filter.owner.as_deref(), wrong),
        since: read::<DateTime<Utc>>("filter.since", filter.since.as_deref(), wrong),
        until: read::<DateTime<Utc>>("filter.until", filter.until.as_deref(), wrong),
        reason: read("filter.reason", filter.reason.as_deref(), wrong),
        host: read("filter.host", filter.host.as_deref(), wrong),
        event_type: read("filter.type", filter.r#type.as_deref(), wrong),
        cause: read("filter.cause", filter.cause.as_deref(), wrong),
        text: read("filter.text", filter.text.as_deref(), wrong),
        status: filter.status,
        noted_before: None,
        ids: filter.ids.into_iter().filter(|id| !id.contains('\0')).collect(),
    }
}

/// Reads the value of a member. An error is added to `wrong`.
fn read<T: Parameter>(name: &str, text: Option<&str>, wrong: &mut Vec<FieldError>) -> Option<T> {
    let refuse = |detail| wrong.push(FieldError { name: name.to_owned(), detail });
    text.and_then(|text| T::read(text).map_err(refuse).ok())
}

impl Parameter for Uuid {
    fn read(text: &str) -> Result<Self, String> {
        Self::try_parse(text).map_err(|_| "this is no `next` of an earlier answer".to_owned())
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let conflict = |code, title, detail| Self::Conflict(Conflict { code, title, detail });
        match error {
            OperationError::NotAdministrator(error) => error.into(),
            OperationError::Unknown => Self::NotFound("There is no such operation."),
            OperationError::BadMissed(BadMissed::OtherCondition) => {
                Self::invalid("filter", error.to_string())
            }
            OperationError::BadMissed(_) => Self::invalid("filter.since", error.to_string()),
            OperationError::Resend => Self::invalid("kind", error.to_string()),
            OperationError::LongNote => Self::invalid("note", error.to_string()),
            OperationError::NotNow(..) => conflict(
                "operation-state",
                "The operation's state does not allow this",
                error.to_string(),
            ),
            OperationError::NothingToUndo => {
                conflict("nothing-to-undo", "Nothing can be restored", error.to_string())
            }
            OperationError::Store(error) => error.into(),
        }
    }
}
