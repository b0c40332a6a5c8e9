//! The health of webhooks: the attempts of the last 24 hours, and the last attempt of all.
//!
//! An attempt is counted once, some time after it began, when its row must be in the ledger: in
//! `webhook_hours` for the bars, and in `webhook_health` for sorting. Newer attempts are counted
//! for each query, among the newest rows. So the cost of a query does not depend on the number of
//! attempts of a day or of a webhook, and workers need not count anything.
//!
//! A row that is written after the time for which [`health_count`](Store::health_count) waits is
//! not counted here, for instance after an outage of the database. `statistics` counts exactly.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Transaction;
use fanfare_core::ids::WebhookId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;

/// The number of hours that are kept, including the current one.
pub const HOURS: usize = 24;

/// The longest time that one step counts: a day in one statement would take long on a busy system.
const STEP: TimeDelta = TimeDelta::hours(1);

/// The lag of the counting from which on there are too many newer attempts to count for a page.
const BEHIND: TimeDelta = TimeDelta::minutes(10);

/// The health of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The last hours, the oldest first.
    pub hours: [Hour; HOURS],
    /// The last attempt, however old; `None` without any.
    pub last: Option<Last>,
}

/// The attempts of an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hour {
    pub succeeded: u64,
    pub failed: u64,
}

/// The last attempt of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// When it began.
    pub at: DateTime<Utc>,
    /// The code of the outcome.
    pub outcome: String,
    /// HTTP status, if there was an answer.
    pub status: Option<i32>,
}

/// The result of one step of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// There are more attempts to count now.
    More,
    /// All attempts that are old enough are counted, or another process is counting.
    All,
}

/// The progress of the counting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountProgress {
    /// Attempts that began before this time are counted.
    pub(crate) to: DateTime<Utc>,
    /// Whether the other attempts are few enough to count for a page.
    pub(crate) is_near: bool,
    /// The beginning of the oldest hour.
    begin: DateTime<Utc>,
}

impl Store {
    /// Makes a step: it counts attempts that began longer than `settled` ago by the database's
    /// clock, since the rows of these must be in the ledger. If several processes call this, one of
    /// them counts.
    pub async fn health_count(&self, settled: Duration) -> Result<Counted, StoreError> {
        const NEXT: &str = "-- health_count
            select greatest(counted_to, date_trunc('hour', now(), 'UTC') - interval '23 hours'),
                   now() - $1::float8 * interval '1 second'
            from health_state for update skip locked";
        const ADVANCE: &str = "-- health_count\nupdate health_state set counted_to = $1";
        let doing = "count attempts";
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::at(doing))?;
        let row = transaction.query_opt(NEXT, &[&settled.as_secs_f64()]).await;
        let Some(row) = row.map_err(StoreError::at(doing))? else {
            return Ok(Counted::All);
        };
        let read = || Ok((row.try_get(0)?, row.try_get(1)?));
        let (begin, now): (DateTime<Utc>, DateTime<Utc>) = read().map_err(StoreError::at(doing))?;
        let end = now.min(begin + STEP);
        if end <= begin {
            return Ok(Counted::All);
        }
        add(&transaction, begin, end).await.map_err(StoreError::at(doing))?;
        if hour(begin) != hour(end) {
            forget(&transaction).await.map_err(StoreError::at(doing))?;
        }
        transaction.execute(ADVANCE, &[&end]).await.map_err(StoreError::at(doing))?;
        transaction.commit().await.map_err(StoreError::at(doing))?;
        Ok(if end < now { Counted::More } else { Counted::All })
    }

    /// Reads the health of these webhooks; `None` while the counting lags too far behind.
    pub async fn health(
        &self,
        webhooks: &[WebhookId],
    ) -> Result<Option<HashMap<WebhookId, Health>>, StoreError> {
        const COUNTS: &str = "-- health
            select webhook, hour, succeeded, failed
            from webhook_hours where webhook = any($1) and hour >= $2
            union all
            select webhook, date_trunc('hour', at, 'UTC'),
                   count(*) filter (where outcome = 'delivered'),
                   count(*) filter (where outcome <> 'delivered')
            from attempts
            where at >= $3 and webhook = any($1) and outcome is not null
            group by 1, 2";
        const LASTS: &str = "-- health
            select distinct on (webhook) webhook, at, outcome, status
            from (select webhook, at, outcome, status from webhook_health where webhook = any($1)
                  union all
                  select webhook, at, outcome, status from attempts
                  where at >= $2 and webhook = any($1) and outcome is not null) attempted
            order by webhook, at desc";
        let doing = "read the health of webhooks";
        let progress = self.count_progress().await?;
        if !progress.is_near {
            return Ok(None);
        }
        let ids: Vec<Uuid> = webhooks.iter().map(|id| id.0).collect();
        let client = self.client().await?;
        let counts = client.query(COUNTS, &[&ids, &progress.begin, &progress.to]).await;
        let counts = counts.map_err(StoreError::at(doing))?;
        let lasts = client.query(LASTS, &[&ids, &progress.to]).await;
        let lasts = lasts.map_err(StoreError::at(doing))?;
        drop(client);
        let nothing = Health { hours: [Hour::default(); HOURS], last: None };
        let mut found: HashMap<WebhookId, Health> =
            webhooks.iter().map(|id| (*id, nothing.clone())).collect();
        let mut read = || {
            for row in &counts {
                add_count(&mut found, row, progress.begin)?;
            }
            for row in &lasts {
                if let Some(health) = found.get_mut(&WebhookId(row.try_get(0)?)) {
                    health.last = Some(last(row)?);
                }
            }
            Ok(())
        };
        read().map_err(StoreError::at(doing))?;
        Ok(Some(found))
    }

    pub(crate) async fn count_progress(&self) -> Result<CountProgress, StoreError> {
        const SQL: &str = "-- health_standing
            select counted_to, now(), date_trunc('hour', now(), 'UTC') - interval '23 hours'
            from health_state";
        let client = self.client().await?;
        let row = client.query_one(SQL, &[]).await;
        let progress = row.and_then(|row| {
            let (to, now): (DateTime<Utc>, DateTime<Utc>) = (row.try_get(0)?, row.try_get(1)?);
            Ok(CountProgress { to, is_near: now - to < BEHIND, begin: row.try_get(2)? })
        });
        progress.map_err(StoreError::at("read how far attempts are counted"))
    }
}

