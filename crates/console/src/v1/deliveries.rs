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

/// What was asked for is on its way.
#[derive(Serialize, ToSchema)]
pub(crate) struct Retried {
    /// The delivery's id.
    id: String,
    /// Whether a new chain of attempts has begun; otherwise an attempt was about to be made anyway.
    begun: bool,
}

/// What of the deliveries is listed.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only of this webhook, by its id.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    webhook: Option<WebhookId>,
    /// Only of the event with this id of its publisher.
    #[serde(deserialize_with = "parameter")]
    event: Option<String>,
    /// Only of this user's webhooks; others' for System Administrators.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    owner: Option<Name>,
    /// `pending`, `retrying`, `delivered`, `dropped` or `dead`.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    state: Option<outcome::State>,
    /// Only what was taken in at this time or later.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// Only what was taken in before this time.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<DateTime<Utc>>,
    /// At most so many, 1 to 1000; 100 when left out.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// The `next` of the page before.
    #[serde(deserialize_with = "parameter")]
    #[param(value_type = Option<String>)]
    cursor: Option<Position>,
}

/// List deliveries, the newest first.
///
/// The dead and dropped are in the order in which their last chain of attempts began; that is later
/// for those that were begun again.
#[utoipa::path(
    get,
    path = "/deliveries",
    tag = "Deliveries",
    params(ListQuery),
    responses(
        (status = 200, description = "A page.", body = inline(Page<view::Json<'static>>)),
        (status = 400),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    user: User,
    Query(wanted): Query<ListQuery>,
) -> Result<Response, Problem> {
    let filter = DeliveryFilter {
        webhook: wanted.webhook,
        event: wanted.event,
        owner: user.owner_filter(wanted.owner)?,
        state: wanted.state,
        since: wanted.since,
        until: wanted.until,
        after: wanted.cursor,
        limit: limit(wanted.limit),
    };
    let found = deliveries::list(&app.context, &user.0.actor(), filter).await?;
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
    user: User,
    Id(id): Id<DeliveryId>,
) -> Result<Response, Problem> {
    let (delivery, attempts) = deliveries::show(&app.context, &user.0.actor(), id).await?;
    Ok(json(StatusCode::OK, &view::json_with_attempts(&delivery, &attempts)))
}

/// Attempt a delivery again now.
#[utoipa::path(
    post,
    path = "/deliveries/{id}/retry",
    tag = "Deliveries",
    responses(
        (status = 202, description = "It is on its way.", body = Retried),
        (status = 404),
        (status = 409),
    )
)]
pub(crate) async fn retry(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<DeliveryId>,
) -> Result<Response, Problem> {
    let retried = deliveries::retry(&app.context, &user.0.actor(), id).await?;
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
                title: "An attempt is being made",
                detail: "An attempt is being made now; wait until it has ended.".to_owned(),
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
