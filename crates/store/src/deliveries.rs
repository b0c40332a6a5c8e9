//! Deliveries for people: listed, shown with their attempts, asked for again.

mod page;
mod position;
mod query_shape;
mod resend;
mod restart;
mod window;

use chrono::{DateTime, Utc};
use fanfare_core::answer::Trace;
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::error::StoreError;
use crate::pool::Store;

pub use page::DeliveryPage;
pub use position::Position;
pub use resend::{NewResend, Resend, ResendEnd, ResendProgress};

/// Which deliveries to list; `None` does not ask.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Of this webhook.
    pub webhook: Option<WebhookId>,
    /// Of the event with this `CloudEvents` id.
    pub event: Option<String>,
    /// Of this owner's webhooks.
    pub owner: Option<Name>,
    /// Standing so.
    pub state: Option<State>,
    /// Taken in at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Taken in before this time.
    pub until: Option<DateTime<Utc>>,
    /// After this place of the list: a page that is not the first.
    pub after: Option<Position>,
    /// At most so many, the newest first.
    pub limit: i64,
}

/// A delivery as people see it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The Id that receivers see.
    pub id: DeliveryId,
    /// The webhook.
    pub webhook: WebhookId,
    /// Its owner.
    pub owner: Option<String>,
    /// Its URI.
    pub uri: Option<String>,
    /// The `CloudEvents` ids of its events, in order.
    pub events: Vec<String>,
    /// Their types.
    pub types: Vec<String>,
    /// Where it stands.
    pub state: State,
    /// POSTs so far.
    pub attempts: i32,
    /// HTTP status of the last POST, if it got an answer.
    pub last_status: Option<i32>,
    /// Why it was dropped or is dead.
    pub reason: Option<String>,
    /// The reason in words, or what its last POST left out and why.
    pub detail: Option<String>,
    /// The directory revision that the last decision was made by, if it was not the plan's own.
    pub revision: Option<i64>,
    /// When its events were taken in.
    pub created_at: DateTime<Utc>,
    /// When it came to its end.
    pub finished_at: Option<DateTime<Utc>>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// One POST of a delivery.
#[derive(Debug, Clone)]
pub struct AttemptLog {
    /// Its number, from 1.
    pub attempt: i32,
    /// When it began.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: Option<i32>,
    /// HTTP status, if there was an answer.
    pub status: Option<i32>,
    /// The outcome's code.
    pub outcome: String,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub response_body: Option<String>,
    /// How it went; `None` for a plain success over a connection that was open already.
    pub trace: Option<Trace>,
}

impl Store {
    /// A delivery and its POSTs in order.
    pub async fn delivery_show(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Vec<AttemptLog>)>, StoreError> {
        const SQL: &str = "-- delivery_show
            select attempt, at, duration_ms, status, outcome, error, response_body,
                   trace
            from attempts where batch = $1 and webhook = $2 and outcome is not null
            order by entry";
        let doing = "show the delivery";
        let Some((batch, webhook)) = self.delivery_find(id).await? else {
            return Ok(None);
        };
        let Some(delivery) = self.delivery_one(batch, webhook).await? else {
            return Ok(None);
        };
        let client = self.client().await?;
        let rows =
            client.query(SQL, &[&batch.0, &webhook.0]).await.map_err(StoreError::at(doing))?;
        let log = rows.iter().map(attempt_log).collect::<Result<_, _>>();
        Ok(Some((delivery, log.map_err(StoreError::at(doing))?)))
    }
}

fn attempt_log(row: &Row) -> Result<AttemptLog, tokio_postgres::Error> {
    Ok(AttemptLog {
        attempt: row.try_get(0)?,
        at: row.try_get(1)?,
        duration_ms: row.try_get(2)?,
        status: row.try_get(3)?,
        outcome: row.try_get(4)?,
        error: row.try_get(5)?,
        response_body: row.try_get(6)?,
        trace: row.try_get::<_, Option<Json<Trace>>>(7)?.map(|Json(trace)| trace),
    })
}
