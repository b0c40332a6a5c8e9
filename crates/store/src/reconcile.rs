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
                select o.batch, o.webhook, a.entry,
                       c.deferred_until,
                       a.entry is null or a.state in ('pending', 'retrying') as open,
                       a.entry is null
                           and coalesce(c.deferred_until < now() - interval '60 seconds', true)
                           as unattempted,
                       a.state in ('pending', 'retrying')
                           and greatest(coalesce(a.next_attempt_at, a.at), c.deferred_until)
                               < now() - interval '60 seconds'
                           as overdue,
                       greatest(a.next_attempt_at, c.deferred_until) as due
                from owed o
                left join lateral (select * from attempts a
                                   where a.batch = o.batch and a.webhook = o.webhook
                                   order by a.entry desc limit 1) a on true
                left join claims c on c.batch = o.batch and c.webhook = o.webhook
            ), verdict as (
                select batch,
                       bool_or(open) as owing,
                       bool_or((unattempted and $2 and $3) or (overdue and $3)) as again,
                       min(coalesce(due, now()))
                           filter (where open and not coalesce(overdue, false)) as due
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
            left join standing s on (s.unattempted and $2 and $3) or (s.overdue and $3)";
        const LOCK: &str =
            "-- reconcile\nselect pg_try_advisory_xact_lock(hashtext('fanfare.reconcile'))";
        let doing = "reconcile the ledger";
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::at(doing))?;
        let lock = transaction.prepare_cached(LOCK).await.map_err(StoreError::at(doing))?;
        let ours: bool = transaction
            .query_one(&lock, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(StoreError::at(doing))?;
        if !ours {
            return Ok(None);
        }
        let statement = transaction.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        let rows = transaction
            .query(&statement, &[&limit, &idle.deliveries, &idle.retries])
            .await
            .map_err(StoreError::at(doing))?;
        let found = found(&rows).map_err(StoreError::at(doing))?;
        transaction.commit().await.map_err(StoreError::at(doing))?;
        Ok(Some(found))
    }

    /// Notes that deliveries were deferred, each with its wait, so that the reconciler does not take
    /// them for lost.
    pub async fn claims_defer(&self, deferred: &[(Due, Duration)]) -> Result<(), StoreError> {
        // Not waited for until it is on the disk: if it is lost, the reconciler sends a copy round,
        // of two copies one is claimed, and the other is then past.
        const SQL: &str = "-- claims_defer
            with quick as (select set_config('synchronous_commit', 'off', true))
            insert into claims (batch, webhook, entry, until, deferred_until)
            select distinct on (batch, webhook) batch, webhook, entry, now(),
                   now() + wait * interval '1 second'
            from unnest($1::uuid[], $2::uuid[], $3::int[], $4::float8[])
                as d(batch, webhook, entry, wait), quick
            order by batch, webhook, wait desc
            on conflict (batch, webhook) do update set deferred_until = excluded.deferred_until";
        let doing = "note deferred deliveries";
        let column = |of: fn(&Due) -> uuid::Uuid| -> Vec<uuid::Uuid> {
            deferred.iter().map(|(due, _)| of(due)).collect()
        };
        let entries: Vec<i32> = deferred.iter().map(|(due, _)| due.entry).collect();
        let waits: Vec<f64> = deferred.iter().map(|(_, wait)| wait.as_secs_f64()).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        client
            .execute(
                &statement,
                &[&column(|due| due.batch.0), &column(|due| due.webhook.0), &entries, &waits],
            )
            .await
            .map_err(StoreError::at(doing))?;
        Ok(())
    }

    /// Removes claims that ran out long ago; returns how many. One whose attempt was never recorded
    /// is kept for a day, since the next claim must count it.
    pub async fn claims_sweep(&self) -> Result<u64, StoreError> {
        const SQL: &str = "-- claims_sweep
            delete from claims c
            where greatest(until, deferred_until) < now() - interval '2 minutes'
              and (until < now() - interval '1 day' or (token is null and unrecorded = 0)
                   or exists (select from attempts a where a.batch = c.batch
                              and a.webhook = c.webhook and a.entry >= c.entry))";
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
