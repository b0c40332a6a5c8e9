//! The reconciler: finds deliveries that are owed and that no job carries, and publishes their jobs
//! again.
//!
//! Every router runs one; the database lets one look at a time. A job is lost when its queue has
//! passed it: workers were handed a job that came into the queue later, or the queue is empty while
//! workers consume it. So what is lost is found while others are busy, and what only waits in a long
//! queue is left alone.
//!
//! It is lost for certain when its queue has passed it for longer than a worker needs until what it
//! was handed has left a trace in the ledger: a row, a claim, or the note of a deferral. So the new job
//! goes straight to `fanfare.retries`, where every attempt is claimed first. Dying between any two
//! steps costs a second copy of a job, of which one is attempted.
//!
//! Jobs for first attempts may wait in delivery queues beyond those of this router's setting, if
//! another router has, or had, a higher one. These are looked at only when something seems lost:
//! each one that is not there is an error in the broker's log.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_broker::{BrokerError, Destination, Message, Queue, Session};
use fanfare_core::ids::BatchKey;
use fanfare_core::job::Due;
use fanfare_core::share::{Share, Shares};
use fanfare_store::StoreError;
use fanfare_store::progress::Progress;
use fanfare_store::reconcile::Passed;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::jobs;

/// Events of each kind looked at in one statement: few, because others wait for the database
/// meanwhile.
const AT_A_TIME: i64 = 200;

/// How long a job has left its queue, at least, before nothing done about it means that it is lost.
/// It is also how long the database must have answered without a break: workers first record what
/// they hold.
const CERTAIN_AFTER: Duration = Duration::from_secs(15);

/// The same where no worker says how long it needs; enough for workers with default settings.
const CERTAIN_UNLESS_TOLD: Duration = Duration::from_secs(30);

/// Observations of the queues closer to each other than this are not kept.
const APART: Duration = Duration::from_secs(1);

/// How long publishing may take: a queue without a majority of its nodes confirms nothing.
const PUBLISH_TIME: Duration = Duration::from_secs(20);

/// How long a queue is not asked for its depth that could not say it. Some failures end the session.
const NOT_ASKED: Duration = Duration::from_mins(1);

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let mut observed = Observed::default();
    loop {
        let began = Instant::now();
        let looked = stop.run_until_cancelled(look(config, session, &mut observed)).await;
        let more = match looked {
            None => return Ok(()),
            Some(Ok(more)) => more,
            Some(Err(RouterError::Store(error))) => {
                tracing::debug!(error = error.chain(), "failed to look for lost jobs");
                observed.forget();
                false
            }
            Some(Err(error)) => return Err(error),
        };
        // While there is much to look at, half of the time is for others.
        let pause = if more { began.elapsed() } else { config.reconcile_every };
        let pause = tokio::time::sleep(pause);
        if stop.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
    }
}

/// Looks once; returns whether there may be more to look at.
async fn look(
    config: &Config,
    session: &Session,
    observed: &mut Observed,
) -> Result<bool, RouterError> {
    let shares = config.broker.delivery_queues();
    observe(config, session, shares, observed).await?;
    let Some(passed) = observed.certain() else { return Ok(false) };
    let Some(found) = config.store.reconcile(AT_A_TIME, passed).await? else { return Ok(false) };
    if !found.unattempted.is_empty() || !found.overdue.is_empty() {
        tracing::warn!(
            unattempted = found.unattempted.len(),
            overdue = found.overdue.len(),
            "some deliveries are owed and no job carries them; their jobs are published again"
        );
    }
    if wait_elsewhere(&found.unattempted, session, shares).await? {
        // They count as queued now, and are looked at again when the queues have passed that.
        let batches = batches(&found.unattempted);
        config.store.reconcile_postponed(&batches, found.at).await?;
    } else {
        let first = jobs::first(&found.unattempted, found.at)?;
        publish(config, session, &found.unattempted, first, found.at).await?;
    }
    let due = jobs::due(&found.overdue, found.at)?;
    publish(config, session, &found.overdue, due, found.at).await?;
    Ok(i64::try_from(found.looked).unwrap_or(i64::MAX) >= AT_A_TIME)
}

/// Publishes jobs and notes that. What can't be published is found again in some seconds.
async fn publish(
    config: &Config,
    session: &Session,
    lost: &[Due],
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
            tracing::warn!(%error, "lost jobs could not be published again");
            return Ok(());
        }
        Err(_) => {
            tracing::warn!("lost jobs could not be published again: the broker did not confirm");
            return Ok(());
        }
    }
    config.metrics.republished(lost.len());
    Ok(config.store.reconcile_published(&batches(lost), at).await?)
}

