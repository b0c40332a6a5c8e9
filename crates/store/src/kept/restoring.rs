//! Kept messages that the broker has lost, and what routers note about lost queues.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Kept, PAGE_BYTES, RETURN_MARGIN, kept};
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// How long a router that puts letters back keeps others from doing the same.
const LEASE: Duration = Duration::from_mins(1);

/// A dead letter queue that the broker has lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostQueue {
    /// The queue's name.
    pub queue: String,
    /// When a router found that it did not exist.
    pub missing_since: DateTime<Utc>,
}

impl Store {
    /// Leases messages that should have come back: at most `most`, and few megabytes. No other call
    /// gets them for a while, which doubles each time.
    pub async fn kept_overdue(&self, most: i64) -> Result<Vec<Kept>, StoreError> {
        const SQL: &str = "-- kept_overdue
            update kept_messages k
            set returns = k.returns + 1,
                return_at = greatest(now(), k.held_until)
                            + $2::float8 * interval '1 second' * (1 << least(k.returns, 10))
            from (
                select id, sum(octet_length(body)) over (order by return_at, id)
                           - octet_length(body) as before
                from (select id, body, return_at from kept_messages
                      where settled_at is null and return_at <= now()
                      order by return_at limit $1 for update skip locked) locked
            ) due
            where k.id = due.id and due.before < $3
            returning k.id, k.kind, k.properties, k.body";
        let client = self.connection("look for kept messages that are lost").await?;
        let margin = RETURN_MARGIN.as_secs_f64();
        let rows = client.query(SQL, &[&most, &margin, &PAGE_BYTES]).await?;
        rows.iter().map(kept).collect()
    }

    /// The undecided dead letters that were kept before `before`: a page of
    /// few megabytes, with ids above `after`.
    pub async fn kept_letters(
        &self,
        before: DateTime<Utc>,
        after: Uuid,
    ) -> Result<Vec<Kept>, StoreError> {
        const SQL: &str = "-- kept_letters
            select id, kind, properties, body
            from (
                select id, kind, properties, body,
                       sum(octet_length(body)) over (order by id) - octet_length(body) as before
                from (select id, kind, properties, body from kept_messages
                      where settled_at is null and kind = 'dead' and return_at is null
                        and recorded_at < $1 and id > $2
                      order by id limit 100) page
            ) sized
            where before < $3 order by id";
        let client = self.connection("read kept dead letters").await?;
        let rows = client.query(SQL, &[&before, &after, &PAGE_BYTES]).await?;
        rows.iter().map(kept).collect()
    }

    /// Notes that the broker has lost a dead letter queue, if any message is kept. It must be committed
    /// before the queue is declared again: afterwards its loss can't be seen.
    pub async fn lost_queue_note(&self, queue: &str) -> Result<bool, StoreError> {
        const SQL: &str = "-- lost_queue_note
            insert into lost_queues (queue, missing_since)
            select $1, now() where exists (select from kept_messages where settled_at is null)
            on conflict (queue) do update set missing_since = now()";
        let client = self.connection("note that a queue is lost").await?;
        client.execute(SQL, &[&queue]).await.map(|rows| rows > 0)
    }

    /// Leases a lost queue whose letters no other router puts back now.
    pub async fn lost_queue_lease(&self) -> Result<Option<LostQueue>, StoreError> {
        const SQL: &str = "-- lost_queue_lease
            update lost_queues set leased_until = now() + $1::float8 * interval '1 second'
            where queue = (select queue from lost_queues where leased_until <= now()
                           limit 1 for update skip locked)
            returning queue, missing_since";
        let client = self.connection("lease a lost queue").await?;
        let row = client.query_opt(SQL, &[&LEASE.as_secs_f64()]).await?;
        row.map(|row| {
            Ok(LostQueue {
                queue: row.column("queue")?,
                missing_since: row.column("missing_since")?,
            })
        })
        .transpose()
    }

    /// Extends the lease of a lost queue.
    pub async fn lost_queue_extend(&self, lost: &LostQueue) -> Result<(), StoreError> {
        const SQL: &str = "-- lost_queue_extend
            update lost_queues set leased_until = now() + $2::float8 * interval '1 second'
            where queue = $1";
        let client = self.connection("extend the lease of a lost queue").await?;
        client.execute(SQL, &[&lost.queue, &LEASE.as_secs_f64()]).await.map(drop)
    }

    /// Lets messages that waited when a queue was lost come back at once, at most `most`; returns how
    /// many. Their queues are most likely lost too.
    pub async fn lost_queue_hasten(&self, lost: &LostQueue, most: i64) -> Result<u64, StoreError> {
        const SQL: &str = "-- lost_queue_hasten
            update kept_messages set return_at = now()
            where id in (select id from kept_messages
                         where settled_at is null and return_at > now() and returns = 0
                           and recorded_at < $1
                         limit $2)";
        let client = self.connection("bring kept messages back").await?;
        client.execute(SQL, &[&lost.missing_since, &most]).await
    }

    /// Notes that the letters of a lost queue are back, unless it was lost again meanwhile.
    pub async fn lost_queue_done(&self, lost: &LostQueue) -> Result<(), StoreError> {
        const SQL: &str = "-- lost_queue_done
            delete from lost_queues where queue = $1 and missing_since = $2";
        let client = self.connection("note that a queue has its letters back").await?;
        client.execute(SQL, &[&lost.queue, &lost.missing_since]).await.map(drop)
    }
}
