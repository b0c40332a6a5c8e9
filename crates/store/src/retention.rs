//! Retention: the ledger's partitions are made ahead, and dropped when their rows are no longer kept.
//! So are the months of the audit trail. Payloads have an age of their own ([`payloads`](crate::payloads)).
//!
//! Partitions are made and dropped by functions of the database that run with the rights of the tables'
//! owner (`migrations/V1`), because a role may not change tables. They wait at most 100 ms
//! for their locks, since everything else waits behind them; then they fail, and are tried again later.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The number of days for which partitions are made ahead.
pub const DAYS_AHEAD: i32 = 7;

/// The most batches of kept rows that one step removes.
const SWEPT: i32 = 200;

/// The most settled messages that one step removes.
const SETTLED_AT_ONCE: i64 = 2000;

/// For how long the database keeps what it has; `None` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Events, deliveries and attempts.
    pub facts: Option<Duration>,
    /// Events' data and answers' bodies. They go with the facts if these are kept for a shorter time.
    pub payloads: Option<Duration>,
    /// The audit trail.
    pub audit: Option<Duration>,
    /// The keys by which repeated events are recognised.
    pub recognition: Option<Duration>,
}

/// The result of one step of retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The partitions of a day or week were dropped.
    Dropped {
        /// The partition, of events, of keys, or of the audit trail.
        partition: String,
        /// The number of rows that stay, because they are unsettled, or of undecided dead letters.
        kept: i64,
    },
    /// Rows that were kept before were removed, because they need not be kept any longer.
    Swept(i64),
    /// There is nothing to do.
    Done,
    /// Another process makes a step, or the locks were not free in time: try again later.
    Busy,
}

/// A partition of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The table whose partition it is.
    pub table: String,
    pub name: String,
    /// The beginning of its range; `None` without one.
    pub since: Option<DateTime<Utc>>,
    /// The end of its range; `None` for the default partition, which has the rows that no other one
    /// takes.
    pub until: Option<DateTime<Utc>>,
    /// Its size with its indexes.
    pub bytes: i64,
    /// The number of its rows, as the database estimates it; `None` when it has not counted them.
    pub rows: Option<i64>,
}

/// How far partitions are made ahead, and how far behind retention is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// The time from now to the end of the last day that has partitions; zero if today has none.
    pub ahead: Duration,
    /// For how long the oldest day of the ledger should have been dropped; zero if none should.
    pub overdue: Duration,
    /// For how long the oldest payload should have been removed; zero if none should. A payload that
    /// is still needed does not count.
    pub payloads_overdue: Duration,
    /// For how long the oldest month of the audit trail should have been dropped; zero if none should.
    pub audit_overdue: Duration,
}

impl Coverage {
    /// The longest of the three delays.
    #[must_use]
    pub fn longest_overdue(&self) -> Duration {
        self.overdue.max(self.payloads_overdue).max(self.audit_overdue)
    }
}

impl Keep {
    /// The age from which on keys are dropped: they also lead to the partitions of facts.
    pub(crate) fn keys(self) -> Option<Duration> {
        Some(self.facts?.max(self.recognition?))
    }

    /// Whether this partition has outlived its rows.
    #[must_use]
    pub fn is_due(self, partition: &Partition, now: DateTime<Utc>) -> bool {
        let keep = match partition.table.as_str() {
            "event_keys" => self.keys(),
            "audit" => self.audit,
            _ => self.facts,
        };
        let keep = keep.and_then(|keep| TimeDelta::from_std(keep).ok());
        let end =
            partition.until.zip(keep).and_then(|(until, keep)| until.checked_add_signed(keep));
        end.is_some_and(|end| end <= now)
    }
}

