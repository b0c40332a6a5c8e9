//! A row of the grid: a webhook in a short form, with a button that pauses or resumes it in place.

use std::collections::HashMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::operations;
use fanfare_app::webhooks::{self, Owners, WebhookError};
use fanfare_core::ids::WebhookId;
use fanfare_core::registration::RegistrationError;
use fanfare_core::webhook::Webhook;

use super::components::shortened;
use super::error::{PageError, whole_page};
use super::health::{self, Health};
use super::page::{page, see_other};
use super::visitor::{Id, Posted, Visitor};
use super::{WEBHOOKS, fields, text};
use crate::app::{App, Shared};

/// The length of an address or a description that is shown, in characters.
const SHOWN: usize = 90;

/// A webhook in the grid.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: WebhookId,
    /// The owner, for administrators.
    pub(super) user: Option<String>,
    /// The problem with the owner, if there is one.
    pub(super) owner_problem: Option<&'static str>,
    pub(super) url: String,
    pub(super) filters: String,
    pub(super) description: String,
    pub(super) paused: bool,
    pub(super) paused_why: String,
    /// What becomes of what happens while it is paused, in words.
    pub(super) meanwhile: String,
    pub(super) health: Health,
}

/// A row without the grid.
#[derive(Template)]
#[template(path = "row.html")]
struct RowAlone {
    row: Row,
}

impl Row {
    /// The path for pausing or resuming the webhook.
    pub(super) fn turn(&self) -> String {
        format!("{WEBHOOKS}/{}/{}", self.id, if self.paused { "resume" } else { "pause" })
    }
}

/// The rows of these webhooks.
pub(super) async fn of(
    app: &App,
    visitor: &Visitor,
    webhooks: &[Webhook],
) -> Result<Vec<Row>, PageError> {
    let owners: Owners = webhooks::owners(&app.context, webhooks).await?;
    let mut health = health::of(app, webhooks).await?;
    let mut held = HashMap::new();
    for webhook in webhooks.iter().filter(|webhook| webhook.held_since.is_some()) {
        held.insert(webhook.id, operations::held(&app.context, &visitor.actor(), webhook).await?);
    }
    let row = |webhook: &Webhook| Row {
        id: webhook.id,
        user: visitor.caller.administrator.then(|| webhook.owner.to_string()),
        owner_problem: text::owner(owners.state(&webhook.owner)),
        url: shortened(webhook.uri.as_str(), SHOWN),
        filters: shortened(&filters(webhook), SHOWN),
        description: shortened(webhook.description.as_deref().unwrap_or_default(), SHOWN),
        paused: webhook.paused,
        paused_why: text::paused(webhook.paused_reason.as_ref()),
        meanwhile: text::meanwhile(held.get(&webhook.id).copied().flatten()),
        health: health.remove(&webhook.id).unwrap_or_default(),
    };
    Ok(webhooks.iter().map(row).collect())
}

/// The filters of a webhook in words.
pub(super) fn filters(webhook: &Webhook) -> String {
    if webhook.filters.is_everything() {
        return "Everything".to_owned();
    }
    webhook.filters.shown().join(", ")
}

/// `POST`: pauses a webhook.
pub(crate) async fn pause(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    set(&app, id, &posted, true).await
}

/// `POST`: resumes a webhook.
pub(crate) async fn resume(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    set(&app, id, &posted, false).await
}

async fn set(
    app: &App,
    id: WebhookId,
    posted: &Posted,
    paused: bool,
) -> Result<Response, PageError> {
    let visitor = &posted.visitor;
    // The grid has one button, which keeps what was chosen before.
    let hold = Some(posted.fields.text("while")).filter(|it| !it.is_empty()).map(|it| it == "hold");
    let (context, actor) = (&app.context, visitor.actor());
    let set = if paused {
        webhooks::pause(context, &actor, id, hold).await
    } else {
        webhooks::resume(context, &actor, id).await
    };
    if let Err(WebhookError::Invalid(RegistrationError::FormerOwner)) = set {
        let path = fields::path(&format!("{WEBHOOKS}/{id}"), &[("problem", "former-owner")]);
        return Ok(if visitor.htmx { whole_page(StatusCode::OK, &path) } else { see_other(&path) });
    }
    set?;
    if !visitor.htmx {
        let holds = paused && visitor.webhook(app, id).await?.hold;
        let done = match paused {
            true if holds => "held",
            true => "paused",
            false => "resumed",
        };
        return Ok(see_other(&fields::path(&format!("{WEBHOOKS}/{id}"), &[("done", done)])));
    }
    let webhook = visitor.webhook(app, id).await?;
    let row = of(app, visitor, &[webhook]).await?.pop().ok_or(PageError::Unknown)?;
    Ok(page(StatusCode::OK, &RowAlone { row }))
}
