//! Deliveries for people: how they are listed, shown with their attempts, and sent again.

mod page;
mod position;
mod query_shape;
mod restart;
pub(crate) mod window;

use chrono::{DateTime, Utc};
use fanfare_core::answer::Trace;
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use fanfare_core::payload::WhyRemoved;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

pub use page::DeliveryPage;
pub(crate) use page::why_removed;
pub use position::Position;
pub use restart::RestartScope;

/// The conditions of a list of deliveries; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    pub webhook: Option<WebhookId>,
    /// The `CloudEvents` id of one of its events.
    pub event: Option<String>,
    pub owner: Option<Name>,
    pub state: Option<State>,
    /// Received at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Received before this time.
    pub until: Option<DateTime<Utc>>,
    /// The position after which the page begins; `None` for the first page.
    pub after: Option<Position>,
    /// The most deliveries of a page.
    pub limit: i64,
}

/// A delivery as people see it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The Id that receivers see.
    pub id: DeliveryId,
    pub webhook: WebhookId,
    /// The webhook's owner.
    pub owner: Option<String>,
    /// The webhook's URI.
    pub uri: Option<String>,
    /// The `CloudEvents` ids of its events, in order.
    pub events: Vec<String>,
    /// The types of its events, in the same order.
    pub types: Vec<String>,
    pub state: State,
    /// The number of POSTs so far.
    pub attempts: i32,
    /// HTTP status of the last POST, if it got an answer.
    pub last_status: Option<i32>,
    /// The code of the reason for which it was dropped or is dead.
    pub reason: Option<String>,
    /// The reason in words, or the events that its last POST left out and why.
    pub detail: Option<String>,
    /// The directory revision of the last decision, unless it is that of the plan.
    pub revision: Option<i64>,
    /// When its events were received.
    pub created_at: DateTime<Utc>,
    /// When it was delivered, dropped or given up.
    pub finished_at: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Why the payload of one of its events was removed; `None` while all are there.
    pub payload_removed: Option<WhyRemoved>,
}

/// One POST of a delivery.
#[derive(Debug, Clone)]
pub struct AttemptLog {
    /// The number of the POST, from 1.
    pub attempt: i32,
    /// When the POST began.
    pub at: DateTime<Utc>,
    pub duration_ms: Option<i32>,
    /// HTTP status, if there was an answer.
    pub status: Option<i32>,
    /// The code of the outcome.
    pub outcome: String,
    pub error: Option<String>,
    /// The beginning of the response's body.
    pub response_body: Option<String>,
    /// Why the response's body was removed; `None` if it was not.
    pub payload_removed: Option<WhyRemoved>,
    /// The course of the exchange; `None` for a plain success over a connection that was open
    /// already.
    pub trace: Option<Trace>,
}

impl Store {
    /// Reads a delivery and its POSTs in order.
    pub async fn delivery_show(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Vec<AttemptLog>)>, StoreError> {
        const SQL: &str = "-- delivery_show
            select attempt, at, duration_ms, status, outcome, error, response_body,
                   trace, payload_removed
            from attempts
            where batch = $1 and webhook = $2 and received_at = $3 and outcome is not null
            order by entry";
        let Some((batch, webhook, received_at)) = self.delivery_locate(id).await? else {
            return Ok(None);
        };
        let Some(delivery) = self.delivery_one(batch, webhook, received_at).await? else {
            return Ok(None);
        };
        let client = self.connection("show the delivery").await?;
        let rows = client.query(SQL, &[&batch.0, &webhook.0, &received_at]).await?;
        let log = rows.iter().map(attempt_log).collect::<Result<_, _>>();
        Ok(Some((delivery, log?)))
    }
}

fn attempt_log(row: &Row) -> Result<AttemptLog, StoreError> {
    Ok(AttemptLog {
        attempt: row.column("attempt")?,
        at: row.column("at")?,
        duration_ms: row.column("duration_ms")?,
        status: row.column("status")?,
        outcome: row.column("outcome")?,
        error: row.column("error")?,
        response_body: row.column("response_body")?,
        payload_removed: why_removed(row)?,
        trace: row.column::<Option<Json<Trace>>>("trace")?.map(|Json(trace)| trace),
    })
}
