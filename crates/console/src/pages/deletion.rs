//! Deleting a webhook, after a confirmation.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::webhooks;
use fanfare_core::ids::WebhookId;

use super::WEBHOOKS;
use super::components::FormToken;
use super::error::PageError;
use super::page::{Frame, page, see_other};
use super::visitor::{Id, Posted, Visitor};
use crate::app::Shared;

#[derive(Template)]
#[template(path = "delete.html")]
struct Delete {
    frame: Frame,
    token: FormToken,
    id: WebhookId,
    url: String,
    description: Option<String>,
}

/// `GET`: shows the confirmation.
pub(crate) async fn confirm(
    State(app): State<Shared>,
    visitor: Visitor,
    Id(id): Id,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    let question = Delete {
        frame: visitor.frame(),
        token: visitor.form_token(),
        id,
        url: webhook.uri.as_str().to_owned(),
        description: webhook.description,
    };
    Ok(page(StatusCode::OK, &question))
}

/// `POST`: deletes the webhook.
pub(crate) async fn delete(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    webhooks::delete(&app.context, &posted.visitor.actor(), id).await?;
    Ok(see_other(&format!("{WEBHOOKS}?done=deleted")))
}
