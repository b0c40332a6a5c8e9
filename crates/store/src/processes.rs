//! The processes of the installation: each reports while it runs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// How often a process reports.
pub const REPORT_EVERY: Duration = Duration::from_secs(10);
/// A process that has not reported for so long is missing: three reports were lost.
const MISSING_AFTER: Duration = Duration::from_secs(30);
/// How long a process that ended without a word is shown.
const SHOWN_FOR: Duration = Duration::from_hours(1);
/// The most processes that are listed.
const MOST: i64 = 200;

/// What a process says about itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// Different for each process.
    pub id: Uuid,
    /// What it runs: `router`, `worker`, `console` or `all`.
    pub role: &'static str,
    /// The name of its machine or container.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// The version of its program.
    pub version: &'static str,
}

/// How a process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessHealth {
    /// Why it can't do its work; `None` if it can.
    pub problem: Option<String>,
    /// The hosts with an open circuit breaker in it.
    pub open_breakers: Vec<String>,
}

/// A process as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub role: String,
    pub host: String,
    pub pid: i32,
    pub version: String,
    /// When it reported first.
    pub started_at: DateTime<Utc>,
    /// When it reported last.
    pub seen_at: DateTime<Utc>,
    /// Whether it has not reported for so long that it has probably ended.
    pub is_missing: bool,
    pub problem: Option<String>,
    pub open_breakers: Vec<String>,
}

impl Store {
    /// Reports that a process runs, and removes those that ended without a word long ago.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: report again.
    pub async fn process_report(
        &self,
        process: &ProcessIdentity,
        health: &ProcessHealth,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- process_report
            with quick as (
                select set_config('synchronous_commit', 'off', true)
            ), gone as (
                delete from processes
                where id <> $1 and seen_at < now() - $8::float8 * interval '1 second'
            )
            insert into processes (id, role, host, pid, version, problem, open_breakers)
            select $1, $2, $3, $4, $5, $6, $7 from quick
            on conflict (id) do update
                set seen_at = now(), problem = excluded.problem, open_breakers = excluded.open_breakers";
        let client = self.connection("report that the process runs").await?;
        let ProcessIdentity { id, role, host, pid, version } = process;
        let ProcessHealth { problem, open_breakers } = health;
        let pid = i32::try_from(*pid).unwrap_or_default();
        let shown_for = SHOWN_FOR.as_secs_f64();
        client
            .execute(
                &Cached(SQL),
                &[id, role, host, &pid, version, problem, open_breakers, &shown_for],
            )
            .await
            .map(drop)
    }

    /// Removes a process that ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is shown as missing for a while.
    pub async fn process_end(&self, process: &ProcessIdentity) -> Result<(), StoreError> {
        const SQL: &str = "-- process_end\ndelete from processes where id = $1";
        let client = self.connection("report that the process ends").await?;
        client.execute(SQL, &[&process.id]).await.map(drop)
    }

    /// The processes that run, and those that ended without a word a while ago.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub async fn processes(&self) -> Result<Vec<Process>, StoreError> {
        const SQL: &str = "-- processes
            select role, host, pid, version, started_at, seen_at, problem, open_breakers,
                   seen_at < now() - $1::float8 * interval '1 second' as is_missing
            from (select * from processes where seen_at >= now() - $2::float8 * interval '1 second'
                  order by seen_at desc limit $3) newest
            order by is_missing, role, host, started_at";
        let client = self.connection("list the processes").await?;
        let (missing, shown) = (MISSING_AFTER.as_secs_f64(), SHOWN_FOR.as_secs_f64());
        let rows = client.query(SQL, &[&missing, &shown, &MOST]).await?;
        rows.iter().map(process).collect()
    }
}

fn process(row: &Row) -> Result<Process, StoreError> {
    Ok(Process {
        role: row.column("role")?,
        host: row.column("host")?,
        pid: row.column("pid")?,
        version: row.column("version")?,
        started_at: row.column("started_at")?,
        seen_at: row.column("seen_at")?,
        is_missing: row.column("is_missing")?,
        problem: row.column("problem")?,
        open_breakers: row.column("open_breakers")?,
    })
}