fn batches(dues: &[Due]) -> Vec<BatchKey> {
    let batches: BTreeSet<BatchKey> = dues.iter().map(|due| due.batch).collect();
    batches.into_iter().collect()
}

/// What was observed of the queues, the oldest first.
#[derive(Default)]
struct Observed {
    samples: VecDeque<(Instant, Passed)>,
    /// How long ago a sample was taken of which everything is certain.
    certain_after: Duration,
    /// Queues that could not say how many messages they hold, and when.
    silent: Vec<(Queue, Instant)>,
}

impl Observed {
    /// What the queues have passed long enough ago.
    fn certain(&self) -> Option<Passed> {
        let old = |(at, _): &&(Instant, Passed)| at.elapsed() >= self.certain_after;
        self.samples.iter().rev().find(old).map(|(_, passed)| *passed)
    }

    fn add(&mut self, passed: Passed) {
        if self.samples.back().is_some_and(|(at, _)| at.elapsed() < APART) {
            return;
        }
        let longest = self.certain_after.max(CERTAIN_UNLESS_TOLD);
        while self.samples.get(1).is_some_and(|(at, _)| at.elapsed() >= longest) {
            self.samples.pop_front();
        }
        self.samples.push_back((Instant::now(), passed));
    }

    /// The database was away: nothing is certain.
    fn forget(&mut self) {
        self.samples.clear();
    }

    fn is_silent(&mut self, queue: Queue) -> bool {
        self.silent.retain(|(_, since)| since.elapsed() < NOT_ASKED);
        self.silent.iter().any(|(silent, _)| *silent == queue)
    }
}

/// Observes how far the queues have come now.
async fn observe(
    config: &Config,
    session: &Session,
    shares: Shares,
    observed: &mut Observed,
) -> Result<(), StoreError> {
    let began = Instant::now();
    let progress = config.store.queue_progress().await?;
    observed.certain_after =
        progress.settles_within.unwrap_or(CERTAIN_UNLESS_TOLD).max(CERTAIN_AFTER);
    if began.elapsed() > CERTAIN_AFTER {
        observed.forget();
    }
    // It may have been away for less than the time between two looks.
    let server_age = (progress.at - progress.started_at).to_std().unwrap_or_default();
    observed.samples.retain(|(at, _)| at.elapsed() < server_age);
    let mut deliveries = Some(progress.at);
    for share in shares.all() {
        let queue = passed(session, &progress, observed, Queue::Deliveries(share)).await;
        // The slowest of them counts.
        deliveries = deliveries.zip(queue).map(|(one, other)| one.min(other));
    }
    let retries = passed(session, &progress, observed, Queue::Retries).await;
    observed.add(Passed { deliveries, retries });
    Ok(())
}

/// How far a queue has come; `None` when that is not known.
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
        // A queue whose leader is away says that it is empty, too; then nobody consumes it.
        Ok(depth) if depth.ready == 0 && depth.consumers > 0 => Some(shortly),
        Ok(_) => noted,
        Err(error) => {
            tracing::debug!(queue = queue.name(), %error, "a queue does not say what it holds");
            observed.silent.push((queue, Instant::now()));
            noted
        }
    }
}

/// Whether the jobs of deliveries that were never attempted may be waiting in a queue that this
/// router doesn't use.
async fn wait_elsewhere(
    unattempted: &[Due],
    session: &Session,
    shares: Shares,
) -> Result<bool, BrokerError> {
    if unattempted.is_empty() {
        return Ok(false);
    }
    let Some(queue) = waiting(session, shares.beyond()).await? else {
        return Ok(false);
    };
    tracing::warn!(
        unattempted = unattempted.len(),
        queue = queue.name(),
        used = shares.count(),
        "jobs wait in a delivery queue that routers with this FANFARE_DELIVERY_QUEUES don't use; \
         until workers have emptied it nothing is taken for lost"
    );
    Ok(true)
}

/// The first of these delivery queues in which jobs wait. What is not there holds nothing.
async fn waiting(
    session: &Session,
    shares: impl Iterator<Item = Share>,
) -> Result<Option<Queue>, BrokerError> {
    for queue in shares.map(Queue::Deliveries) {
        match session.depth(queue).await {
            Ok(depth) if depth.ready == 0 => {}
            Ok(_) => return Ok(Some(queue)),
            Err(BrokerError::Missing { .. }) => {}
            Err(error) => return Err(error),
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
    fn only_what_was_passed_long_enough_ago_is_certain() {
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
