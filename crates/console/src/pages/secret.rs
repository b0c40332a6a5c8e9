//! A webhook's secret: shown to its owner alone, and replaced without a gap.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_core::ids::WebhookId;
use fanfare_core::signature::library_secret;
use fanfare_core::webhook::{Secret, Webhook};
use fanfare_store::random;

use super::WEBHOOKS;
use super::error::Failed;
use super::page::{Frame, page, see_other};
use super::visitor::{Id, Posted};
use crate::app::{App, Shared};

/// How long a replaced secret goes on signing, by what the form says.
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

/// The same as a page of its own, for browsers without scripts.
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

/// `POST`: reveals it.
pub(crate) async fn reveal(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, Failed> {
    let webhook = owned(&app, id, &posted).await?;
    let shown = |secret: &Secret| Shown {
        secret: secret.reveal().to_owned(),
        library: library_secret(secret),
    };
    let secrets = webhook.secrets.iter().map(shown).collect();
    if posted.visitor.htmx {
        return Ok(page(StatusCode::OK, &Revealed { secrets }));
    }
    let url = webhook.uri.as_str().to_owned();
    let frame = Frame::of(&posted.visitor);
    Ok(page(StatusCode::OK, &RevealedPage { frame, id, url, secrets }))
}

/// `POST`: makes a new one, beside which the old one signs for a while.
pub(crate) async fn rotate(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, Failed> {
    owned(&app, id, &posted).await?;
    let asked = posted.fields.text("overlap");
    let overlap = OVERLAPS.iter().find(|(name, _)| *name == asked).map(|(_, overlap)| *overlap);
    let overlap = overlap.ok_or(Failed::Unknown)?;
    app.store.webhook_rotate(id, &random::secret()?, overlap).await?.ok_or(Failed::Unknown)?;
    Ok(see_other(&format!("{WEBHOOKS}/{id}?done=rotated")))
}

/// The webhook, if it is the visitor's own: nobody else sees its secret here or replaces it.
async fn owned(app: &App, id: WebhookId, posted: &Posted) -> Result<Webhook, Failed> {
    let webhook = posted.visitor.webhook(app, id).await?;
    if posted.visitor.owns(&webhook) { Ok(webhook) } else { Err(Failed::Unknown) }
}
