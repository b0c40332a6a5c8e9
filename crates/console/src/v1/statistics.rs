//! `/api/v1/statistics`: the outcomes of attempts, hour by hour.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::clock::rfc3339;
use fanfare_app::webhooks;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_store::statistics::{Hour, LastAttempt, Statistics, StatisticsFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{Query, User, Within, parameter};
use crate::api::json::json;
use crate::app::Shared;

/// The default and the maximum number of hours.
const HOURS: u32 = 24;
const MOST_HOURS: u32 = 24 * 31;

/// The outcomes of attempts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Statistics)]
pub(crate) struct Json<'a> {
    /// The number of attempts in all these hours.
    attempts: i64,
    /// The number of attempts whose receivers accepted the notification.
    delivered: i64,
    /// The share of successful attempts, from 0 to 1; `null` when there were none.
    success_rate: Option<f64>,
    /// The last attempt, which may be older than the hours.
    last: Option<LastJson<'a>>,
    /// The hours, the oldest first. The last one is the current hour.
    hours: Vec<HourJson<'a>>,
}

/// The attempts of one hour.
#[derive(Serialize, ToSchema)]
#[schema(as = Hour)]
pub(crate) struct HourJson<'a> {
    /// The beginning of the hour.
    #[schema(format = DateTime)]
    hour: String,
    /// The number of attempts.
    attempts: i64,
    /// The number of attempts with each outcome.
    outcomes: &'a BTreeMap<String, i64>,
}

/// The last attempt.
#[derive(Serialize, ToSchema)]
#[schema(as = LastAttempt)]
pub(crate) struct LastJson<'a> {
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
    /// Its outcome.
    outcome: &'a str,
    /// The HTTP status, if there was an answer.
    status: Option<i32>,
    /// The delivery's id.
    delivery: String,
    /// The webhook's id.
    webhook: String,
}

/// Which attempts to count.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatisticsQuery {
    /// Only attempts for the webhook with this id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only attempts for this user's webhooks. Only a System Administrator may name another user.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// The number of hours up to now, 1 to 744, including the current one; 24 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 744)]
    hours: Option<Within<1, MOST_HOURS>>,
}

/// Count attempts by hour and outcome.
#[utoipa::path(
    get,
    path = "/statistics",
    tag = "Statistics",
    params(StatisticsQuery),
    responses(
        (status = 200, description = "The statistics.", body = Json<'static>),
        (status = 400),
        (status = 403),
        (status = 404),
    )
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    User(actor): User,
    Query(StatisticsQuery { webhook, owner, hours }): Query<StatisticsQuery>,
) -> Result<Response, Problem> {
    if let Some(webhook) = webhook {
        webhooks::find(&app.context, &actor, webhook).await?;
    }
    let filter = StatisticsFilter {
        webhook,
        owner: actor.owner_filter(owner)?,
        hours: hours.map_or(HOURS, |hours| hours.0),
        longest_chain: app.longest_chain,
    };
    let statistics = app.store.statistics(&filter).await?;
    Ok(json(StatusCode::OK, &shown(&statistics)))
}

fn shown(statistics: &Statistics) -> Json<'_> {
    let hours = statistics.hours.iter().map(hour).collect::<Vec<_>>();
    let attempts = hours.iter().map(|hour| hour.attempts).sum();
    let delivered = statistics.hours.iter().filter_map(|hour| hour.outcomes.get("delivered")).sum();
    Json {
        attempts,
        delivered,
        success_rate: rate(delivered, attempts),
        last: statistics.last.as_ref().map(last),
        hours,
    }
}

/// The share, rounded to four digits.
#[expect(clippy::cast_precision_loss, reason = "attempts are fewer than 2^52")]
fn rate(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0)
}

fn hour(hour: &Hour) -> HourJson<'_> {
    let attempts = hour.outcomes.values().sum();
    HourJson { hour: rfc3339(hour.begin), attempts, outcomes: &hour.outcomes }
}

fn last(last: &LastAttempt) -> LastJson<'_> {
    LastJson {
        at: rfc3339(last.at),
        outcome: &last.outcome,
        status: last.status,
        delivery: last.delivery.to_string(),
        webhook: last.webhook.to_string(),
    }
}
