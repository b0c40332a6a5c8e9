//! The reconciler's statements: they find settled events and lost jobs in the ledger.
//!
//! A job is lost when its queue has passed the time at which it was enqueued, and its deliveries
//! have no trace of it. An event waits either for first attempts in the delivery queues
//! (`first_pending`) or for jobs from `fanfare.retries`, and each kind has an index. `queued_at` is
//! the time at which the job that the event waits for enters that queue, so events that a queue has
//! not passed are not even read.
//!
//! There are three steps, so that a lost answer or a crash may duplicate a job but never loses one.
//! The lost jobs are found and leased for some seconds, they are published, and that is recorded.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::AttemptRef;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::located::Located;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// The progress of the queues: jobs that were enqueued before these times were delivered to
/// workers, or lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// The slowest of the delivery queues; `None` when the progress of one is not known.
    pub deliveries: Option<DateTime<Utc>>,
    /// `fanfare.retries`; `None` when its progress is not known.
    pub retries: Option<DateTime<Utc>>,
}

/// The result of one pass over the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The time of the pass, by the database's clock.
    pub at: DateTime<Utc>,
    /// The number of events that were checked.
    pub checked: usize,
    /// The number of these that were found to be settled, and are marked so now.
    pub settled: usize,
    /// Deliveries without any trace, whose jobs the delivery queues have lost.
    pub unattempted: Vec<AttemptRef>,
    /// Deliveries whose job for the next attempt should have come from `fanfare.retries`.
    pub overdue: Vec<AttemptRef>,
}

impl Store {
    /// Checks unsettled events that the queues have passed, at most `limit` for each kind of queue.
    ///
    /// Lost jobs are leased for ten seconds, so that no other router finds them meanwhile. The
    /// caller records their publishing by [`reconcile_published`](Self::reconcile_published).
    /// `None` while another router makes a pass.
    pub async fn reconcile(&self, limit: i64, passed: Passed) -> Result<Option<Found>, StoreError> {
        // The two seconds are for routers that publish jobs in another order than they store
        // events. A valid claim is an attempt under way; it says nothing about an older attempt.
        const SQL: &str = include_str!("sql/reconcile.sql");
        const LOCK: &str = "-- reconcile
            select pg_try_advisory_xact_lock(hashtext('fanfare.reconcile')) as locked";
        let mut client = self.connection("reconcile the ledger").await?;
        let transaction = client.transaction().await?;
        if !transaction.query_one(&Cached(LOCK), &[]).await?.column("locked")? {
            return Ok(None);
        }
        let rows =
            transaction.query(&Cached(SQL), &[&limit, &passed.deliveries, &passed.retries]).await?;
        let found = found(&rows)?;
        transaction.commit().await?;
        Ok(found)
    }

    /// Records that jobs of these deliveries were published again at `at`, to `fanfare.retries`.
    pub async fn reconcile_published(
        &self,
        dues: &[AttemptRef],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- reconcile_published
            update events
            set queued_at = $2, look_at = $2 + interval '20 seconds', first_pending = false
            where (batch, received_at) in (select * from unnest($1::uuid[], $3::timestamptz[]))
              and received_at between $4 and $5 and look_at is not null and queued_at < $2";
        self.reconcile_note(SQL, dues, at).await
    }

    /// Records that jobs of these deliveries may be in a delivery queue whose progress is not known.
    /// They are checked again as if they had been enqueued at `at`.
    pub async fn reconcile_postponed(
        &self,
        dues: &[AttemptRef],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- reconcile_postponed
            update events set queued_at = $2, look_at = $2 + interval '20 seconds'
            where (batch, received_at) in (select * from unnest($1::uuid[], $3::timestamptz[]))
              and received_at between $4 and $5 and look_at is not null and queued_at < $2";
        self.reconcile_note(SQL, dues, at).await
    }

    async fn reconcile_note(
        &self,
        sql: &str,
        dues: &[AttemptRef],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let batches: Vec<uuid::Uuid> = dues.iter().map(|due| due.batch.0).collect();
        let Located { times, oldest, newest } = self.locate(dues).await?;
        let client = self.connection("record what became of lost jobs").await?;
        client.execute(sql, &[&batches, &at, &times, &oldest, &newest]).await?;
        Ok(())
    }

