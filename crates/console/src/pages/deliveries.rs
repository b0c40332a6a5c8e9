//! A webhook's deliveries, the newest first: as a part of the webhook's page, and alone, for the
//! page to poll.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::outcome::State as DeliveryState;
use fanfare_store::deliveries::{Delivery, DeliveryFilter, Position};

use super::components::{Moment, shortened};
use super::error::PageError;
use super::fields::{self, Fields};
use super::page::page;
use super::visitor::{Id, Visitor};
use super::{WEBHOOKS, text};
use crate::app::{App, Shared};

/// The number of deliveries on a page.
const PAGE: i64 = 25;
/// The number of event types of a batch that are named.
const TYPES: usize = 3;

/// A part of the deliveries, with links to the others.
#[derive(Template)]
#[template(path = "deliveries.html")]
pub(super) struct Deliveries {
    pub(super) tabs: Vec<Tab>,
    pub(super) rows: Vec<Row>,
    /// The path that the page polls. Older deliveries, which rarely change, are not polled.
    pub(super) again: Option<String>,
    pub(super) first: Option<String>,
    pub(super) next: Option<String>,
    /// The state to which the list is limited.
    pub(super) state: Option<&'static str>,
}

/// A state that can be chosen.
pub(super) struct Tab {
    label: &'static str,
    path: String,
    chosen: bool,
}

/// A delivery in the list.
pub(super) struct Row {
    path: String,
    state: &'static str,
    class: &'static str,
    types: String,
    attempts: i32,
    last_status: Option<i32>,
    why: Option<String>,
    created_at: Moment,
    next_attempt_at: Option<Moment>,
}

/// `GET`: shows the list alone.
pub(crate) async fn list(
    State(app): State<Shared>,
    visitor: Visitor,
    Id(id): Id,
    uri: Uri,
) -> Result<Response, PageError> {
    let webhook = visitor.webhook(&app, id).await?;
    Ok(page(StatusCode::OK, &of(&app, webhook.id, &query(&uri)).await?))
}

/// Reads the fields of a query.
pub(super) fn query(uri: &Uri) -> Fields {
    Fields::parse(uri.query().unwrap_or_default().as_bytes())
}

/// Reads the deliveries of a webhook that a query selects.
pub(super) async fn of(app: &App, id: WebhookId, query: &Fields) -> Result<Deliveries, PageError> {
    let state = DeliveryState::parse(query.text("state"));
    let after = position(query.text("after"), id);
    let filter = DeliveryFilter {
        webhook: Some(id),
        state,
        after,
        limit: PAGE,
        ..DeliveryFilter::default()
    };
    let found = app.store.deliveries_page(&filter).await?;
    let base = format!("{WEBHOOKS}/{id}");
    let name = state.map_or("", DeliveryState::name);
    let next = found.next.map(|position| place(&position));
    let path = |base: &str, after: &str| fields::path(base, &[("state", name), ("after", after)]);
    Ok(Deliveries {
        tabs: tabs(&base, state),
        rows: found.deliveries.iter().map(|delivery| row(&base, delivery)).collect(),
        again: after.is_none().then(|| path(&format!("{base}/deliveries"), "")),
        first: after.map(|_| path(&base, "")),
        next: next.map(|place| path(&base, &place)),
        state: state.map(|state| text::state(state).0),
    })
}

fn tabs(base: &str, chosen: Option<DeliveryState>) -> Vec<Tab> {
    let tab = |state: DeliveryState| Tab {
        label: text::state(state).0,
        path: fields::path(base, &[("state", state.name())]),
        chosen: chosen == Some(state),
    };
    let all = Tab { label: "All", path: base.to_owned(), chosen: chosen.is_none() };
    std::iter::once(all).chain(DeliveryState::ALL.into_iter().map(tab)).collect()
}

fn row(base: &str, delivery: &Delivery) -> Row {
    let (state, class) = text::state(delivery.state);
    let why = delivery
        .detail
        .clone()
        .or_else(|| delivery.reason.as_deref().map(|reason| text::reason(reason).to_owned()));
    Row {
        path: format!("{base}/deliveries/{}", delivery.id),
        state,
        class,
        types: types(delivery),
        attempts: delivery.attempts,
        last_status: delivery.last_status,
        why: why.map(|why| shortened(&why, 160)),
        created_at: Moment(delivery.created_at),
        next_attempt_at: delivery.next_attempt_at.map(Moment),
    }
}

/// The types of a delivery's events, each of them once.
pub(super) fn types(delivery: &Delivery) -> String {
    let mut types: Vec<&str> = Vec::new();
    for one in &delivery.types {
        if !types.contains(&one.as_str()) {
            types.push(one);
        }
    }
    let named: Vec<String> = types.iter().take(TYPES).map(|one| shortened(one, 80)).collect();
    let more = if types.len() > TYPES { ", …" } else { "" };
    match delivery.types.len() {
        0 | 1 => named.concat(),
        events => format!("{events} events: {}{more}", named.join(", ")),
    }
}

/// Encodes a position in the list for an address.
fn place(position: &Position) -> String {
    let Position { at, batch, .. } = position;
    format!("{}.{}", at.timestamp_micros(), batch)
}

fn position(text: &str, webhook: WebhookId) -> Option<Position> {
    let (at, batch) = text.split_once('.')?;
    let at = chrono::DateTime::from_timestamp_micros(at.parse().ok()?)?;
    let batch: BatchKey = batch.parse().ok()?;
    Some(Position { at, batch, webhook })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_position_in_the_list_reads_back() {
        let webhook = WebhookId(Uuid::from_u128(7));
        let at = chrono::DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        let there = Position { at, batch: BatchKey(Uuid::from_u128(9)), webhook };
        assert_eq!(position(&place(&there), webhook), Some(there));
        for nonsense in ["", "1", "x.y", "1.2"] {
            assert_eq!(position(nonsense, webhook), None, "{nonsense}");
        }
    }
}
