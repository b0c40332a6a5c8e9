//! `/api/v1/webhooks/{id}/retry-failed`: attempting again what is dead of a webhook. A webhook has
//! one resend that is open at a time, so that the path says which one is meant.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use fanfare_app::resends::{self, BeginError, Counted, Origin};
use fanfare_core::ids::WebhookId;
use fanfare_store::deliveries::{Became, Resend};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Conflict, Problem};
use super::request::{Id, Query, User, parameter};
use super::view::rfc3339;
use crate::api::json::json;
use crate::app::{App, Shared};
use crate::webhooks;

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
pub(crate) struct Wanted {
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
    params(Wanted),
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
    Query(Wanted { since, dry_run }): Query<Wanted>,
) -> Result<Response, Problem> {
    let since = since.unwrap_or(DateTime::UNIX_EPOCH);
    let dry_run = dry_run.unwrap_or(false);
    let webhook = webhooks::find(&app, &user.0, id).await?;
    if dry_run {
        let Counted { count, more } = resends::count(&app.context, id, since).await?;
        let counted = RetriedFailed { count, dry_run, more, resend: None };
        return Ok(json(StatusCode::OK, &counted));
    }
    let by = &user.0.name;
    let resend = resends::begin(&app.context, by, &webhook, since, Origin::Program).await?;
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
    webhooks::find(&app, &user.0, id).await?;
    let resend = newest(&app, id).await?;
    progress(&app, id, resend).await
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
    webhooks::find(&app, &user.0, id).await?;
    let resend = newest(&app, id).await?;
    resends::cancel(&app.context, &user.0.name, id, resend.id).await?;
    let resend = app.store.resend_show(id, resend.id).await?.ok_or(NOTHING)?;
    progress(&app, id, resend).await
}

const NOTHING: Problem = Problem::NotFound("No resend was asked for.");

async fn newest(app: &App, webhook: WebhookId) -> Result<Resend, Problem> {
    app.store.resend_newest(webhook).await?.ok_or(NOTHING)
}

async fn progress(app: &App, webhook: WebhookId, resend: Resend) -> Result<Response, Problem> {
    let Became { delivered, open, failed } = app.store.resend_became(webhook, &resend).await?;
    let progress = Progress {
        id: resend.id.simple().to_string(),
        since: rfc3339(resend.since),
        asked_at: rfc3339(resend.asked_at),
        asked_by: resend.asked_by,
        total: resend.total,
        begun: resend.begun,
        delivered,
        open,
        failed,
        ended_at: resend.ended.map(|(at, _)| rfc3339(at)),
        ended: resend.ended.map(|(_, ended)| ended.code()),
    };
    Ok(json(StatusCode::OK, &progress))
}

impl From<BeginError> for Problem {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::NotReceiving(why) => why.into(),
            BeginError::TooMany => Self::Conflict(Conflict {
                code: "too-many-resends",
                title: "Too many resends are open",
                detail: "Failed deliveries of several other webhooks of this user are being sent \
                         again. Wait until one is done, or cancel one."
                    .to_owned(),
            }),
            BeginError::Store(error) => error.into(),
        }
    }
}
