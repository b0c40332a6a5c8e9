//! Due jobs: those that come within a moment of each other are worked on together, so that they share
//! their questions to the database.

use std::sync::Arc;
use std::time::Duration;

use fanfare_broker::{Incoming, Settle};
use fanfare_core::job::{Due, Job, MAX_DELIVERIES};
use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Lane, Stamped, WIDEST, give_back, later, set_aside, settle_jobs};
use crate::due::{Taken, attempt_each, part};
use crate::follow_up::FOLLOW_UP_MISSING;
use crate::hold::JobHold;

/// How long a due job waits for others, with which it shares the questions to the database. Delays are
/// exact to about a second.
const GATHER: Duration = Duration::from_millis(20);

/// A due job that came back so often is taken apart: long before it would be given up as a whole.
const SUSPECT: u64 = 3;

pub(super) async fn due_attempts(lane: Lane, mut jobs: mpsc::Receiver<Stamped>) {
    let lane = Arc::new(lane);
    let mut batch = Vec::with_capacity(MAX_DELIVERIES);
    while gather(&mut jobs, &mut batch).await {
        let mut group = Group::default();
        for Stamped { incoming, open, .. } in batch.drain(..) {
            if lane.context.stop.is_cancelled() {
                give_back(vec![incoming.settle]).await;
                continue;
            }
            match Job::from_bytes(&incoming.message.body) {
                Ok(Job::First(dues)) => take_due(&lane, &mut group, incoming, open, &dues, true),
                Ok(Job::Due(dues)) => take_due(&lane, &mut group, incoming, open, &dues, false),
                // A job of a delivery queue that went round because an older worker did not know it.
                Ok(job) => {
                    let for_job = Arc::clone(&lane);
                    lane.tracker.spawn(async move {
                        let result = later(&for_job, &job).await;
                        settle_jobs(vec![(incoming.settle, result)]).await;
                        drop(open);
                    });
                }
                Err(error) => set_aside(&lane, incoming, open, error),
            }
            if group.taken.len() >= MAX_DELIVERIES {
                attempt_group(&lane, std::mem::take(&mut group)).await;
            }
        }
        attempt_group(&lane, group).await;
    }
}

/// Adds a job to the group; or takes it apart, if it came back so often that one of its deliveries
/// may be to blame, or if it is wider than any that a router makes.
fn take_due(
    lane: &Arc<Lane>,
    group: &mut Group,
    incoming: Incoming,
    open: TaskTrackerToken,
    dues: &[Due],
    first: bool,
) {
    let Incoming { message, redelivered, delivery_count, settle, .. } = incoming;
    let redelivered = redelivered || message.headers.flag(FOLLOW_UP_MISSING) == Some(true);
    let taken = dues.iter().map(|due| Taken { due: *due, first, redelivered, slot: None });
    if dues.len() < 2 || (delivery_count < SUSPECT && dues.len() <= MAX_DELIVERIES) {
        group.taken.extend(taken);
        group.jobs.push((dues.len(), settle));
        group.open.push(open);
        return;
    }
    let (for_job, taken): (_, Vec<Taken>) = (Arc::clone(lane), taken.collect());
    lane.tracker.spawn(async move {
        let parted = async {
            for taken in taken.chunks(WIDEST) {
                part(&for_job.context, &for_job.hand_on, taken).await?;
            }
            Ok(())
        };
        let result = parted.await;
        settle_jobs(vec![(settle, result)]).await;
        drop(open);
    });
}

/// Due jobs that are worked on together.
#[derive(Default)]
struct Group {
    /// Their deliveries, one job after the other.
    taken: Vec<Taken>,
    /// How many of them are each job's, and how that is settled.
    jobs: Vec<(usize, Settle)>,
    /// Held until all of them are settled.
    open: Vec<TaskTrackerToken>,
}

impl Group {
    fn settles(self) -> Vec<Settle> {
        self.jobs.into_iter().map(|(_, settle)| settle).collect()
    }
}

/// Begins to work on a group when there is room for it.
async fn attempt_group(lane: &Arc<Lane>, group: Group) {
    if group.jobs.is_empty() {
        return;
    }
    let wanted = lane.wanted(group.taken.len());
    let permit = Arc::clone(&lane.permits).acquire_many_owned(wanted).await;
    let Ok(permit) = permit else { return };
    if lane.context.stop.is_cancelled() {
        give_back(group.settles()).await;
        return;
    }
    let for_group = Arc::clone(lane);
    lane.tracker.spawn(async move {
        let Group { taken, jobs, open } = group;
        let mut taken = taken.into_iter();
        let mut attempts = Vec::with_capacity(taken.len());
        let ends = FuturesUnordered::new();
        for (count, settle) in jobs {
            let (hold, end) = JobHold::new();
            attempts.extend(taken.by_ref().take(count).map(|taken| (taken, hold.clone())));
            // A job of which one delivery was not done comes again whole; of what was done the ledger
            // knows.
            ends.push(async move { (settle, end.wait().await) });
        }
        let Lane { context, hand_on, .. } = &*for_group;
        let settled = ends.ready_chunks(MAX_DELIVERIES).for_each_concurrent(None, settle_jobs);
        // Slow attempts go on when their jobs are settled.
        join(attempt_each(context, hand_on, attempts, &[], permit), settled).await;
        drop(open);
    });
}

/// Takes jobs that come within a moment of each other; false at the end.
async fn gather(jobs: &mut mpsc::Receiver<Stamped>, batch: &mut Vec<Stamped>) -> bool {
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
