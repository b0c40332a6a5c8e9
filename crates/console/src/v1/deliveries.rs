//! `/api/v1/deliveries`: list, show and retry deliveries.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use fanfare_app::deliveries::{self, DeliveryError, Retried as Retry, RetryError};
use fanfare_app::json::delivery as view;
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::name::Name;
use fanfare_core::outcome;
use fanfare_store::deliveries::{DeliveryFilter, Position};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::list::{Limit, Page, cursor, limit, page};
use super::problem::{Conflict, Problem};
use super::request::{Id, Parameter, Query, User, parameter};
use crate::api::json::json;
use crate::app::Shared;

/// The answer to a retry.
#[derive(Serialize, ToSchema)]
pub(crate) struct Retried {
    /// The delivery's id.
    id: String,
    /// Whether a new series of attempts has begun; if not, an attempt was already due.
    begun: bool,
}

/// Which deliveries to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only deliveries to the webhook with this id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only deliveries of events with this id.
    #[serde(deserialize_with = "parameter")]
    event: Option<String>,
    /// Only deliveries to this user's webhooks. Only a System Administrator may name another user.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// Only deliveries in this state: `pending`, `retrying`, `delivered`, `dropped` or `dead`.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    state: Option<outcome::State>,
    /// Only deliveries whose events were received at this time or later.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// Only deliveries whose events were received before this time.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<DateTime<Utc>>,
    /// The maximum number of results, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the previous page.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    cursor: Option<Position>,
}

/// List deliveries, the newest first.
///
/// Dead and dropped deliveries are ordered by the beginning of their last series of attempts, which
/// is later for deliveries that were retried by a person.
#[utoipa::path(
    get,
    path = "/deliveries",
    tag = "Deliveries",
    params(ListQuery),
    responses(
        (
            status = 200,
            description = "A page of deliveries.",
            body = inline(Page<view::Json<'static>>)
        ),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    User(actor): User,
    Query(wanted): Query<ListQuery>,
) -> Result<Response, Problem> {
    let filter = DeliveryFilter {
        webhook: wanted.webhook,
        event: wanted.event,
        owner: actor.owner_filter(wanted.owner)?,
        state: wanted.state,
        since: wanted.since,
        until: wanted.until,
        after: wanted.cursor,
        limit: limit(wanted.limit),
    };
    let found = deliveries::list(&app.context, &actor, filter).await?;
    let items = found.deliveries.iter().map(view::json).collect();
    Ok(page(items, found.next.as_ref().map(cursor)))
}

/// Show a delivery with its attempts.
#[utoipa::path(
    get,
    path = "/deliveries/{id}",
    tag = "Deliveries",
    responses(
        (status = 200, description = "The delivery.", body = view::Json<'static>),
        (status = 404),
    )
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<DeliveryId>,
) -> Result<Response, Problem> {
    let (delivery, attempts) = deliveries::show(&app.context, &actor, id).await?;
    Ok(json(StatusCode::OK, &view::json_with_attempts(&delivery, &attempts)))
}

/// Retry a delivery now.
#[utoipa::path(
    post,
    path = "/deliveries/{id}/retry",
    tag = "Deliveries",
    responses(
        (status = 202, description = "The request was accepted.", body = Retried),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn retry(
    State(app): State<Shared>,
    User(actor): User,
    Id(id): Id<DeliveryId>,
) -> Result<Response, Problem> {
    let retried = deliveries::retry(&app.context, &actor, id).await?;
    let begun = matches!(retried, Retry::Begun { .. });
    Ok(json(StatusCode::ACCEPTED, &Retried { id: id.to_string(), begun }))
}

impl From<DeliveryError> for Problem {
    fn from(error: DeliveryError) -> Self {
        match error {
            DeliveryError::NotAdministrator(error) => error.into(),
            DeliveryError::Unknown => Self::NotFound("There is no such delivery."),
            DeliveryError::Store(error) => error.into(),
        }
    }
}

impl From<RetryError> for Problem {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::Delivery(error) => error.into(),
            RetryError::NotReceiving(why) => why.into(),
            RetryError::InProgress => Self::Conflict(Conflict {
                code: "attempt-under-way",
                title: "An attempt is in progress",
                detail: "An attempt is in progress; wait until it has ended.".to_owned(),
            }),
            RetryError::PayloadRemoved => Self::Conflict(Conflict {
                code: "payload-removed",
                title: "The payload was removed",
                detail: "The data of one of its events was removed, so there is nothing to send."
                    .to_owned(),
            }),
        }
    }
}

impl Parameter for outcome::State {
    fn read(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::parse(text).ok_or_else(|| format!("the states are {known}"))
    }
}