/// Adds the attempts that began from `begin` on and before `end`.
async fn add(
    transaction: &Transaction<'_>,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<(), tokio_postgres::Error> {
    const SQL: &str = "-- health_add
        with made as materialized (
            select webhook, at, outcome, status, (outcome = 'delivered')::int as succeeded
            from attempts where at >= $1 and at < $2 and outcome is not null
        ), hours as (
            insert into webhook_hours as h (webhook, hour, succeeded, failed)
            select webhook, date_trunc('hour', at, 'UTC'), sum(succeeded), sum(1 - succeeded)
            from made group by 1, 2 order by 1, 2
            on conflict (webhook, hour) do update
                set succeeded = h.succeeded + excluded.succeeded,
                    failed = h.failed + excluded.failed
        ), sums as (
            select webhook, sum(succeeded) as succeeded, sum(1 - succeeded) as failed
            from made group by webhook
        ), lasts as (
            select distinct on (webhook) webhook, at, outcome, status
            from made order by webhook, at desc
        )
        insert into webhook_health as h (webhook, succeeded, failed, at, outcome, status)
        select webhook, s.succeeded, s.failed, l.at, l.outcome, l.status
        from sums s join lasts l using (webhook) order by webhook
        on conflict (webhook) do update
            set succeeded = h.succeeded + excluded.succeeded, failed = h.failed + excluded.failed,
                at = excluded.at, outcome = excluded.outcome, status = excluded.status";
    transaction.execute(SQL, &[&begin, &end]).await.map(drop)
}

/// Removes hours that are too old, and subtracts them from the sums.
async fn forget(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    const SQL: &str = "-- health_forget
        with old as (
            delete from webhook_hours
            where hour < date_trunc('hour', now(), 'UTC') - interval '23 hours'
            returning webhook, succeeded, failed
        )
        update webhook_health h
        set succeeded = h.succeeded - o.succeeded, failed = h.failed - o.failed
        from (select webhook, sum(succeeded) as succeeded, sum(failed) as failed
              from old group by webhook) o
        where h.webhook = o.webhook";
    transaction.execute(SQL, &[]).await.map(drop)
}

fn add_count(
    found: &mut HashMap<WebhookId, Health>,
    row: &Row,
    begin: DateTime<Utc>,
) -> Result<(), tokio_postgres::Error> {
    let hour: DateTime<Utc> = row.try_get(1)?;
    // A worker's clock may be ahead of the database's.
    let index = usize::try_from((hour - begin).num_hours()).unwrap_or(0).min(HOURS - 1);
    let health = found.get_mut(&WebhookId(row.try_get(0)?));
    if let Some(hour) = health.and_then(|health| health.hours.get_mut(index)) {
        let count = |column| Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or_default());
        hour.succeeded += count(2)?;
        hour.failed += count(3)?;
    }
    Ok(())
}

fn last(row: &Row) -> Result<Last, tokio_postgres::Error> {
    Ok(Last { at: row.try_get(1)?, outcome: row.try_get(2)?, status: row.try_get(3)? })
}

fn hour(time: DateTime<Utc>) -> i64 {
    time.timestamp().div_euclid(3600)
}
