//! The reconciler: finds deliveries that are owed and that no job carries, and publishes their jobs
//! again.
//!
//! Every router runs one, and the database admits one at a time. A job is lost when its queue has
//! passed it: workers have received a job that was enqueued later, or the queue is empty while workers
//! consume it. So lost jobs are found while others are under way, and jobs that only wait in a long
//! queue are left alone.
//!
//! A job is certainly lost when its queue has passed it for longer than a worker needs to leave a
//! trace of it in the ledger: a row, a claim, or the note of a deferral. So the new job goes straight
//! to `fanfare.retries`, where every attempt is claimed first. If a router dies between two steps, there
//! may be a second copy of a job, and one of the two is attempted.
//!
//! Jobs for first attempts may wait in delivery queues beyond those of this router's setting, if
//! another router has, or had, a higher setting. These queues are checked only when a job seems lost,
//! because each missing queue is an error in the broker's log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_broker::{BrokerError, Destination, Message, Queue, Session};
use fanfare_core::job::AttemptRef;
use fanfare_core::shard::{Shard, ShardCount};
use fanfare_failpoints::failpoint;
use fanfare_store::StoreError;
use fanfare_store::progress::Progress;
use fanfare_store::reconcile::Passed;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::jobs;

/// The events of each kind that one statement examines: few, because others wait for the database
/// meanwhile.
const BATCH: i64 = 200;

/// The shortest time since a job left its queue before a missing trace means that it is lost. The
/// database must have been available without a break for the same time, because workers first record
/// their attempts.
const CERTAIN_AFTER: Duration = Duration::from_secs(15);

/// The same if no worker has written how long it needs: enough for workers with default settings.
const DEFAULT_CERTAIN_AFTER: Duration = Duration::from_secs(30);

/// The shortest time between two samples of the queues.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The time-out of publishing: a queue without a majority of its nodes confirms nothing.
const PUBLISH_TIME: Duration = Duration::from_secs(20);

/// How long a queue is not asked for its depth again after a failure. Some failures end the session.
const DEPTH_RETRY: Duration = Duration::from_mins(1);

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
    observed: &Mutex<Observed>,
) -> Result<(), RouterError> {
    // The lock is free: one session ends before the next one begins.
    let mut observed = observed.lock().await;
    loop {
        let began = Instant::now();
        let checked = stop.run_until_cancelled(check(config, session, &mut observed)).await;
        let more = match checked {
            None => return Ok(()),
            Some(Ok(more)) => more,
            Some(Err(RouterError::Store(error))) => {
                tracing::debug!(error = error.chain(), "failed to find lost jobs");
                observed.forget();
                false
            }
            Some(Err(error)) => return Err(error),
        };
        // While there is much to examine, half of the time is for others.
        let pause = if more { began.elapsed() } else { config.reconcile_every };
        let pause = tokio::time::sleep(pause);
        if stop.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
    }
}

/// Examines the ledger once; returns whether there may be more to examine.
async fn check(
    config: &Config,
    session: &Session,
    observed: &mut Observed,
) -> Result<bool, RouterError> {
    let shards = config.broker.delivery_queues();
    observe(config, session, shards, observed).await?;
    let Some(passed) = observed.certain() else { return Ok(false) };
    let Some(found) = config.store.reconcile(BATCH, passed).await? else { return Ok(false) };
    if !found.unattempted.is_empty() || !found.overdue.is_empty() {
        failpoint!(ReconcilerLeases, found.unattempted.iter().chain(&found.overdue));
        tracing::warn!(
            unattempted = found.unattempted.len(),
            overdue = found.overdue.len(),
            "some deliveries are owed and no job carries them; their jobs are published again"
        );
    }
    if wait_in_unused_queues(&found.unattempted, session, shards).await? {
        // They count as enqueued now, and are examined again when the queues have passed that time.
        config.store.reconcile_postponed(&found.unattempted, found.at).await?;
    } else {
        let first = jobs::first(&found.unattempted, found.at)?;
        publish(config, session, &found.unattempted, first, found.at).await?;
    }
    let due = jobs::later(&found.overdue, found.at)?;
    publish(config, session, &found.overdue, due, found.at).await?;
    Ok(i64::try_from(found.checked).unwrap_or(i64::MAX) >= BATCH)
}

/// Publishes jobs and notes that. Jobs that can't be published are found again in some seconds.
async fn publish(
    config: &Config,
    session: &Session,
    lost: &[AttemptRef],
    jobs: Vec<(Destination, Message)>,
    at: DateTime<Utc>,
) -> Result<(), RouterError> {
    if lost.is_empty() {
        return Ok(());
    }
    match tokio::time::timeout(PUBLISH_TIME, session.publisher().publish_all(jobs)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_lost() => return Err(error.into()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "failed to publish lost jobs");
            return Ok(());
        }
        Err(_) => {
            tracing::warn!("failed to publish lost jobs: the broker did not confirm");
            return Ok(());
        }
    }
    failpoint!(Reconciles, lost);
    config.metrics.republished(lost.len());
    config.store.reconcile_published(lost, at).await?;
    failpoint!(ReconcilerNotes, lost);
    Ok(())
}

/// Samples of the queues' progress, the oldest first. They stay valid when the session ends, because
/// redelivered jobs are not attempted without a claim.
#[derive(Default)]
pub(crate) struct Observed {
    samples: VecDeque<(Instant, Passed)>,
    /// The age at which a sample is certain.
    certain_after: Duration,
    /// Queues whose depth could not be read, and when.
    silent: Vec<(Queue, Instant)>,
}

