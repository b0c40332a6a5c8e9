//! Sending a test event to a webhook.

use axum::extract::State;
use axum::response::Response;
use fanfare_app::test_events::{self, SendError};

use super::WEBHOOKS;
use super::error::PageError;
use super::page::see_other;
use super::visitor::{Id, Posted};
use crate::app::Shared;

/// `POST`: sends a test event.
pub(crate) async fn send(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    let said = match test_events::send(&app.context, &posted.visitor.actor(), id).await {
        Ok(_) => "done=tested",
        Err(SendError::NotReceiving(_)) => "problem=paused",
        Err(SendError::OwnerDisabled(_) | SendError::OwnerDeleted(_)) => "problem=owner",
        Err(SendError::NothingReadable(_)) => "problem=no-test",
        Err(SendError::TooMany { .. }) => "problem=too-many-tests",
        Err(SendError::Webhook(error)) => return Err(error.into()),
        Err(SendError::Store(error)) => return Err(error.into()),
    };
    Ok(see_other(&format!("{WEBHOOKS}/{id}?{said}")))
}
