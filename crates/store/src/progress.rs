//! How far the workers have come in the queues of jobs.
//!
//! A queue is in order. When workers were handed a job that came into it at some time, all that came
//! before was handed out, too, or is lost.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::error::StoreError;
use crate::pool::Store;

/// How far the workers have come, by the name of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// When this was read, by the database's clock.
    pub at: DateTime<Utc>,
    /// When the database's server was started.
    pub started_at: DateTime<Utc>,
    /// Workers were handed a job that came into the queue at this time.
    pub passed: BTreeMap<String, DateTime<Utc>>,
}

impl Store {
    /// Notes that jobs were handed out that came into their queues at these times.
    pub async fn queue_progress_note(
        &self,
        passed: &[(&str, DateTime<Utc>)],
    ) -> Result<(), StoreError> {
        // A time from the future says no more than that the queue has come as far as now. Not waited
        // for until it is on the disk: it is noted again with the next job.
        const SQL: &str = "-- queue_progress_note
            with quick as (select set_config('synchronous_commit', 'off', true))
            insert into queue_progress as known (queue, passed_at, noted_at)
            select queue, least(passed_at, now()), now()
            from unnest($1::text[], $2::timestamptz[]) as p(queue, passed_at), quick
            order by queue
            on conflict (queue) do update
                set passed_at = greatest(known.passed_at, excluded.passed_at), noted_at = now()";
        let doing = "note the progress of queues";
        let (queues, times): (Vec<&str>, Vec<DateTime<Utc>>) = passed.iter().copied().unzip();
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        client.execute(&statement, &[&queues, &times]).await.map_err(StoreError::at(doing))?;
        Ok(())
    }

    /// How far the workers have come.
    pub async fn queue_progress(&self) -> Result<Progress, StoreError> {
        const SQL: &str = "-- queue_progress
            select now(), pg_postmaster_start_time(), p.queue, p.passed_at
            from (select 1) one left join queue_progress p on true";
        let doing = "read the progress of queues";
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        let rows = client.query(&statement, &[]).await.map_err(StoreError::at(doing))?;
        let first = rows
            .first()
            .ok_or(StoreError::Inconsistent { table: "queue_progress", column: "queue" })?;
        let read = || {
            let mut passed = BTreeMap::new();
            for row in &rows {
                let queue: Option<String> = row.try_get(2)?;
                if let Some(queue) = queue {
                    passed.insert(queue, row.try_get(3)?);
                }
            }
            Ok(Progress { at: first.try_get(0)?, started_at: first.try_get(1)?, passed })
        };
        read().map_err(StoreError::at(doing))
    }
}
