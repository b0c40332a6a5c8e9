//! The progress of the workers in the queues of jobs.
//!
//! A queue is in order. When a job that was enqueued at some time was delivered to a worker, all
//! jobs before it were delivered, too, or are lost. A delivered job leaves a trace in the ledger
//! within the time that its worker needs for an attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// The progress of the workers in each queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The time of this reading, by the database's clock.
    pub at: DateTime<Utc>,
    /// The time at which the database's server was started.
    pub started_at: DateTime<Utc>,
    /// By the name of the queue, the time at which the newest job was enqueued that workers
    /// received.
    pub passed: BTreeMap<String, DateTime<Utc>>,
    /// The longest time that a worker of the last minute needs until a job that it received is
    /// recorded, claimed or deferred; `None` when no worker reported one.
    pub settles_within: Option<Duration>,
}

impl Store {
    /// Records that workers received jobs that were enqueued at these times.
    pub async fn queue_progress_note(
        &self,
        passed: &[(&str, DateTime<Utc>)],
    ) -> Result<(), StoreError> {
        // A time in the future counts as now. The commit does not wait for the disk: the progress
        // is recorded again with the next job.
        const SQL: &str = "-- queue_progress_note
            with quick as (select set_config('synchronous_commit', 'off', true))
            insert into queue_progress as known (queue, passed_at, noted_at)
            select queue, least(passed_at, now()), now()
            from unnest($1::text[], $2::timestamptz[]) as p(queue, passed_at), quick
            order by queue
            on conflict (queue) do update
                set passed_at = greatest(known.passed_at, excluded.passed_at), noted_at = now()";
        let (queues, times): (Vec<&str>, Vec<DateTime<Utc>>) = passed.iter().copied().unzip();
        let client = self.connection("record the progress of queues").await?;
        client.execute(&Cached(SQL), &[&queues, &times]).await?;
        Ok(())
    }

    /// Reads the progress of the workers.
    pub async fn queue_progress(&self) -> Result<Progress, StoreError> {
        const SQL: &str = "-- queue_progress
            select now() as now, pg_postmaster_start_time() as started_at, p.queue, p.passed_at,
                   (select max(settles_within) from workers
                    where seen_at > now() - interval '1 minute') as settles_within
            from (select 1) one left join queue_progress p on true";
        let client = self.connection("read the progress of queues").await?;
        let rows = client.query(&Cached(SQL), &[]).await?;
        let first = rows
            .first()
            .ok_or(StoreError::Inconsistent { table: "queue_progress", column: "queue" })?;
        let mut passed = BTreeMap::new();
        for row in &rows {
            if let Some(queue) = row.column("queue")? {
                passed.insert(queue, row.column("passed_at")?);
            }
        }
        let settles_within: Option<f64> = first.column("settles_within")?;
        Ok(Progress {
            at: first.column("now")?,
            started_at: first.column("started_at")?,
            passed,
            settles_within: settles_within
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        })
    }
}
