//! Payloads: events' data and answers' bodies, which are removed before the facts are.
//!
//! They are removed by a function of the database (`migrations/V1`), a few batches at a time in the
//! order of their rows, which remembers how far it has come. Rows stay in their partition, and a mark
//! says why the payload is gone.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::StoreError;
use crate::pool::Store;
use crate::retention::{is_busy, positive};
use crate::rows::Columns as _;

/// The most batches of one step: a few thousand rows, which takes a fraction of a second.
const BATCHES: i32 = 1000;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The events whose data was removed.
    pub events: i64,
    /// The answers whose bodies were removed.
    pub answers: i64,
    /// Whether there may be more that are too old.
    pub more: bool,
}

impl Store {
    /// Removes payloads of some batches that were routed at least `age` ago. Batches that are
    /// unsettled, or have an undecided dead letter, keep theirs, and are looked at again later. `None`:
    /// another process is at it, or a lock was not free in time.
    pub async fn payloads_remove(&self, age: Duration) -> Result<Option<Removed>, StoreError> {
        const SQL: &str = "-- payloads_remove
            select events_removed, answers_removed, more
            from remove_payloads(now() - $1::float8 * interval '1 second', $2)";
        let client = self.connection("remove payloads").await?;
        let row = match client.query_opt(SQL, &[&age.as_secs_f64(), &BATCHES]).await {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(None),
            Err(error) if is_busy(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Removed {
            events: row.column("events_removed")?,
            answers: row.column("answers_removed")?,
            more: row.column("more")?,
        }))
    }

    /// The time before which all payloads are removed, except those that are still needed.
    pub async fn payloads_removed_before(&self) -> Result<DateTime<Utc>, StoreError> {
        const SQL: &str = "-- payloads_removed_before\nselect received_at from payload_progress";
        let client = self.connection("see how far payloads are removed").await?;
        client.query_one(SQL, &[]).await?.column("received_at")
    }

    /// For how long the oldest payload should have been removed, if payloads are kept for `age` seconds.
    pub(crate) async fn payloads_overdue(&self, age: f64) -> Result<Duration, StoreError> {
        const SQL: &str = "-- payloads_overdue
            select extract(epoch from now() - e.received_at)::float8 - $1::float8 as overdue
            from events e
            where e.received_at >= (select received_at from payload_progress)
              and (e.received_at, e.batch)
                  > ((select received_at from payload_progress), (select batch from payload_progress))
            order by e.received_at limit 1";
        let client = self.connection("see how far payloads are removed").await?;
        let row = client.query_opt(SQL, &[&age]).await?;
        row.map_or(Ok(Duration::ZERO), |row| positive(&row, "overdue"))
    }
}
