//! Statistics of attempts by hour and outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::name::Name;
use tokio_postgres::Row;

use crate::attempts::delivery_key;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

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
        const SQL: &str = "-- statistics
            select date_trunc('hour', a.at, 'UTC') as hour, a.outcome, count(*)
            from webhooks w
            join attempts a on a.webhook = w.id and a.since >= $4 and a.at >= $3
                and a.outcome is not null
            where ($1::uuid is null or w.id = $1) and ($2::text is null or w.owner_key = $2)
            group by hour, a.outcome";
        let now = self.now().await?;
        let this_hour = hour_of(now);
        let begin = this_hour - TimeDelta::hours(i64::from(filter.hours.saturating_sub(1)));
        let series = TimeDelta::from_std(filter.longest_chain).unwrap_or(TimeDelta::MAX);
        let since = begin.checked_sub_signed(series).unwrap_or(DateTime::UNIX_EPOCH);
        let owner = filter.owner.as_ref().map(Name::key);
        let webhook = filter.webhook.map(|id| id.0);
        let client = self.connection("count attempts").await?;
        let rows = client
            .query(
                SQL,
                &[
                    /* webhook */ &webhook,
                    /* owner */ &owner,
                    /* begin */ &begin,
                    /* since */ &since.max(DateTime::UNIX_EPOCH),
                ],
            )
            .await?;
        drop(client);
        let counts = rows.iter().map(count).collect::<Result<Vec<_>, _>>();
        let hours = hours(begin, filter.hours, counts?);
        Ok(Statistics { hours, last: self.last_attempt(filter).await? })
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

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        let client = self.connection("ask for the time").await?;
        client.query_one("-- now\nselect now()", &[]).await?.column("now")
    }
}

fn hour_of(time: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = time.timestamp();
    DateTime::from_timestamp(seconds - seconds.rem_euclid(3600), 0).unwrap_or(time)
}

/// Makes every hour from `begin` on, with its counts.
fn hours(begin: DateTime<Utc>, n: u32, counts: Vec<(DateTime<Utc>, String, i64)>) -> Vec<Hour> {
    let mut hours: BTreeMap<DateTime<Utc>, BTreeMap<String, i64>> =
        (0..i64::from(n)).map(|hour| (begin + TimeDelta::hours(hour), BTreeMap::new())).collect();
    for (hour, outcome, count) in counts {
        // A worker's clock may be ahead of the database's.
        hours.entry(hour).or_default().insert(outcome, count);
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
        let begin = hour_of(DateTime::from_timestamp(1_800_000_123, 0).unwrap());
        let counted = vec![(begin + TimeDelta::hours(1), "delivered".to_owned(), 3)];
        let hours = hours(begin, 3, counted);
        let of = |hour: &Hour| hour.outcomes.get("delivered").copied().unwrap_or(0);
        assert_eq!(hours.iter().map(of).collect::<Vec<_>>(), [0, 3, 0]);
        assert_eq!(begin.timestamp() % 3600, 0);
    }
}