    /// Records that deliveries were deferred, each with its wait, so that the reconciler does not
    /// treat their jobs as lost.
    pub async fn claims_defer(
        &self,
        deferred: &[(AttemptRef, Duration)],
    ) -> Result<(), StoreError> {
        // The commit does not wait for the disk. If it is lost, the reconciler publishes a copy of
        // the job; one of the two copies is claimed, and the history then passes the other.
        const SQL: &str = "-- claims_defer
            with quick as (select set_config('synchronous_commit', 'off', true))
            insert into claims (batch, webhook, entry, until, deferred_until)
            select distinct on (batch, webhook) batch, webhook, entry, now(),
                   now() + wait * interval '1 second'
            from unnest($1::uuid[], $2::uuid[], $3::int[], $4::float8[])
                as d(batch, webhook, entry, wait), quick
            order by batch, webhook, wait desc
            on conflict (batch, webhook) do update set deferred_until = excluded.deferred_until";
        let column = |of: fn(&AttemptRef) -> uuid::Uuid| -> Vec<uuid::Uuid> {
            deferred.iter().map(|(due, _)| of(due)).collect()
        };
        let entries: Vec<i32> = deferred.iter().map(|(due, _)| due.sequence).collect();
        let waits: Vec<f64> = deferred.iter().map(|(_, wait)| wait.as_secs_f64()).collect();
        let client = self.connection("record deferred deliveries").await?;
        client
            .execute(
                &Cached(SQL),
                &[&column(|due| due.batch.0), &column(|due| due.webhook.0), &entries, &waits],
            )
            .await?;
        Ok(())
    }

    /// Removes claims that expired long ago from a part of the table: at most `pages` pages from
    /// the page `from` on. Returns the page at which the next part begins; 0 at the end of the
    /// table, or while another process sweeps. A claim whose attempt was never recorded is kept for
    /// a day, since the next claim must count it.
    ///
    /// The sweep reads pages and uses no index. An index over a column that changes with every
    /// claim would cost each claim more than a scan of a small table costs.
    pub async fn claims_sweep(&self, from: i64, pages: i64) -> Result<i64, StoreError> {
        const SQL: &str = "-- claims_sweep
            delete from claims c
            where ctid >= format('(%s,0)', $1::bigint)::tid
              and ctid < format('(%s,0)', $2::bigint)::tid
              and greatest(until, deferred_until) < now() - interval '2 minutes'
              and (until < now() - interval '1 day' or (token is null and unrecorded = 0)
                   or exists (select from event_keys k cross join lateral (
                                  select from attempts a
                                  where a.batch = c.batch and a.webhook = c.webhook
                                    and a.entry >= c.entry and a.received_at = k.received_at
                                  offset 0) a
                              where k.key = c.batch))";
        const LOCK: &str = "-- claims_sweep
            select pg_try_advisory_xact_lock(hashtext('fanfare.claims_sweep')) as locked,
                   pg_relation_size('claims') / current_setting('block_size')::bigint as pages";
        let mut client = self.connection("remove old claims").await?;
        let transaction = client.transaction().await?;
        let row = transaction.query_one(LOCK, &[]).await?;
        let size: i64 = row.column("pages")?;
        if !row.column::<bool>("locked")? || from >= size {
            return Ok(0);
        }
        let next = from.saturating_add(pages);
        transaction.execute(SQL, &[&from, &next]).await?;
        transaction.commit().await?;
        Ok(if next < size { next } else { 0 })
    }

    /// The time at which the oldest unsettled event was received.
    pub async fn oldest_unsettled(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        // The order is that of the index, so the first entry is the answer.
        const SQL: &str = "-- oldest_unsettled
            select received_at from events where look_at is not null
            order by received_at, batch limit 1";
        let client = self.connection("look for the oldest event").await?;
        let row = client.query_opt(SQL, &[]).await?;
        row.map(|row| row.column("received_at")).transpose()
    }
}

/// Reads the columns of `reconcile`; it always answers at least one row.
fn found(rows: &[Row]) -> Result<Option<Found>, StoreError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let count = |name| first.column::<i64>(name).map(|n| usize::try_from(n).unwrap_or(0));
    let mut found = Found {
        at: first.column("now")?,
        checked: count("checked")?,
        settled: count("settled")?,
        unattempted: Vec::new(),
        overdue: Vec::new(),
    };
    for row in rows {
        let Some(batch) = row.column("batch")? else { continue };
        let entry: Option<i32> = row.column("entry")?;
        let due = AttemptRef {
            batch: BatchKey(batch),
            webhook: WebhookId(row.column("webhook")?),
            sequence: entry.unwrap_or(0) + 1,
            received_at: row.column("received_at")?,
        };
        if row.column("unattempted")? {
            found.unattempted.push(due);
        } else {
            found.overdue.push(due);
        }
    }
    Ok(Some(found))
}
