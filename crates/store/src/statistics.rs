//! Statistics of attempts by hour and outcome.
//!
//! They are read from `attempt_hours`, into which consoles count the attempts (`counting`). Those that
//! are not counted are read from the ledger: the newest ones, among the newest rows of the newest
//! partitions; and after an upgrade, for some hours, the older ones.
//!
//! A row that is written after the time for which [`Store::statistics_count`] waits is not counted, for
//! instance after an outage of the database.

mod counting;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::name::Name;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::attempts::delivery_key;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The age of the oldest events whose newest attempts are counted in the ledger, so that few partitions
/// are opened. It is longer than the default of `FANFARE_DELIVERY_DEADLINE`.
const NEWEST: TimeDelta = TimeDelta::days(4);

/// The attempts to count; `None` sets no condition.
#[derive(Debug, Clone)]
pub struct StatisticsFilter {
    pub webhook: Option<WebhookId>,
    pub owner: Option<Name>,
    /// The number of hours, including the current one.
    pub hours: u32,
    /// The longest duration of a series. The index sorts attempts by the beginning of their series.
    pub longest_chain: Duration,
}

/// The counted attempts.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Each of the hours, the oldest first.
    pub hours: Vec<Hour>,
    /// The last attempt of all, which may be older than the hours.
    pub last: Option<LastAttempt>,
}

/// The attempts of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    pub begin: DateTime<Utc>,
    /// The number of attempts by the codes of their outcomes.
    pub outcomes: BTreeMap<String, i64>,
}

/// The last attempt.
#[derive(Debug, Clone)]
pub struct LastAttempt {
    /// When it began.
    pub at: DateTime<Utc>,
    /// The code of the outcome.
    pub outcome: String,
    /// HTTP status, if there was an answer.
    pub status: Option<i32>,
    pub delivery: DeliveryId,
    pub webhook: WebhookId,
}

impl Store {
    /// Counts the attempts of the last hours, by the database's clock.
    pub async fn statistics(&self, filter: &StatisticsFilter) -> Result<Statistics, StoreError> {
        let counts = self.statistics_hours(filter).await?;
        Ok(Statistics { hours: counts, last: self.last_attempt(filter).await? })
    }

    /// Counts the attempts of each hour, the oldest first.
    pub async fn statistics_hours(
        &self,
        filter: &StatisticsFilter,
    ) -> Result<Vec<Hour>, StoreError> {
        // In one snapshot, so that each attempt is counted either in `attempt_hours` or in the ledger.
        const SNAPSHOT: &str = "-- statistics
            set transaction isolation level repeatable read, read only";
        const ENDS: &str = "-- statistics
            select date_trunc('hour', now(), 'UTC') as hour, counted_from, counted_to
            from attempt_hours_state";
        let mut client = self.connection("count attempts").await?;
        let transaction = client.transaction().await?;
        transaction.execute(SNAPSHOT, &[]).await?;
        let ends = transaction.query_one(ENDS, &[]).await?;
        let this_hour: DateTime<Utc> = ends.column("hour")?;
        let begin = this_hour - TimeDelta::hours(i64::from(filter.hours.saturating_sub(1)));
        let counted_from: DateTime<Utc> = ends.column("counted_from")?;
        let counted_to: DateTime<Utc> = ends.column("counted_to")?;
        let scope = Scope::of(filter);
        let mut rows = scope.counted(&transaction, begin).await?;
        rows.extend(scope.newest(&transaction, begin.max(counted_to)).await?);
        if begin < counted_from {
            let series = TimeDelta::from_std(filter.longest_chain).unwrap_or(TimeDelta::MAX);
            let since = begin.checked_sub_signed(series).unwrap_or(DateTime::UNIX_EPOCH);
            let since = since.max(DateTime::UNIX_EPOCH);
            rows.extend(scope.oldest(&transaction, begin, counted_from, since).await?);
        }
        transaction.commit().await?;
        let counts = rows.iter().map(count).collect::<Result<Vec<_>, _>>()?;
        Ok(hours(begin, filter.hours, counts))
    }

