//! What would be sent, for a comparison with another server.

use chrono::{DateTime, Utc};
use fanfare_core::ids::{BatchKey, EventKey, WebhookId};
use fanfare_core::outcome::State;
use tokio_postgres::Row;

use crate::attempts::state;
use crate::error::StoreError;
use crate::events::EventPosition;
use crate::pool::Store;
use crate::rows::Columns as _;

/// An event with its deliveries to some webhooks.
#[derive(Debug, Clone)]
pub struct ComparedEvent {
    pub key: EventKey,
    /// The `CloudEvents` id.
    pub id: String,
    /// When it was received and its plan was decided.
    pub received_at: DateTime<Utc>,
    /// The notification that receivers get; null if its payload was removed.
    pub notification: String,
    pub deliveries: Vec<ComparedDelivery>,
}

/// A delivery of an event's plan.
#[derive(Debug, Clone)]
pub struct ComparedDelivery {
    pub webhook: WebhookId,
    pub state: State,
    /// The code of the reason for which it was dropped or is dead.
    pub reason: Option<String>,
    /// The reason in words.
    pub detail: Option<String>,
}

/// A part of the events, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct ComparedPage {
    pub events: Vec<ComparedEvent>,
    /// The position of the next page; `None` on the last one.
    pub next: Option<EventPosition>,
}

impl Store {
    /// Reads at most `limit` events after a position and before a time, the oldest first, each with its
    /// deliveries to these webhooks.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub async fn shadow_events(
        &self,
        webhooks: &[WebhookId],
        after: EventPosition,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<ComparedPage, StoreError> {
        const SQL: &str = include_str!("sql/shadow_events.sql");
        let ids: Vec<_> = webhooks.iter().map(|id| id.0).collect();
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let EventPosition { received_at, batch, position } = after;
        let client = self.connection("read what would be sent").await?;
        let rows =
            client.query(SQL, &[&ids, &received_at, &batch.0, &position, &until, &most]).await?;
        let mut page = ComparedPage::default();
        for row in &rows {
            let position = EventPosition {
                received_at: row.column("received_at")?,
                batch: BatchKey(row.column("batch")?),
                position: row.column("position")?,
            };
            // The deliveries of an event are in neighbouring rows.
            if page.next.replace(position) != Some(position) {
                page.events.push(event(row, position.received_at)?);
            }
            if let (Some(event), Some(delivery)) = (page.events.last_mut(), delivery(row)?) {
                event.deliveries.push(delivery);
            }
        }
        if page.events.len() < limit {
            page.next = None;
        }
        Ok(page)
    }
}

fn event(row: &Row, received_at: DateTime<Utc>) -> Result<ComparedEvent, StoreError> {
    Ok(ComparedEvent {
        key: EventKey(row.column("key")?),
        id: row.column("event_id")?,
        received_at,
        notification: row.column("notification")?,
        deliveries: Vec::new(),
    })
}

/// The delivery of a row; `None` if the event's plan has none of the webhooks.
fn delivery(row: &Row) -> Result<Option<ComparedDelivery>, StoreError> {
    let Some(webhook) = row.column("webhook")? else { return Ok(None) };
    let (reason, detail) = (row.column("reason")?, row.column("detail")?);
    Ok(Some(ComparedDelivery { webhook: WebhookId(webhook), state: state(row)?, reason, detail }))
}
