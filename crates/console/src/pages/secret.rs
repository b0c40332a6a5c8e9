//! A webhook's secret: shown to its owner only, and replaced without an interruption.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_app::webhooks;
use fanfare_core::ids::WebhookId;
use fanfare_core::signature::library_secret;
use fanfare_core::webhook::Secret;

use super::WEBHOOKS;
use super::error::PageError;
use super::page::{Frame, page, see_other};
use super::visitor::{Id, Posted};
use crate::app::Shared;

/// How long a replaced secret continues to sign, by the values of the form.
const OVERLAPS: [(&str, Duration); 4] = [
    ("0", Duration::ZERO),
    ("1h", Duration::from_hours(1)),
    ("24h", Duration::from_hours(24)),
    ("7d", Duration::from_hours(7 * 24)),
];

/// The secret, in place of the button that asked for it.
#[derive(Template)]
#[template(path = "secret.html")]
struct Revealed {
    secrets: Vec<Shown>,
}

/// The secret as a page of its own, for browsers without scripts.
#[derive(Template)]
#[template(path = "secret_page.html")]
struct RevealedPage {
    frame: Frame,
    id: WebhookId,
    url: String,
    secrets: Vec<Shown>,
}

struct Shown {
    secret: String,
    library: String,
}

/// `POST`: shows the secret.
pub(crate) async fn reveal(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    let webhook = webhooks::reveal(&app.context, &posted.visitor.actor(), id).await?;
    let shown = |secret: &Secret| Shown {
        secret: secret.reveal().to_owned(),
        library: library_secret(secret),
    };
    let secrets = webhook.secrets.iter().map(shown).collect();
    if posted.visitor.htmx {
        return Ok(page(StatusCode::OK, &Revealed { secrets }));
    }
    let url = webhook.uri.as_str().to_owned();
    let frame = posted.visitor.frame();
    Ok(page(StatusCode::OK, &RevealedPage { frame, id, url, secrets }))
}

/// `POST`: replaces the secret. The old one signs as well for a while.
pub(crate) async fn rotate(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    // An administrator can't use another owner's new secret, because no page shows it to them.
    let visitor = &posted.visitor;
    if !visitor.owns(&visitor.webhook(&app, id).await?) {
        return Err(PageError::Unknown);
    }
    let asked = posted.fields.text("overlap");
    let overlap = OVERLAPS.iter().find(|(name, _)| *name == asked).map(|(_, overlap)| *overlap);
    let overlap = overlap.ok_or(PageError::Unknown)?;
    webhooks::rotate(&app.context, &visitor.actor(), id, None, overlap).await?;
    Ok(see_other(&format!("{WEBHOOKS}/{id}?done=rotated")))
}
