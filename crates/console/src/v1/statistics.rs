//! `/api/v1/statistics`: how attempts went, hour by hour.

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

/// How many hours are told of when nothing else is asked for, and the most.
const HOURS: u32 = 24;
const MOST_HOURS: u32 = 24 * 31;

/// How attempts went.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Statistics)]
pub(crate) struct Json<'a> {
    /// Attempts of all these hours.
    attempts: i64,
    /// Those that were taken by their receivers.
    delivered: i64,
    /// The part of attempts that were taken, from 0 to 1; null when there were none.
    success_rate: Option<f64>,
    /// How the last attempt went; it may be older than the hours.
    last: Option<LastJson<'a>>,
    /// Each hour, the oldest first; the last one has only begun.
    hours: Vec<HourJson<'a>>,
}

/// The attempts of an hour.
#[derive(Serialize, ToSchema)]
#[schema(as = Hour)]
pub(crate) struct HourJson<'a> {
    /// Its beginning.
    #[schema(format = DateTime)]
    hour: String,
    /// How many there were.
    attempts: i64,
    /// How many had each outcome.
    outcomes: &'a BTreeMap<String, i64>,
}

/// How the last attempt went.
#[derive(Serialize, ToSchema)]
#[schema(as = LastAttempt)]
pub(crate) struct LastJson<'a> {
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
    /// Its outcome.
    outcome: &'a str,
    /// HTTP status, if there was an answer.
    status: Option<i32>,
    /// The delivery's id.
    delivery: String,
    /// The webhook's id.
    webhook: String,
}

/// Which attempts are counted.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatisticsQuery {
    /// Only of this webhook, by its id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only of this user's webhooks; others' for System Administrators.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// The last hours, 1 to 744, with the one that has begun; 24 when left out.
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
        (status = 200, description = "The numbers.", body = Json<'static>),
        (status = 400),
        (status = 403),
        (status = 404),
    )
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    user: User,
    Query(StatisticsQuery { webhook, owner, hours }): Query<StatisticsQuery>,
) -> Result<Response, Problem> {
    if let Some(webhook) = webhook {
        webhooks::find(&app.context, &user.0.actor(), webhook).await?;
    }
    let filter = StatisticsFilter {
        webhook,
        owner: user.owner_filter(owner)?,
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

/// To four digits.
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