impl Observed {
    /// The newest sample that is certain.
    fn certain(&self) -> Option<Passed> {
        let old = |(at, _): &&(Instant, Passed)| at.elapsed() >= self.certain_after;
        self.samples.iter().rev().find(old).map(|(_, passed)| *passed)
    }

    fn add(&mut self, passed: Passed) {
        if self.samples.back().is_some_and(|(at, _)| at.elapsed() < SAMPLE_INTERVAL) {
            return;
        }
        let longest = self.certain_after.max(DEFAULT_CERTAIN_AFTER);
        while self.samples.get(1).is_some_and(|(at, _)| at.elapsed() >= longest) {
            self.samples.pop_front();
        }
        self.samples.push_back((Instant::now(), passed));
    }

    /// Forgets all samples. After an outage of the database nothing is certain.
    fn forget(&mut self) {
        self.samples.clear();
    }

    fn is_silent(&mut self, queue: Queue) -> bool {
        self.silent.retain(|(_, since)| since.elapsed() < DEPTH_RETRY);
        self.silent.iter().any(|(silent, _)| *silent == queue)
    }
}

/// Adds a sample of the queues' progress.
async fn observe(
    config: &Config,
    session: &Session,
    shards: ShardCount,
    observed: &mut Observed,
) -> Result<(), StoreError> {
    let began = Instant::now();
    let progress = config.store.queue_progress().await?;
    observed.certain_after =
        progress.settles_within.unwrap_or(DEFAULT_CERTAIN_AFTER).max(CERTAIN_AFTER);
    if began.elapsed() > CERTAIN_AFTER {
        observed.forget();
    }
    // The database may have been away for less than the time between two samples.
    let server_age = (progress.at - progress.started_at).to_std().unwrap_or_default();
    observed.samples.retain(|(at, _)| at.elapsed() < server_age);
    let mut deliveries = Some(progress.at);
    for shard in shards.all() {
        let queue = passed(session, &progress, observed, Queue::Deliveries(shard)).await;
        // The slowest queue counts.
        deliveries = deliveries.zip(queue).map(|(one, other)| one.min(other));
    }
    let retries = passed(session, &progress, observed, Queue::Retries).await;
    observed.add(Passed { deliveries, retries });
    Ok(())
}

/// The progress of a queue; `None` when it is not known.
async fn passed(
    session: &Session,
    progress: &Progress,
    observed: &mut Observed,
    queue: Queue,
) -> Option<DateTime<Utc>> {
    let shortly = progress.at - TimeDelta::seconds(2);
    let noted = progress.passed.get(queue.name()).copied();
    if noted.is_some_and(|noted| noted >= shortly) || observed.is_silent(queue) {
        return noted;
    }
    match session.depth(queue).await {
        // A queue without a leader reports that it is empty, too, but then it has no consumers.
        Ok(depth) if depth.ready == 0 && depth.consumers > 0 => Some(shortly),
        Ok(_) => noted,
        Err(error) => {
            tracing::debug!(queue = queue.name(), %error, "failed to read the depth of a queue");
            observed.silent.push((queue, Instant::now()));
            noted
        }
    }
}

/// Whether the jobs of deliveries that were never attempted may be waiting in a queue that this
/// router doesn't use.
async fn wait_in_unused_queues(
    unattempted: &[AttemptRef],
    session: &Session,
    shards: ShardCount,
) -> Result<bool, BrokerError> {
    if unattempted.is_empty() {
        return Ok(false);
    }
    let Some(queue) = waiting(session, shards.beyond()).await? else {
        return Ok(false);
    };
    tracing::warn!(
        unattempted = unattempted.len(),
        queue = queue.name(),
        used = shards.count(),
        "jobs wait in a delivery queue that routers with this FANFARE_DELIVERY_QUEUES don't use; \
         until workers have emptied it, no job counts as lost"
    );
    Ok(true)
}

/// The first of these delivery queues in which jobs wait. A missing queue counts as empty.
async fn waiting(
    session: &Session,
    shards: impl Iterator<Item = Shard>,
) -> Result<Option<Queue>, BrokerError> {
    for queue in shards.map(Queue::Deliveries) {
        match session.depth(queue).await {
            Ok(depth) if depth.ready == 0 => {}
            Ok(_) => return Ok(Some(queue)),
            Err(BrokerError::Missing { .. }) => {}
            Err(error) if error.is_lost() => return Err(error),
            Err(error) => {
                tracing::debug!(queue = queue.name(), %error, "failed to read the depth of a queue");
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_at(second: i64) -> Passed {
        Passed { deliveries: DateTime::from_timestamp(second, 0), retries: None }
    }

    #[test]
    fn the_newest_sample_older_than_the_limit_is_certain() {
        let mut observed = Observed { certain_after: CERTAIN_AFTER, ..Observed::default() };
        assert_eq!(observed.certain(), None);
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let samples = [(60, 1), (40, 2), (16, 3), (10, 4)];
        observed.samples.extend(samples.map(|(at, passed)| (ago(at), passed_at(passed))));
        assert_eq!(observed.certain(), Some(passed_at(3)));
        observed.add(passed_at(5));
        assert_eq!(observed.certain(), Some(passed_at(3)));
        assert_eq!(observed.samples.len(), 4);
        observed.add(passed_at(6));
        assert_eq!(observed.samples.len(), 4, "two observations within a second are one");
        // A worker with a long timeout.
        observed.certain_after = Duration::from_secs(35);
        assert_eq!(observed.certain(), Some(passed_at(2)));
        observed.forget();
        assert_eq!(observed.certain(), None);
    }
}
