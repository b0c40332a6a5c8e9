//! Sending a test event to a webhook.

use axum::extract::State;
use axum::response::Response;
use fanfare_core::explain::OwnerState;
use fanfare_core::test_event;
use uuid::Uuid;

use super::WEBHOOKS;
use super::error::Failed;
use super::page::see_other;
use super::visitor::{Id, Posted};
use crate::app::Shared;

/// `POST`.
pub(crate) async fn send(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, Failed> {
    let webhook = posted.visitor.webhook(&app, id).await?;
    let to = |said: &str| Ok(see_other(&format!("{WEBHOOKS}/{id}?{said}")));
    if webhook.paused {
        return to("problem=paused");
    }
    let reach = app.store.reach(&webhook.owner).await?;
    if reach.state != OwnerState::Enabled {
        return to("problem=owner");
    }
    let resource = test_event::resource(&webhook.filters, &reach.readable);
    let event = resource.and_then(|resource| {
        let id = Uuid::new_v4().to_string();
        test_event::event(&id, &resource, &posted.visitor.caller.name, reach.revision)
    });
    let Some(event) = event else {
        return to("problem=no-test");
    };
    let (due, _) = app.store.test_event_add(&event, id, reach.revision).await?;
    app.broker.hand_over(&[due]).await;
    to("done=tested")
}
