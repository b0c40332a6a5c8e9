//! Sending a test event to a webhook.

use axum::extract::State;
use axum::response::Response;

use super::WEBHOOKS;
use super::error::Failed;
use super::page::see_other;
use super::visitor::{Id, Posted};
use crate::app::Shared;
use crate::test_events::{self, NotSent};

/// `POST`.
pub(crate) async fn send(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, Failed> {
    let webhook = posted.visitor.webhook(&app, id).await?;
    let said = match test_events::send(&app, &posted.visitor.caller.name, &webhook).await {
        Ok(_) => "done=tested",
        Err(NotSent::Paused) => "problem=paused",
        Err(NotSent::OwnerDisabled | NotSent::OwnerDeleted) => "problem=owner",
        Err(NotSent::NothingReadable) => "problem=no-test",
        Err(NotSent::TooMany { .. }) => "problem=too-many-tests",
        Err(NotSent::Store(error)) => return Err(error.into()),
    };
    Ok(see_other(&format!("{WEBHOOKS}/{id}?{said}")))
}
