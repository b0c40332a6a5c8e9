//! A webhook's page: its properties, its health and its deliveries.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_app::resends;
use fanfare_core::ids::WebhookId;

use super::components::{FormToken, Moment};
use super::deliveries::{self, Deliveries};
use super::error::PageError;
use super::page::{Frame, page};
use super::row::{self, Row};
use super::visitor::{Id, Visitor};
use super::{audit, history, resend, text};
use crate::app::Shared;

#[derive(Template)]
#[template(path = "webhook.html")]
struct WebhookPage {
    frame: Frame,
    token: FormToken,
    done: Option<&'static str>,
    problem: Option<&'static str>,
    id: WebhookId,
    row: Row,
    url: String,
    owner: String,
    owned: bool,
    description: String,
    headers: Vec<String>,
    properties: Vec<(String, String)>,
    created_at: Moment,
    rate_limit: Option<u32>,
    /// The seconds between requests that the receiver was found to accept.
    pace: Option<String>,
    held_until: Option<Moment>,
    secrets: usize,
    deliveries: Deliveries,
    /// The open resend of failed deliveries.
    resending: Option<Resending>,
    /// The newest entries of the audit trail, and the path of all of them.
    history: Vec<history::Row>,
    history_path: String,
}

/// The progress of a resend, and the path of its page.
struct Resending {
    path: String,
    begun: i64,
    total: i64,
}

/// `GET`: shows the page.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    Id(id): Id,
    uri: Uri,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    let query = deliveries::query(&uri);
    let deliveries = deliveries::of(&app, id, &query).await?;
    let rows = row::of(&app, &visitor, std::slice::from_ref(&webhook)).await?;
    let row = rows.into_iter().next().ok_or(PageError::Unknown)?;
    let open = resends::open(&app.context, &visitor.actor(), id).await?;
    let resending = open.map(|open| Resending {
        path: resend::path(id, open.id),
        begun: open.begun,
        total: open.total,
    });
    let property = |(name, value): (&String, &serde_json::Value)| {
        (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let shown = WebhookPage {
        frame: visitor.frame(),
        token: visitor.form_token(),
        done: text::done(query.text("done")),
        problem: text::problem(query.text("problem")),
        id,
        row,
        url: webhook.uri.as_str().to_owned(),
        owner: webhook.owner.to_string(),
        owned: visitor.owns(&webhook),
        description: webhook.description.clone().unwrap_or_default(),
        headers: webhook.headers.iter().map(|(name, _)| name.to_owned()).collect(),
        properties: webhook.properties.as_map().iter().map(property).collect(),
        created_at: Moment(webhook.created_at),
        rate_limit: webhook.rate_limit,
        pace: webhook.pacing.interval.map(|seconds| format!("{seconds:.2}")),
        held_until: webhook.pacing.held_until((app.clock)()).map(Moment),
        secrets: webhook.secrets.len(),
        deliveries,
        resending,
        history: audit::recent(&app, &visitor, id).await?,
        history_path: audit::path(id),
    };
    Ok(page(StatusCode::OK, &shown))
}
