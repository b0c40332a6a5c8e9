//! `/api/v1/deliveries`: list, show and retry deliveries.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::deliveries::{self, DeliveryError, Retried as Retry, RetryError};
use fanfare_app::json::delivery as view;
use fanfare_core::ids::DeliveryId;
use fanfare_core::outcome;
use fanfare_store::deliveries::DeliveryFilter;
use serde::Serialize;
use utoipa::ToSchema;

use super::list::{LARGEST_PAGE, PAGE, cursor, page, place};
use super::problem::{Conflict, Problem};
use super::request::{Id, Query, User, id, name, number, text, time};
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

/// `GET` of all that the user may see.
pub(crate) async fn list(
    State(app): State<Shared>,
    user: User,
    uri: Uri,
) -> Result<Response, Problem> {
    let known =
        ["webhook", "event", "owner", "state", "since", "until", "limit", "cursor"].as_slice();
    let mut query = Query::of(&uri, known);
    let owner = query.take("owner", name);
    let filter = DeliveryFilter {
        webhook: query.take("webhook", id),
        event: query.take("event", text),
        owner: None,
        state: query.take("state", state),
        since: query.take("since", time),
        until: query.take("until", time),
        after: query.take("cursor", place),
        limit: query.take("limit", number(1, LARGEST_PAGE)).unwrap_or(PAGE),
    };
    query.end()?;
    let filter = DeliveryFilter { owner, ..filter };
    let found = deliveries::list(&app.context, &user.0.actor(), filter).await?;
    let items = found.deliveries.iter().map(view::json).collect();
    Ok(page(items, found.next.as_ref().map(cursor)))
}

/// `GET` of one, with its attempts.
pub(crate) async fn show(
    State(app): State<Shared>,
    user: User,
    Id(id): Id<DeliveryId>,
) -> Result<Response, Problem> {
    let (delivery, attempts) = deliveries::show(&app.context, &user.0.actor(), id).await?;
    Ok(json(StatusCode::OK, &view::json_with_attempts(&delivery, &attempts)))
}

/// `POST` to `…/retry`: a new attempt now, and further ones if it fails.
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

fn state(text: &str) -> Result<outcome::State, String> {
    let known = outcome::State::ALL.map(outcome::State::name).join(", ");
    outcome::State::parse(text).ok_or_else(|| format!("the states are {known}"))
}
