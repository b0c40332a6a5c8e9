//! The health of webhooks: the attempts of the last 24 hours, and the last attempt of all.
//!
//! An attempt is counted once, some time after it began, when its row must be in the ledger: in
//! `webhook_hours` for the bars, and in `webhook_health` for sorting. Newer attempts are counted
//! for each query, among the newest rows of the newest partitions. So the cost of a query does not
//! depend on the number of attempts of a day or of a webhook, and workers need not count anything.
//!
//! A row that is written after the time for which [`health_count`](Store::health_count) waits is
//! not counted here, for instance after an outage of the database. `statistics` counts exactly.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::ids::WebhookId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The number of hours that are kept, including the current one.
pub const HOURS: usize = 24;

/// The longest time that one step counts: a day in one statement would take long on a busy system.
const STEP: TimeDelta = TimeDelta::hours(1);

/// The lag of the counting from which on there are too many newer attempts to count for a page.
const BEHIND: TimeDelta = TimeDelta::minutes(10);

/// The age of the oldest events whose newer attempts are counted for a page. So a page opens few
/// partitions of the ledger. It is longer than the default of `FANFARE_DELIVERY_DEADLINE`; attempts of
/// older events appear when they are counted.
const NEWEST: TimeDelta = TimeDelta::days(4);

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
    /// The time from which on an event must have been received for its attempts to count before they
    /// are counted for good.
    pub(crate) oldest: DateTime<Utc>,
    /// The beginning of the oldest hour.
    begin: DateTime<Utc>,
}

impl Store {
    /// Makes a step: it counts attempts that began longer than `settled` ago by the database's
    /// clock, since the rows of these must be in the ledger. If several processes call this, one of
    /// them counts.
    pub async fn health_count(&self, settled: Duration) -> Result<Counted, StoreError> {
        const NEXT: &str = "-- health_count
            select greatest(counted_to,
                            date_trunc('hour', now(), 'UTC') - interval '23 hours') as begin_at,
                   now() - $1::float8 * interval '1 second' as settled_at
            from health_state for update skip locked";
        const ADVANCE: &str = "-- health_count\nupdate health_state set counted_to = $1";
        let mut client = self.connection("count attempts").await?;
        let transaction = client.transaction().await?;
        let row = transaction.query_opt(NEXT, &[&settled.as_secs_f64()]).await?;
        let Some(row) = row else {
            return Ok(Counted::All);
        };
        let begin: DateTime<Utc> = row.column("begin_at")?;
        let settled_at: DateTime<Utc> = row.column("settled_at")?;
        let end = settled_at.min(begin + STEP);
        if end <= begin {
            return Ok(Counted::All);
        }
        add(&transaction, begin, end).await?;
        if hour(begin) != hour(end) {
            forget(&transaction).await?;
        }
        transaction.execute(ADVANCE, &[&end]).await?;
        transaction.commit().await?;
        Ok(if end < settled_at { Counted::More } else { Counted::All })
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
            where at >= $3 and webhook = any($1) and outcome is not null and received_at >= $4
            group by 1, 2";
        const LASTS: &str = "-- health
            select distinct on (webhook) webhook, at, outcome, status
            from (select webhook, at, outcome, status from webhook_health where webhook = any($1)
                  union all
                  select webhook, at, outcome, status from attempts
                  where at >= $2 and webhook = any($1) and outcome is not null
                    and received_at >= $3) attempted
            order by webhook, at desc";
        let progress = self.count_progress().await?;
        if !progress.is_near {
            return Ok(None);
        }
        let ids: Vec<Uuid> = webhooks.iter().map(|id| id.0).collect();
        let client = self.connection("read the health of webhooks").await?;
        let CountProgress { to, oldest, begin, .. } = &progress;
        let counts = client.query(COUNTS, &[&ids, begin, to, oldest]).await?;
        let lasts = client.query(LASTS, &[&ids, to, oldest]).await?;
        drop(client);
        let nothing = Health { hours: [Hour::default(); HOURS], last: None };
        let mut found: HashMap<WebhookId, Health> =
            webhooks.iter().map(|id| (*id, nothing.clone())).collect();
        for row in &counts {
            add_count(&mut found, row, progress.begin)?;
        }
        for row in &lasts {
            if let Some(health) = found.get_mut(&WebhookId(row.column("webhook")?)) {
                health.last = Some(last(row)?);
            }
        }
        Ok(Some(found))
    }

    pub(crate) async fn count_progress(&self) -> Result<CountProgress, StoreError> {
        const SQL: &str = "-- health_standing
            select counted_to, now() as now,
                   date_trunc('hour', now(), 'UTC') - interval '23 hours' as begin_at
            from health_state";
        let client = self.connection("read how far attempts are counted").await?;
        let row = client.query_one(SQL, &[]).await?;
        let (to, now): (DateTime<Utc>, DateTime<Utc>) =
            (row.column("counted_to")?, row.column("now")?);
        let begin = row.column("begin_at")?;
        Ok(CountProgress { to, is_near: now - to < BEHIND, oldest: to - NEWEST, begin })
    }
}

/// Adds the attempts that began from `begin` on and before `end`.
async fn add(
    transaction: &Transaction<'_>,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = include_str!("sql/health_add.sql");
    transaction.execute(SQL, &[&begin, &end]).await.map(drop)
}

/// Removes hours that are too old, and subtracts them from the sums.
async fn forget(transaction: &Transaction<'_>) -> Result<(), StoreError> {
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
) -> Result<(), StoreError> {
    let hour: DateTime<Utc> = row.column("hour")?;
    // A worker's clock may be ahead of the database's.
    let index = usize::try_from((hour - begin).num_hours()).unwrap_or(0).min(HOURS - 1);
    let health = found.get_mut(&WebhookId(row.column("webhook")?));
    if let Some(hour) = health.and_then(|health| health.hours.get_mut(index)) {
        let count = |name| row.column(name).map(|n: i64| u64::try_from(n).unwrap_or_default());
        hour.succeeded += count("succeeded")?;
        hour.failed += count("failed")?;
    }
    Ok(())
}

fn last(row: &Row) -> Result<Last, StoreError> {
    Ok(Last {
        at: row.column("at")?,
        outcome: row.column("outcome")?,
        status: row.column("status")?,
    })
}

fn hour(time: DateTime<Utc>) -> i64 {
    time.timestamp().div_euclid(3600)
}
