//! The workers, which of them live, and which first attempts they may have under way.
//!
//! Each worker reports every second. Its row names its lock ([`crate::holder`]), by which others learn
//! of its death, and the time before which it has left no first attempt open. So a first attempt that is
//! in doubt is decided as soon as every worker is either dead or has reported.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::StoreError;
use crate::holder::{GRACE, LOCK_CLASS, WorkerId};
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// The time within which each process that waits for the database reaches it again, over a new
/// connection. A worker whose lock was lost in an outage counts as dead only after it.
pub const SETTLE_TIME: Duration = Duration::from_secs(10);

impl Store {
    /// Reports that a worker runs.
    ///
    /// `settles_within` is the time within which a job that it received is recorded, leased or deferred.
    /// It has recorded, leased or requeued every first attempt whose job it received before
    /// `clear_before`. Workers that did not report for an hour are removed, and those that are dead when
    /// none of their leases can be left.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: report again.
    pub async fn worker_report(
        &self,
        worker: WorkerId,
        settles_within: Duration,
        clear_before: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        // A time in the future counts as now. A worker that dies again and again leaves few rows, of
        // which each costs a lock when it is asked whether it lives.
        const SQL: &str = "-- worker_report
            with quick as (
                select set_config('synchronous_commit', 'off', true)
            ), gone as (
                delete from workers
                where worker <> $1 and (seen_at < now() - interval '1 hour'
                    or greatest(seen_at, dead_from)
                        < now() - (settles_within + 60) * interval '1 second'
                        and dead_from is not null)
            )
            insert into workers (worker, settles_within, seen_at, clear_before)
            select $1, $2, now(), least($3::timestamptz, now()) from quick
            on conflict (worker) do update
                set settles_within = excluded.settles_within, seen_at = excluded.seen_at,
                    clear_before = excluded.clear_before";
        let client = self.connection("report that the worker runs").await?;
        let settles_within = settles_within.as_secs_f64();
        client.execute(&Cached(SQL), &[&worker.0, &settles_within, &clear_before]).await?;
        Ok(())
    }

    /// Looks which workers have lost their locks, and notes it. Each of them counts as dead if its lock
    /// is still free after [`GRACE`], or after [`SETTLE_TIME`] if the lock may have been lost in an
    /// outage of the database. That is excluded if this process has had no outage in that time
    /// (`settled`), or if the worker itself reported a moment ago; and if the server has been running
    /// since the worker took its lock.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing is noted; look again.
    pub async fn workers_look(&self, settled: bool) -> Result<(), StoreError> {
        // A worker that locks again removes the note, and reports, so an older sight of its lock is not
        // noted after that. Workers that count as dead already are not looked at.
        const SQL: &str = "-- workers_look
            with looked as materialized (
                select worker, seen_at, pg_try_advisory_xact_lock_shared($1, holder) as free
                from workers
                where holder is not null
                  and not coalesce(dead_from <= now() and found_on = server_run(), false)
            )
            update workers w
            set found_on = case when l.free then server_run() end,
                dead_from = case when l.free then clock_timestamp()
                    + case when w.server = server_run()
                                and ($2 or w.seen_at > now() - $3::float8 * interval '1 second')
                           then $3::float8 else $4::float8 end * interval '1 second' end
            from looked l
            where w.worker = l.worker and w.seen_at = l.seen_at
              and l.free <> (w.dead_from is not null and w.found_on = server_run())";
        let client = self.connection("look which workers live").await?;
        let (grace, settle) = (GRACE.as_secs_f64(), SETTLE_TIME.as_secs_f64());
        client.execute(&Cached(SQL), &[&LOCK_CLASS, &settled, &grace, &settle]).await.map(drop)
    }

    /// Whether no worker can have a first attempt under way, without a lease, whose job was received
    /// before `time`: each is dead, or reports that it has left none open. A worker without a lock is
    /// left out of account a minute after its last report.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is not known; ask again.
    pub async fn first_attempts_are_over(&self, time: DateTime<Utc>) -> Result<bool, StoreError> {
        const SQL: &str = "-- first_attempts_are_over
            select coalesce(bool_and(
                coalesce(clear_before >= $1, false)
                or (holder is null and seen_at < now() - interval '1 minute')
                or (coalesce(dead_from <= now() and found_on = server_run(), false)
                    and pg_try_advisory_xact_lock_shared($2, holder))), true) as are_over
            from workers";
        let client = self.connection("ask whether first attempts are over").await?;
        client.query_one(&Cached(SQL), &[&time, &LOCK_CLASS]).await?.column("are_over")
    }
}