/// Whether a statement failed because a lock was not free in time.
pub(crate) fn is_busy(error: &StoreError) -> bool {
    error.sql_state() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// A row that says whether this statement has the lock of the functions that make and drop.
macro_rules! locked {
    () => {
        "(select pg_try_advisory_xact_lock(hashtext('fanfare.partitions')) as locked) l"
    };
}

impl Store {
    /// Makes the missing partitions of the next days, and moves rows to them that were stored without
    /// one. Returns how many were made; `None` when a lock was not free in time.
    pub async fn partitions_make(&self, days: i32) -> Result<Option<i32>, StoreError> {
        const SQL: &str = "-- partitions_make\nselect make_partitions($1) as made";
        let client = self.connection("make partitions").await?;
        match client.query_one(SQL, &[&days]).await {
            Ok(row) => row.column("made").map(Some),
            Err(error) if is_busy(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes one step: drops the oldest day or week that is no longer kept, or removes kept rows that
    /// need not be kept any longer.
    pub async fn retention_step(&self, keep: Keep) -> Result<Step, StoreError> {
        match self.step(keep).await {
            Err(error) if is_busy(&error) => Ok(Step::Busy),
            other => other,
        }
    }

    /// Each statement is a transaction of its own, so that no lock waits for this process. The
    /// functions answer the same when nothing is due and when another process holds their lock, so
    /// that a statement also says whether it has the lock.
    async fn step(&self, keep: Keep) -> Result<Step, StoreError> {
        const MONTH: &str = "-- drop_audit_month
            select drop_audit_month(now() - $1::float8 * interval '1 second') as name";
        const SETTLED: &str = "-- sweep_settled_messages
            delete from kept_messages where id in (
                select id from kept_messages
                where settled_at < now() - $1::float8 * interval '1 second'
                order by settled_at limit $2)";
        const DAY: &str = concat!(
            "-- drop_day
            select locked, name, coalesce(kept, 0) as kept from ",
            locked!(),
            " left join drop_day(now() - $1::float8 * interval '1 second') on true"
        );
        const WEEK: &str = concat!(
            "-- drop_week
            select locked, drop_week(now() - $1::float8 * interval '1 second') as name from ",
            locked!()
        );
        const SWEEP: &str = concat!(
            "-- sweep_kept
            select locked, sweep_kept(now() - $1::float8 * interval '1 second', $2) as removed from ",
            locked!()
        );
        let client = self.connection("drop what is no longer kept").await?;
        if let Some(audit) = keep.audit.map(|age| age.as_secs_f64()) {
            let name: Option<String> = client.query_one(MONTH, &[&audit]).await?.column("name")?;
            if let Some(partition) = name {
                return Ok(Step::Dropped { partition, kept: 0 });
            }
        }
        let Some(facts) = keep.facts.map(|age| age.as_secs_f64()) else { return Ok(Step::Done) };
        let day = client.query_one(DAY, &[&facts]).await?;
        if let Some(partition) = day.column("name")? {
            return Ok(Step::Dropped { partition, kept: day.column("kept")? });
        }
        if !day.column("locked")? {
            return Ok(Step::Busy);
        }
        if let Some(keys) = keep.keys().map(|age| age.as_secs_f64()) {
            let week = client.query_one(WEEK, &[&keys]).await?;
            if let Some(partition) = week.column("name")? {
                return Ok(Step::Dropped { partition, kept: 0 });
            }
            if !week.column("locked")? {
                return Ok(Step::Busy);
            }
        }
        let swept = client.query_one(SWEEP, &[&facts, &SWEPT]).await?;
        match (swept.column("removed")?, swept.column("locked")?) {
            (0, true) => {
                let settled = client.execute(SETTLED, &[&facts, &SETTLED_AT_ONCE]).await?;
                Ok(if settled > 0 { Step::Swept(settled.cast_signed()) } else { Step::Done })
            }
            (0, false) => Ok(Step::Busy),
            (removed, _) => Ok(Step::Swept(removed)),
        }
    }

    /// Lists the partitions of the ledger and of the audit trail, by table and time.
    pub async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        const SQL: &str = "-- partitions
            select p.parent, p.name, p.since, p.until, pg_total_relation_size(c.oid) as bytes,
                   case when c.reltuples >= 0 then c.reltuples::bigint end as rows
            from (select * from ledger_partitions union all select * from audit_partitions) p
            join pg_class c on c.oid = to_regclass(p.name)
            order by p.parent, p.until nulls first";
        let client = self.connection("list the ledger's partitions").await?;
        let rows = client.query(SQL, &[]).await?;
        rows.iter().map(partition).collect()
    }

    /// Counts the unsettled events, and the deliveries with undecided dead letters, among those that
    /// were routed from `since` on and before `until`: they stay when these days are dropped.
    pub async fn kept_count(
        &self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<i64, StoreError> {
        const SQL: &str = "-- kept_count
            select (select count(*) from events
                    where look_at is not null and received_at >= $1 and received_at < $2)
                 + (select count(*) from attempts a
                    where a.state = 'dead' and a.state in ('dead', 'dropped')
                      and a.received_at >= $1 and a.received_at < $2
                      and not exists (select from attempts l
                                      where l.batch = a.batch and l.webhook = a.webhook
                                        and l.entry > a.entry and l.received_at = a.received_at)
                      and not exists (select from discards d
                                      where d.batch = a.batch and d.webhook = a.webhook
                                        and d.entry = a.entry)) as kept";
        let client = self.connection("count what stays").await?;
        client.query_one(SQL, &[&since, &until]).await?.column("kept")
    }

    /// Measures how far partitions are made ahead, and how far behind retention is.
    pub async fn coverage(&self, keep: Keep) -> Result<Coverage, StoreError> {
        const SQL: &str = "-- coverage
            select extract(epoch from max(until) - now())::float8 as ahead,
                   extract(epoch from now() - min(until))::float8 - $1::float8 as overdue,
                   (select extract(epoch from now() - min(until))::float8 - $2::float8
                    from audit_partitions where not is_default) as audit_overdue
            from ledger_partitions where parent = 'events' and not is_default";
        let seconds = |age: Option<Duration>| age.map_or(f64::INFINITY, |age| age.as_secs_f64());
        let payloads_overdue = self.payloads_overdue(seconds(keep.payloads)).await?;
        let client = self.connection("measure the ledger's partitions").await?;
        let row = client.query_one(SQL, &[&seconds(keep.facts), &seconds(keep.audit)]).await?;
        Ok(Coverage {
            ahead: positive(&row, "ahead")?,
            overdue: positive(&row, "overdue")?,
            payloads_overdue,
            audit_overdue: positive(&row, "audit_overdue")?,
        })
    }
}

/// A number of seconds as a duration; zero for a negative one, and for none.
pub(crate) fn positive(row: &Row, name: &'static str) -> Result<Duration, StoreError> {
    let seconds: Option<f64> = row.column(name)?;
    Ok(Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default())
}

fn partition(row: &Row) -> Result<Partition, StoreError> {
    Ok(Partition {
        table: row.column("parent")?,
        name: row.column("name")?,
        since: row.column("since")?,
        until: row.column("until")?,
        bytes: row.column("bytes")?,
        rows: row.column("rows")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(table: &str, until: DateTime<Utc>) -> Partition {
        let (name, since) = (String::new(), None);
        Partition { table: table.to_owned(), name, since, until: Some(until), bytes: 0, rows: None }
    }

    #[test]
    fn a_partition_is_due_when_all_its_rows_are_too_old() {
        let end = DateTime::UNIX_EPOCH + TimeDelta::days(1000);
        let day = Duration::from_hours(24);
        let keep = Keep {
            facts: Some(30 * day),
            payloads: None,
            audit: Some(400 * day),
            recognition: Some(60 * day),
        };
        let due = |keep: Keep, table, days| {
            keep.is_due(&partition(table, end), end + TimeDelta::days(days))
        };
        assert!(!due(keep, "events", 29) && due(keep, "events", 30));
        // Keys are kept as long as anything that needs them.
        assert!(!due(keep, "event_keys", 59) && due(keep, "event_keys", 60));
        assert!(!due(keep, "audit", 399) && due(keep, "audit", 400));
        let never = [Keep { facts: None, ..keep }, Keep { recognition: None, ..keep }];
        assert!(never.iter().all(|keep| !due(*keep, "event_keys", 36_000)));
        assert!(!due(never[0], "attempts", 36_000) && due(never[1], "attempts", 30));
        assert!(!keep.is_due(&Partition { until: None, ..partition("events", end) }, end));
    }
}
