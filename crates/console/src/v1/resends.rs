//! `/api/v1/webhooks/{id}/retry-failed`: retry all dead deliveries of a webhook. A webhook has at
//! most one open resend, so the path identifies it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use fanfare_app::clock::rfc3339;
use fanfare_app::resends::{self, Counted, Origin, Progress as Found, ResendError, Which};
use fanfare_core::ids::WebhookId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Conflict, Problem};
use super::request::{Id, Query, User, parameter};
use crate::api::json::json;
use crate::app::Shared;

/// The answer to a resend.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RetriedFailed {
    /// The number of deliveries.
    count: i64,
    /// Whether the deliveries were only counted.
    dry_run: bool,
    /// Whether there are more than `count`. Only true when they were only counted.
    more: bool,
    /// The id of the resend; absent when the deliveries were only counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    resend: Option<String>,
}

/// The progress of a resend.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Resend)]
pub(crate) struct Progress {
    /// The resend's id.
    id: String,
    /// It retries dead deliveries whose series of attempts began at this time or later.
    #[schema(format = DateTime)]
    since: String,
    /// When it was requested.
    #[schema(format = DateTime)]
    asked_at: String,
    /// The user who requested it.
    asked_by: String,
    /// The number of deliveries that were dead at that time.
    total: i64,
    /// The number of these deliveries that were retried so far.
    begun: i64,
    /// The number of retried deliveries that were delivered.
    delivered: i64,
    /// The number of retried deliveries that have not ended yet.
    open: i64,
    /// The number of retried deliveries that are dead again, or were dropped.
    failed: i64,
    /// When it ended; `null` while it is open.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// Why it ended: `done`, `cancelled`, `webhook-paused` or `webhook-deleted`; `null` while it is
    /// open.
    ended: Option<&'static str>,
}

/// Which deliveries to retry.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ResendQuery {
    /// Only deliveries whose series of attempts began at this time or later.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// Count the deliveries without retrying them. The answer has the status 200.
    #[serde(deserialize_with = "parameter")]
    dry_run: Option<bool>,
}

/// Retry all dead deliveries.
///
/// The resend is an operation that continues on its own, step by step, the oldest deliveries first. A webhook has at
/// most one open resend: if there is one, the answer is about that one. A user has at most 5.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/retry-failed",
    tag = "Webhooks: maintenance",
    params(ResendQuery),
    responses(
        (status = 202, description = "The resend has begun.", body = RetriedFailed),
        (status = 400),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn begin(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<WebhookId>,
    Query(ResendQuery { since, dry_run }): Query<ResendQuery>,
) -> Result<Response, Problem> {
    let since = since.unwrap_or(DateTime::UNIX_EPOCH);
    let dry_run = dry_run.unwrap_or(false);
    if dry_run {
        let Counted { count, more } = resends::count(&app.context, &actor, id, since).await?;
        let counted = RetriedFailed { count, dry_run, more, resend: None };
        return Ok(json(StatusCode::OK, &counted));
    }
    let resend = resends::begin(&app.context, &actor, id, since, Origin::Program).await?;
    let id = resend.id.simple().to_string();
    let begun = RetriedFailed { count: resend.total, dry_run, more: false, resend: Some(id) };
    Ok(json(StatusCode::ACCEPTED, &begun))
}

/// Show the progress of the newest resend.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/retry-failed",
    tag = "Webhooks: maintenance",
    responses((status = 200, description = "The resend.", body = Progress), (status = 404))
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let found = resends::show(&app.context, &actor, id, Which::Newest).await?;
    Ok(progress(found))
}

/// Cancel the open resend.
///
/// Deliveries that were not retried yet stay dead. A resend that has ended does not change.
#[utoipa::path(
    delete,
    path = "/webhooks/{id}/retry-failed",
    tag = "Webhooks: maintenance",
    responses((status = 200, description = "The resend.", body = Progress), (status = 404))
)]
pub(crate) async fn cancel(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let found = resends::cancel(&app.context, &actor, id, Which::Newest).await?;
    Ok(progress(found))
}

fn progress(Found { resend, .. }: Found) -> Response {
    let progress = Progress {
        id: resend.id.simple().to_string(),
        since: rfc3339(resend.since),
        asked_at: rfc3339(resend.asked_at),
        asked_by: resend.asked_by,
        total: resend.total,
        begun: resend.begun,
        delivered: resend.delivered,
        open: resend.open,
        failed: resend.failed,
        ended_at: resend.ended.map(|(at, _)| rfc3339(at)),
        ended: resend.ended.map(|(_, ended)| ended.code()),
    };
    json(StatusCode::OK, &progress)
}

impl From<ResendError> for Problem {
    fn from(error: ResendError) -> Self {
        match error {
            ResendError::Webhook(error) => error.into(),
            ResendError::Unknown => Self::NotFound("There is no such resend."),
            ResendError::NotReceiving(why) => why.into(),
            ResendError::TooMany => Self::Conflict(Conflict {
                code: "too-many-resends",
                title: "Too many resends are open",
                detail: "Failed deliveries of several other webhooks of this user are being sent \
                         again. Wait until one is done, or cancel one."
                    .to_owned(),
            }),
            ResendError::Store(error) => error.into(),
        }
    }
}
