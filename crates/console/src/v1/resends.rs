//! `/api/v1/webhooks/{id}/retry-failed`: attempting again what is dead of a webhook. A webhook has
//! one resend that is open at a time, so that the path says which one is meant.

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

/// How many deliveries are attempted again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RetriedFailed {
    /// How many they are.
    count: i64,
    /// Whether they are only counted.
    dry_run: bool,
    /// Whether there are more than were counted; only when they are only counted.
    more: bool,
    /// The id of the resend that attempts them; absent when they are only counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    resend: Option<String>,
}

/// How far a resend has come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Resend)]
pub(crate) struct Progress {
    /// Its id.
    id: String,
    /// It takes what is dead of attempts that began at this time or later.
    #[schema(format = DateTime)]
    since: String,
    /// When it was asked for.
    #[schema(format = DateTime)]
    asked_at: String,
    /// Who asked for it.
    asked_by: String,
    /// How many deliveries were dead then.
    total: i64,
    /// How many of them are attempted again so far.
    begun: i64,
    /// How many of those were delivered. At most 10000 are looked at, here and below.
    delivered: i64,
    /// How many of those are still to be attempted.
    open: i64,
    /// How many of those are dead again, or were dropped.
    failed: i64,
    /// When it ended; `null` while it goes on.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// Why it ended: `done`, `cancelled`, `webhook-paused` or `webhook-deleted`; `null` while it
    /// goes on.
    ended: Option<&'static str>,
}

/// What of a webhook is attempted again.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ResendQuery {
    /// Only what began at this time or later.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// Only count; answered with 200.
    #[serde(deserialize_with = "parameter")]
    dry_run: Option<bool>,
}

/// Attempt again what is dead.
///
/// It goes on by itself, step by step, the oldest first. A webhook has one such resend at a time:
/// while one goes on, that one is answered. A user has at most 5.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/retry-failed",
    tag = "Webhooks: upkeep",
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
    user: User,
    Id(id): Id<WebhookId>,
    Query(ResendQuery { since, dry_run }): Query<ResendQuery>,
) -> Result<Response, Problem> {
    let since = since.unwrap_or(DateTime::UNIX_EPOCH);
    let dry_run = dry_run.unwrap_or(false);
    let actor = user.0.actor();
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

/// Show how far the newest resend has come.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/retry-failed",
    tag = "Webhooks: upkeep",
    responses((status = 200, description = "The resend.", body = Progress), (status = 404))
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let found = resends::show(&app.context, &user.0.actor(), id, Which::Newest).await?;
    Ok(progress(found))
}

/// Cancel the resend that goes on.
///
/// What was not begun stays dead. A resend that has ended stays as it is.
#[utoipa::path(
    delete,
    path = "/webhooks/{id}/retry-failed",
    tag = "Webhooks: upkeep",
    responses((status = 200, description = "The resend.", body = Progress), (status = 404))
)]
pub(crate) async fn cancel(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let found = resends::cancel(&app.context, &user.0.actor(), id, Which::Newest).await?;
    Ok(progress(found))
}

fn progress(Found { resend, became, .. }: Found) -> Response {
    let progress = Progress {
        id: resend.id.simple().to_string(),
        since: rfc3339(resend.since),
        asked_at: rfc3339(resend.asked_at),
        asked_by: resend.asked_by,
        total: resend.total,
        begun: resend.begun,
        delivered: became.delivered,
        open: became.open,
        failed: became.failed,
        ended_at: resend.ended.map(|(at, _)| rfc3339(at)),
        ended: resend.ended.map(|(_, ended)| ended.code()),
    };
    json(StatusCode::OK, &progress)
}

impl From<ResendError> for Problem {
    fn from(error: ResendError) -> Self {
        match error {
            ResendError::Webhook(error) => error.into(),
            ResendError::Unknown => Self::NotFound("No resend was asked for."),
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
