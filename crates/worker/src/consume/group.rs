//! Groups of jobs for later attempts: jobs that arrive at nearly the same time are worked on together,
//! so that they share their statements to the database.

use std::sync::Arc;
use std::time::Duration;

use fanfare_broker::{Incoming, Settle, job};
use fanfare_core::job::{AttemptRef, Job, MAX_DELIVERIES};
use fanfare_failpoints::failpoint;
use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Lane, MAX_LOOKUP, Received, defer_job, park, requeue, settle_jobs};
use crate::delivery::DueDelivery;
use crate::follow_up::{AttemptKind, FOLLOW_UP_MISSING, in_doubt_since};
use crate::guard::JobGuard;
use crate::in_doubt::{Doubt, come_back, split};

/// How long a job waits for others that share its statements to the database. Delays are exact to about
/// a second.
const GATHER: Duration = Duration::from_millis(20);

/// A job that was redelivered this often is split into one job for each delivery, long before it would
/// be given up as a whole.
const REDELIVERIES_BEFORE_SPLIT: u64 = 3;

pub(super) async fn run_later_attempts(lane: Lane, mut jobs: mpsc::Receiver<Received>) {
    let lane = Arc::new(lane);
    let mut batch = Vec::with_capacity(MAX_DELIVERIES);
    while gather(&mut jobs, &mut batch).await {
        let mut group = Group::default();
        for received in batch.drain(..) {
            if lane.context.stop.is_cancelled() {
                requeue(vec![received.incoming.settle]).await;
                continue;
            }
            match job::read(&received.incoming.message) {
                Ok(Job::FirstByReference(dues)) => {
                    add_job(&lane, &mut group, received, &dues, AttemptKind::First);
                }
                Ok(Job::Retry(dues)) => {
                    add_job(&lane, &mut group, received, &dues, AttemptKind::Later);
                }
                Ok(Job::Recheck(dues)) => {
                    lane.tracker.spawn(recheck(Arc::clone(&lane), received, dues));
                }
                // A job of a delivery queue that an older worker has put off because it did not know
                // its kind.
                Ok(job) => {
                    let Received { incoming, open, .. } = received;
                    let for_job = Arc::clone(&lane);
                    lane.tracker.spawn(async move {
                        let result = defer_job(&for_job, &job).await;
                        settle_jobs(vec![(incoming.settle, result)]).await;
                        drop(open);
                    });
                }
                Err(error) => park(&lane, received.incoming, received.open, &error),
            }
            if group.deliveries.len() >= MAX_DELIVERIES {
                attempt_group(&lane, std::mem::take(&mut group)).await;
            }
        }
        attempt_group(&lane, group).await;
    }
}

/// Adds a job to the group. The job is split instead if it was redelivered so often that one of its
/// deliveries may be the cause, or if it is wider than any job that a router makes.
fn add_job(
    lane: &Arc<Lane>,
    group: &mut Group,
    Received { incoming, open, .. }: Received,
    dues: &[AttemptRef],
    kind: AttemptKind,
) {
    let Incoming { message, redelivered, delivery_count, settle, .. } = incoming;
    let redelivered = redelivered || message.headers.flag(FOLLOW_UP_MISSING) == Some(true);
    let deliveries =
        dues.iter().map(|due| DueDelivery { due: *due, kind, redelivered, slot: None });
    if dues.len() < 2
        || (delivery_count < REDELIVERIES_BEFORE_SPLIT && dues.len() <= MAX_DELIVERIES)
    {
        group.deliveries.extend(deliveries);
        group.jobs.push((dues.len(), settle));
        group.open.push(open);
        return;
    }
    let (for_job, deliveries): (_, Vec<DueDelivery>) = (Arc::clone(lane), deliveries.collect());
    lane.tracker.spawn(async move {
        let publish_each = async {
            for deliveries in deliveries.chunks(MAX_LOOKUP) {
                split(&for_job.context, &for_job.publisher, deliveries).await?;
            }
            Ok(())
        };
        let result = publish_each.await;
        settle_jobs(vec![(settle, result)]).await;
        drop(open);
    });
}

/// Jobs that are worked on together.
#[derive(Default)]
struct Group {
    /// Their deliveries, one job after the other.
    deliveries: Vec<DueDelivery>,
    /// For each job, the number of its deliveries and how it is settled.
    jobs: Vec<(usize, Settle)>,
    /// Held until all of them are settled.
    open: Vec<TaskTrackerToken>,
}

impl Group {
    fn settles(self) -> Vec<Settle> {
        self.jobs.into_iter().map(|(_, settle)| settle).collect()
    }
}

/// Begins to work on a group when there are permits for it.
async fn attempt_group(lane: &Arc<Lane>, group: Group) {
    if group.jobs.is_empty() {
        return;
    }
    let wanted = lane.wanted(group.deliveries.len());
    let permit = Arc::clone(&lane.permits).acquire_many_owned(wanted).await;
    let Ok(permit) = permit else { return };
    if lane.context.stop.is_cancelled() {
        requeue(group.settles()).await;
        return;
    }
    let for_group = Arc::clone(lane);
    lane.tracker.spawn(async move {
        let Group { deliveries, jobs, open } = group;
        failpoint!(WorkerTakes, deliveries.iter().map(|delivery| delivery.due));
        let mut deliveries = deliveries.into_iter();
        let mut attempts = Vec::with_capacity(deliveries.len());
        let ends = FuturesUnordered::new();
        for (count, settle) in jobs {
            let (guard, end) = JobGuard::new();
            attempts.extend(deliveries.by_ref().take(count).map(|it| (it, guard.clone())));
            // A job is redelivered as a whole if one of its deliveries failed. The ledger has the
            // attempts of the others.
            ends.push(async move { (settle, end.wait().await) });
        }
        let settled = ends.ready_chunks(MAX_DELIVERIES).for_each_concurrent(None, settle_jobs);
        // Slow attempts go on after their jobs are settled.
        join(for_group.pipeline(&[]).run_by_reference(attempts, permit), settled).await;
        drop(open);
    });
}

/// Attempts the deliveries of a recheck that comes back, if the doubt about them is over: no worker can
/// have the inline job of one open. If it is not over, the recheck goes round through the delay ladder.
async fn recheck(lane: Arc<Lane>, received: Received, dues: Vec<AttemptRef>) {
    let since = in_doubt_since(&received.incoming.message);
    let since = since.unwrap_or_else(|| lane.context.now());
    let result = match lane.context.doubt_is_over(since).await {
        Ok(true) => {
            let mut group = Group::default();
            add_job(&lane, &mut group, received, &dues, AttemptKind::First);
            return attempt_group(&lane, group).await;
        }
        Ok(false) => {
            let again = come_back(&lane.context, dues, Doubt::Recheck { since });
            lane.publisher.publish(again).await
        }
        Err(error) => Err(error),
    };
    settle_jobs(vec![(received.incoming.settle, result)]).await;
}

/// Receives jobs that arrive at nearly the same time; false at the end.
async fn gather(jobs: &mut mpsc::Receiver<Received>, batch: &mut Vec<Received>) -> bool {
    if jobs.recv_many(batch, MAX_DELIVERIES).await == 0 {
        return false;
    }
    if batch.len() < MAX_DELIVERIES {
        tokio::time::sleep(GATHER).await;
        while batch.len() < MAX_DELIVERIES
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
    }
    true
}
