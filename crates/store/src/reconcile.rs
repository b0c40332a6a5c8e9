//! The reconciler's look at the ledger: what is settled, and what got lost on the way.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::Due;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::pool::Store;

/// What the queues hold right now. What still waits in one is not lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// No first attempt waits.
    pub deliveries: bool,
    /// No due attempt waits.
    pub retries: bool,
}

/// What one look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Events looked at.
    pub looked: usize,
    /// Events of which nothing is owed any more; they are marked.
    pub settled: usize,
    /// Deliveries of which nothing was ever done.
    pub unattempted: Vec<Due>,
    /// Deliveries whose next attempt should have been made.
    pub overdue: Vec<Due>,
}

impl Store {
    /// Looks at unsettled events whose time has come, at most `limit`, and sets when to look next.
    ///
    /// `None` when another router is looking.
    pub async fn reconcile(&self, limit: i64, idle: Idle) -> Result<Option<Found>, StoreError> {
        // A delivery is overdue a minute after its time. Events that wait for a due attempt are
        // looked at again when it should be over, others in a minute, and those whose jobs are
        // published again in five, so that copies do not pile up.
        const SQL: &str = "-- reconcile
            with looked as (
                select key, batch, webhooks from events
                where look_at <= now() order by look_at limit $1
            ), owed as (
                select distinct l.batch, p.webhook
                from looked l cross join unnest(l.webhooks) as p(webhook)
            ), standing as (
                select o.batch, o.webhook, a.entry, a.state, a.next_attempt_at,
                       a.entry is null as unattempted,
                       a.state in ('pending', 'retrying') as open,
                       a.state in ('pending', 'retrying')
                           and coalesce(a.next_attempt_at, a.at) < now() - interval '60 seconds'
                           as overdue
                from owed o
                left join lateral (select * from attempts a
                                   where a.batch = o.batch and a.webhook = o.webhook
                                   order by a.entry desc limit 1) a on true
            ), verdict as (
                select batch,
                       bool_or(unattempted or open) as owing,
                       bool_or((unattempted and $2) or (overdue and $3)) as again,
                       max(next_attempt_at) filter (where open and not overdue) as due
                from standing group by batch
            ), marked as (
                update events e
                set look_at = case when not v.owing then null
                                   when v.again then now() + interval '5 minutes'
                                   else greatest(v.due, now()) + interval '60 seconds' end
                from looked l join verdict v using (batch)
                where e.key = l.key
                returning e.key, e.look_at
            )
            select s.batch, s.webhook, s.entry, s.unattempted,
                   (select count(*) from looked), (select count(*) from marked where look_at is null)
            from (select 1) one
            left join standing s on (s.unattempted and $2) or (s.overdue and $3)";
        const LOCK: &str =
            "-- reconcile\nselect pg_try_advisory_xact_lock(hashtext('fanfare.reconcile'))";
        let doing = "reconcile the ledger";
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::at(doing))?;
        let ours: bool = transaction
            .query_one(LOCK, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(StoreError::at(doing))?;
        if !ours {
            return Ok(None);
        }
        let rows = transaction
            .query(SQL, &[&limit, &idle.deliveries, &idle.retries])
            .await
            .map_err(StoreError::at(doing))?;
        let found = found(&rows).map_err(StoreError::at(doing))?;
        transaction.commit().await.map_err(StoreError::at(doing))?;
        Ok(Some(found))
    }

    /// Has the reconciler look at the events of batches only when what waits for so long should have
    /// come back. Written at most about once a minute for each event.
    pub async fn events_look_later(
        &self,
        batches: &[BatchKey],
        wait: Duration,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- events_look_later
            update events
            set look_at = now() + ($2::float8 + 120) * interval '1 second'
            where batch = any($1)
              and look_at < now() + ($2::float8 + 60) * interval '1 second'";
        let doing = "note deferred deliveries";
        let batches: Vec<uuid::Uuid> = batches.iter().map(|batch| batch.0).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        client
            .execute(&statement, &[&batches, &wait.as_secs_f64()])
            .await
            .map_err(StoreError::at(doing))?;
        Ok(())
    }

    /// Removes claims that ran out long ago; returns how many.
    pub async fn claims_sweep(&self) -> Result<u64, StoreError> {
        const SQL: &str = "-- claims_sweep
            delete from claims where until < now() - interval '1 minute'";
        let client = self.client().await?;
        client.execute(SQL, &[]).await.map_err(StoreError::at("remove old claims"))
    }

    /// When the oldest unsettled event was taken in.
    pub async fn oldest_unsettled(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        const SQL: &str = "-- oldest_unsettled
            select min(received_at) from events where look_at is not null";
        let client = self.client().await?;
        client
            .query_one(SQL, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(StoreError::at("look for the oldest event"))
    }
}

fn found(rows: &[Row]) -> Result<Found, tokio_postgres::Error> {
    let mut found = Found::default();
    for row in rows {
        let count = |index| row.try_get::<_, i64>(index).map(|n| usize::try_from(n).unwrap_or(0));
        (found.looked, found.settled) = (count(4)?, count(5)?);
        let batch: Option<uuid::Uuid> = row.try_get(0)?;
        let Some(batch) = batch else { continue };
        let entry: Option<i32> = row.try_get(2)?;
        let due = Due {
            batch: BatchKey(batch),
            webhook: WebhookId(row.try_get(1)?),
            entry: entry.unwrap_or(0) + 1,
        };
        let unattempted: bool = row.try_get(3)?;
        if unattempted {
            found.unattempted.push(due);
        } else {
            found.overdue.push(due);
        }
    }
    Ok(found)
}