    /// Finds the last attempt. That of the counted ones is known, so that only those that began since
    /// then are looked through.
    async fn last_attempt(
        &self,
        filter: &StatisticsFilter,
    ) -> Result<Option<LastAttempt>, StoreError> {
        const COUNTED: &str = "-- last_attempt_counted
            select coalesce(max(h.at), (select counted_to from health_state)) as at
            from webhooks w join webhook_health h on h.webhook = w.id
            where ($1::uuid is null or w.id = $1) and ($2::text is null or w.owner_key = $2)";
        const SQL: &str = "-- last_attempt
            select a.at, a.outcome, a.status, a.batch, w.id as webhook
            from webhooks w
            join attempts a on a.webhook = w.id and a.outcome is not null and a.at >= $3
                and a.received_at >= $4
            where ($1::uuid is null or w.id = $1) and ($2::text is null or w.owner_key = $2)
            order by a.at desc limit 1";
        let owner = filter.owner.as_ref().map(Name::key);
        let webhook = filter.webhook.map(|id| id.0);
        let client = self.connection("look up the last attempt").await?;
        let counted = client.query_one(COUNTED, &[&webhook, &owner]).await?;
        if let Some(at) = counted.column::<Option<DateTime<Utc>>>("at")? {
            let series = TimeDelta::from_std(filter.longest_chain).unwrap_or(TimeDelta::MAX);
            let oldest = at.checked_sub_signed(series).unwrap_or(DateTime::UNIX_EPOCH);
            let row = client.query_opt(SQL, &[&webhook, &owner, &at, &oldest]).await?;
            if let Some(row) = row {
                return last(&row).map(Some);
            }
        }
        drop(client);
        self.last_attempt_of_series(filter).await
    }

    /// Finds the last attempt of the newest series of each webhook, and returns the latest of
    /// these. This is for a last attempt that was never counted, or that ended a series which a person
    /// began again.
    async fn last_attempt_of_series(
        &self,
        filter: &StatisticsFilter,
    ) -> Result<Option<LastAttempt>, StoreError> {
        const SQL: &str = "-- last_attempt_of_series
            select l.at, l.outcome, l.status, l.batch, w.id as webhook
            from webhooks w
            cross join lateral (
                select a.at, a.outcome, a.status, a.batch from attempts a
                where a.webhook = w.id and a.outcome is not null
                order by a.since desc, a.batch desc, a.entry desc limit 1
            ) l
            where ($1::uuid is null or w.id = $1) and ($2::text is null or w.owner_key = $2)
            order by l.at desc limit 1";
        let owner = filter.owner.as_ref().map(Name::key);
        let webhook = filter.webhook.map(|id| id.0);
        let client = self.connection("look up the last attempt").await?;
        let row = client.query_opt(SQL, &[&webhook, &owner]).await;
        row?.as_ref().map(last).transpose()
    }
}

/// The webhooks whose attempts are counted.
struct Scope<'a> {
    webhook: Option<Uuid>,
    owner: Option<&'a str>,
}

impl<'a> Scope<'a> {
    fn of(filter: &'a StatisticsFilter) -> Self {
        Self { webhook: filter.webhook.map(|id| id.0), owner: filter.owner.as_ref().map(Name::key) }
    }

