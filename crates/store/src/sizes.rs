//! The sizes of what the database holds, by kind, and what a day adds.

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::capacity::{Growth, full_in_days};
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::pool::Store;
use crate::retention::Keep;
use crate::rows::Columns as _;

/// What the database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// The time of the measurement, by the database's clock.
    pub at: DateTime<Utc>,
    /// Events, attempts, keys, audit, and the rest.
    pub kinds: Vec<KindSize>,
}

/// The kinds of data, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Events with their plans.
    Events,
    Attempts,
    /// The keys by which repeated events are recognised.
    Keys,
    /// The audit trail.
    Audit,
    /// All other tables, and the catalog.
    Rest,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Events, Self::Attempts, Self::Keys, Self::Audit, Self::Rest];

    /// The name that programs see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Attempts => "attempts",
            Self::Keys => "keys",
            Self::Audit => "audit",
            Self::Rest => "rest",
        }
    }
}

/// The size of one kind of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindSize {
    pub kind: Kind,
    /// Its size with its indexes.
    pub bytes: i64,
    /// The number of its rows, as the database estimates it; `None` when it has not counted them.
    pub rows: Option<i64>,
    /// The bytes that a day adds: the mean of the whole days, or weeks, of the last 15 days. `None` if
    /// there is none, and for what is not partitioned by days or weeks.
    pub per_day: Option<i64>,
    /// The beginning of its oldest day or week.
    oldest: Option<DateTime<Utc>>,
}

impl Sizes {
    /// The size of all.
    #[must_use]
    pub fn bytes(&self) -> i64 {
        self.kinds.iter().map(|kind| kind.bytes).sum()
    }

    /// What a day adds to all; `None` while that is not known.
    #[must_use]
    pub fn per_day(&self) -> Option<i64> {
        self.kinds.iter().filter_map(|kind| kind.per_day).reduce(|sum, one| sum + one)
    }

    /// The day on which a disk of this size will be full; `None` when retention keeps it from that, or
    /// the growth is not known yet.
    #[must_use]
    pub fn full_on(&self, keep: Keep, disk: u64) -> Option<DateTime<Utc>> {
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        let growth: Vec<Growth> =
            self.kinds.iter().map(|kind| kind.growth(keep, self.at)).collect();
        let days = full_in_days(size(self.bytes()), disk, &growth)?;
        self.at.checked_add_signed(TimeDelta::days(i64::try_from(days).ok()?))
    }
}

impl KindSize {
    fn growth(&self, keep: Keep, now: DateTime<Utc>) -> Growth {
        let per_day = self.per_day.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        let keep = if self.kind == Kind::Keys { keep.keys() } else { keep.facts };
        let days = keep.zip(self.oldest).map(|(keep, oldest)| {
            let age = (now - oldest).to_std().unwrap_or_default();
            keep.saturating_sub(age).as_secs().div_ceil(24 * 60 * 60)
        });
        Growth { per_day, days }
    }
}

impl Store {
    /// Measures the sizes. It reads the catalog, and no table.
    pub async fn sizes(&self) -> Result<Sizes, StoreError> {
        const SQL: &str = "-- sizes
            with part as (
                select case p.parent when 'event_keys' then 'keys' else p.parent end as kind, p.since,
                       p.until - p.since as span, pg_total_relation_size(c.oid) as bytes,
                       c.reltuples,
                       p.until <= now() and p.since >= now() - interval '15 days' as is_recent
                from ledger_partitions p join pg_class c on c.oid = to_regclass(p.name)
                union all
                select 'audit', null, null, pg_total_relation_size(c.oid), c.reltuples, false
                from pg_partition_tree('audit') t join pg_class c on c.oid = t.relid
            ), kind as (
                select kind, sum(bytes)::bigint as bytes,
                       sum(reltuples) filter (where reltuples >= 0) as rows,
                       sum(bytes) filter (where is_recent) as added,
                       extract(epoch from sum(span) filter (where is_recent)) as seconds,
                       min(since) as oldest
                from part group by kind
            )
            select kind, bytes, rows::bigint, (added * 86400 / nullif(seconds, 0))::bigint as per_day,
                   oldest, now() as now
            from kind
            union all
            select 'rest', greatest(pg_database_size(current_database())
                                    - (select sum(bytes) from kind), 0)::bigint,
                   null, null, null, now()
";
        let client = self.connection("measure the database").await?;
        let rows = client.query(SQL, &[]).await?;
        let first = rows.first().ok_or(StoreError::NoRow { doing: "measure the database" })?;
        let at = first.column("now")?;
        let mut kinds = rows.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
        kinds.sort_by_key(|kind| kind.kind);
        Ok(Sizes { at, kinds })
    }
}

fn kind(row: &Row) -> Result<KindSize, StoreError> {
    let name: &str = row.column("kind")?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    Ok(KindSize {
        kind: kind
            .ok_or(StoreError::Inconsistent { table: "ledger_partitions", column: "parent" })?,
        bytes: row.column("bytes")?,
        rows: row.column("rows")?,
        per_day: row.column("per_day")?,
        oldest: row.column("oldest")?,
    })
}
