//! Help with signatures: which part of a request does not match, and receivers that check
//! signatures.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;

use super::components::FormToken;
use super::error::PageError;
use super::page::{Frame, page};
use super::receivers::{self, Receiver};
use super::verdict::{self, Grade, Received, Verdict};
use super::visitor::{Id, Posted, Visitor};
use crate::app::Shared;

#[derive(Template)]
#[template(path = "signature.html")]
struct Help {
    frame: Frame,
    token: FormToken,
    id: WebhookId,
    url: String,
    owned: bool,
    body: String,
    headers: String,
    verdicts: Vec<Verdict>,
    /// Whether any part has an error, so that a receiver must not accept the request.
    bad: bool,
    receivers: Vec<Receiver>,
}

/// The length of pasted text that is put back into the form, in characters.
const KEPT: usize = 32 * 1024;

/// `GET`: shows the form and the receivers.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    Id(id): Id,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    Ok(help(&visitor, &webhook, "", "", Vec::new()))
}

/// `POST`: checks the pasted request.
pub(crate) async fn check(
    State(app): State<Shared>,
    Id(id): Id,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { visitor, fields } = posted;
    let webhook = visitor.webhook(&app, id).await?;
    let (body, headers) = (fields.raw("body"), fields.raw("headers"));
    let received = Received { body, headers };
    let now = (app.clock)();
    let verdicts = match fields.text("secret") {
        "" => with_own(&visitor, &webhook, received, now),
        text => match verdict::secret(text) {
            Ok((secret, note)) => {
                let judged = verdict::judge(received, &secret, now);
                note.into_iter().chain(judged).collect()
            }
            Err(wrong) => vec![wrong],
        },
    };
    Ok(help(&visitor, &webhook, body, headers, verdicts))
}

/// Checks with the webhook's own secrets. The result is the newest secret's, unless an older one
/// that is still valid has fewer errors.
fn with_own(
    visitor: &Visitor,
    webhook: &Webhook,
    received: Received<'_>,
    now: chrono::DateTime<chrono::Utc>,
) -> Vec<Verdict> {
    let missing =
        |text: &str| vec![Verdict { part: "Secret", grade: Grade::Bad, text: text.to_owned() }];
    if !visitor.owns(webhook) {
        return missing("Enter the secret: only the owner can check with the webhook's own.");
    }
    let judged = webhook.secrets.iter().map(|secret| verdict::judge(received, secret, now));
    let bad = |verdicts: &Vec<Verdict>| {
        verdicts.iter().filter(|verdict| verdict.grade == Grade::Bad).count()
    };
    judged.min_by_key(bad).unwrap_or_else(|| missing("The webhook has no secret."))
}

fn help(
    visitor: &Visitor,
    webhook: &Webhook,
    body: &str,
    headers: &str,
    verdicts: Vec<Verdict>,
) -> Response {
    let kept = |text: &str| text.chars().take(KEPT).collect();
    let shown = Help {
        frame: visitor.frame(),
        token: visitor.form_token(),
        id: webhook.id,
        url: webhook.uri.as_str().to_owned(),
        owned: visitor.owns(webhook),
        body: kept(body),
        headers: kept(headers),
        bad: verdicts.iter().any(|verdict| verdict.grade == Grade::Bad),
        verdicts,
        receivers: receivers::of(webhook),
    };
    page(StatusCode::OK, &shown)
}