    /// Reads the hours from `begin` on of what is counted.
    async fn counted(
        &self,
        transaction: &Transaction<'_>,
        begin: DateTime<Utc>,
    ) -> Result<Vec<Row>, StoreError> {
        const ALL: &str = "-- statistics_counted
            select hour, outcome, attempts as count from attempt_hours
            where webhook = $1 and hour >= $2";
        // Behind the fence, a webhook's hours are looked up. Without it, all webhooks' are read.
        const SOME: &str = "-- statistics_counted
            select h.hour, h.outcome, sum(h.attempts)::bigint as count
            from webhooks w
            cross join lateral (select * from attempt_hours h
                                where h.webhook = w.id and h.hour >= $3 offset 0) h
            where ($1::uuid is null or w.id = $1) and ($2::text is null or w.owner_key = $2)
            group by h.hour, h.outcome";
        if self.webhook.is_none() && self.owner.is_none() {
            return transaction.query(ALL, &[&Uuid::nil(), &begin]).await;
        }
        transaction.query(SOME, &[&self.webhook, &self.owner, &begin]).await
    }

    /// Counts the attempts that began from `to` on, which are not counted yet. Attempts of older events
    /// than [`NEWEST`] appear when they are counted.
    async fn newest(
        &self,
        transaction: &Transaction<'_>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Row>, StoreError> {
        const SQL: &str = "-- statistics_newest
            select date_trunc('hour', a.at, 'UTC') as hour, a.outcome, count(*) as count
            from attempts a
            where a.at >= $3 and a.received_at >= $4 and a.outcome is not null
              and ($1::uuid is null or a.webhook = $1)
              and ($2::text is null
                   or a.webhook in (select w.id from webhooks w where w.owner_key = $2))
            group by 1, 2";
        let oldest = to - NEWEST;
        transaction.query(SQL, &[&self.webhook, &self.owner, &to, &oldest]).await
    }

    /// Counts the attempts that began from `begin` on and before `end`, which are from before the counting.
    /// The index sorts attempts by the beginning of their series.
    async fn oldest(
        &self,
        transaction: &Transaction<'_>,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        since: DateTime<Utc>,
    ) -> Result<Vec<Row>, StoreError> {
        const SQL: &str = "-- statistics_oldest
            select date_trunc('hour', a.at, 'UTC') as hour, a.outcome, count(*) as count
            from webhooks w
            join attempts a on a.webhook = w.id and a.since >= $5 and a.at >= $3 and a.at < $4
                and a.outcome is not null
            where ($1::uuid is null or w.id = $1) and ($2::text is null or w.owner_key = $2)
            group by 1, 2";
        transaction.query(SQL, &[&self.webhook, &self.owner, &begin, &end, &since]).await
    }
}

/// Makes every hour from `begin` on, with its counts.
fn hours(begin: DateTime<Utc>, n: u32, counts: Vec<(DateTime<Utc>, String, i64)>) -> Vec<Hour> {
    let mut hours: BTreeMap<DateTime<Utc>, BTreeMap<String, i64>> =
        (0..i64::from(n)).map(|hour| (begin + TimeDelta::hours(hour), BTreeMap::new())).collect();
    for (hour, outcome, count) in counts {
        // A worker's clock may be ahead of the database's. An hour may be counted in several parts.
        *hours.entry(hour).or_default().entry(outcome).or_default() += count;
    }
    hours.into_iter().map(|(begin, outcomes)| Hour { begin, outcomes }).collect()
}

fn count(row: &Row) -> Result<(DateTime<Utc>, String, i64), StoreError> {
    Ok((row.column("hour")?, row.column("outcome")?, row.column("count")?))
}

fn last(row: &Row) -> Result<LastAttempt, StoreError> {
    let (batch, webhook) = delivery_key(row)?;
    Ok(LastAttempt {
        at: row.column("at")?,
        outcome: row.column("outcome")?,
        status: row.column("status")?,
        delivery: DeliveryId::of(batch, webhook),
        webhook,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_without_attempts_are_empty_but_not_missing() {
        let begin = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let part = |count| (begin + TimeDelta::hours(1), "delivered".to_owned(), count);
        let counted = vec![part(1), part(2)];
        let hours = hours(begin, 3, counted);
        let of = |hour: &Hour| hour.outcomes.get("delivered").copied().unwrap_or(0);
        assert_eq!(hours.iter().map(of).collect::<Vec<_>>(), [0, 3, 0]);
    }
}
