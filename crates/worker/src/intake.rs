//! Jobs in: taken from the delivery queues and that of the retries, worked on side by side,
//! acknowledged when all that follows from them is in the ledger and on the broker.

mod group;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_broker::dead_letters::reject;
use fanfare_broker::{
    BrokerError, Consumer, Incoming, Queue, Session, Settle, ack_all, keep_consuming,
};
use fanfare_core::chain::chain;
use fanfare_core::job::{Job, JobError, MAX_DELIVERIES, Unit};
use futures_util::future::{join, join_all};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::context::{Context, STALE};
use crate::due::defer;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::fresh::{attempt_all, dues as dues_of};
use crate::gate::lanes;
use crate::hand_on::HandOn;
use crate::hold::JobHold;
use group::due_attempts;

/// How long a worker whose session is lost needs to claim what it has under way; until then its
/// jobs, which the broker hands to others, must wait.
const HANDOVER: Duration = Duration::from_secs(4);

/// A job that could not be settled is given back after this pause, so that it does not spin.
const PAUSE: Duration = Duration::from_secs(1);

/// The most deliveries that are looked up in one statement.
const WIDEST: usize = 1024;

/// The most unknown kinds of jobs that are warned of.
const MOST_UNKNOWN: usize = 16;

/// The reason of a dead letter that is no job.
const UNREADABLE: &str = "unreadable";

/// How long a stopping worker waits for what is under way.
const GRACE: Duration = Duration::from_secs(20);

/// How often a delivery queue is looked for that no router has made yet.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A message with the time when it reached this worker.
struct Stamped {
    incoming: Incoming,
    at: Instant,
    /// Held until the message is settled and its attempts are over: its consumer waits for that when
    /// the process stops.
    open: TaskTrackerToken,
}

/// What the jobs of one kind share: first attempts, or due ones.
struct Lane {
    context: Arc<Context>,
    hand_on: HandOn,
    /// All jobs of the process, which outlive a lost session.
    tracker: TaskTracker,
    /// Deliveries of this kind that may be under way at a time.
    permits: Arc<Semaphore>,
    most: u32,
    /// The unknown kinds of jobs that were warned of.
    unknown: Arc<Mutex<BTreeSet<String>>>,
}

impl Lane {
    /// The slots that a job waits for. Not more than a quarter, since stuck requests may hold most of
    /// the others: a wider job begins all the same.
    fn wanted(&self, deliveries: usize) -> u32 {
        u32::try_from(deliveries).unwrap_or(u32::MAX).clamp(1, self.most.div_ceil(4))
    }
}

/// Works through the queues until the session or the process ends. Each queue has a consumer of its
/// own: one that can't be consumed stops only its own jobs.
pub(crate) async fn work(
    context: Arc<Context>,
    session: Session,
    tracker: TaskTracker,
) -> Result<(), WorkerError> {
    let store = &context.config.store;
    // Nothing is taken while nothing can be done with it.
    context.patiently(|| async { store.directory_revision().await.map(drop) }).await?;
    // Times are the database's; until one is known nothing can be decided.
    context.patiently(|| store.sample_clock()).await?;
    let (first, retries) = lanes(context.config.concurrency);
    let hand_on = HandOn::start(Arc::clone(&context), &session, &tracker);
    let unknown = Arc::default();
    let lane = |most: u32| Lane {
        context: Arc::clone(&context),
        hand_on: hand_on.clone(),
        tracker: tracker.clone(),
        permits: Arc::new(Semaphore::new(most as usize)),
        most,
        unknown: Arc::clone(&unknown),
    };
    // Jobs that can't be begun for long would count as stale; others may have time for them.
    let most = u16::try_from(context.config.concurrency).unwrap_or(u16::MAX);
    let prefetch = context.config.prefetch.min(most);
    let capacity = usize::from(prefetch);
    let (to_first, firsts) = mpsc::channel(capacity);
    let (to_due, dues) = mpsc::channel(capacity);
    let shares = context.config.broker.delivery_queues();
    let each = (prefetch / u16::from(shares.count())).max(1);
    let deliveries = shares.all().map(|share| {
        keep_taking(&context, &session, Queue::Deliveries(share), each, to_first.clone())
    });
    let deliveries: Vec<_> = deliveries.collect();
    // First attempts end when the last of these senders does.
    drop(to_first);
    tokio::join!(
        join_all(deliveries),
        keep_taking(&context, &session, Queue::Retries, prefetch, to_due),
        first_attempts(lane(first), firsts),
        due_attempts(lane(retries), dues),
    );
    // The consumers end by themselves only with the process or the session.
    if session.is_lost() && !context.stop.is_cancelled() {
        return Err(lost().into());
    }
    Ok(())
}

fn lost() -> BrokerError {
    BrokerError::Lost { doing: "delivering".to_owned(), source: None }
}

/// Takes the jobs of a queue, whatever happens to it, until the session or the process ends.
async fn keep_taking(
    context: &Context,
    session: &Session,
    queue: Queue,
    prefetch: u16,
    to: mpsc::Sender<Stamped>,
) {
    keep_consuming(session, queue, &context.stop, || take(context, session, queue, prefetch, &to))
        .await;
}

/// Takes the jobs of a queue until its consumer ends, and then sees that what was taken is safe.
async fn take(
    context: &Context,
    session: &Session,
    queue: Queue,
    prefetch: u16,
    to: &mpsc::Sender<Stamped>,
) -> Result<(), WorkerError> {
    let Some(consumer) = open(context, session, queue, prefetch).await? else {
        return Ok(());
    };
    let of_consumer = TaskTracker::new();
    let result = stamp(context, queue, session, consumer, &of_consumer, to).await;
    of_consumer.close();
    // What is under way is settled before the consumer's connection ends, if there is time.
    let settled = match &result {
        Ok(()) => tokio::time::timeout(GRACE, of_consumer.wait()).await.is_ok(),
        Err(_) => false,
    };
    if !settled {
        // It goes on and is recorded, while the broker hands its jobs to others.
        context.claim_under_way().await?;
    }
    result
}

/// Begins to consume a queue; `None` when the process stops. Of the delivery queues only the first one
/// is always there; the others are made by routers that spread jobs over them, which are best told to
/// do so after the workers.
async fn open(
    context: &Context,
    session: &Session,
    queue: Queue,
    prefetch: u16,
) -> Result<Option<Consumer>, WorkerError> {
    let mut logged = false;
    loop {
        match session.consumer(queue, prefetch).await {
            Ok(consumer) => return Ok(Some(consumer)),
            Err(BrokerError::Missing { .. })
                if queue != Queue::DELIVERIES && queue != Queue::Retries => {}
            Err(error) => return Err(error.into()),
        }
        if !std::mem::replace(&mut logged, true) {
            let queue = queue.name();
            tracing::info!(
                queue,
                "a delivery queue is not there yet; a router with this FANFARE_DELIVERY_QUEUES \
                 makes it"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = context.stop.cancelled() => return Ok(None),
            () = session.lost() => return Err(lost().into()),
        }
    }
}

/// Takes messages as they come and notes when.
async fn stamp(
    context: &Context,
    queue: Queue,
    session: &Session,
    mut consumer: Consumer,
    of_consumer: &TaskTracker,
    to: &mpsc::Sender<Stamped>,
) -> Result<(), WorkerError> {
    loop {
        let next = tokio::select! {
            next = consumer.next() => next,
            () = context.stop.cancelled() => break,
            () = session.lost() => return Err(lost().into()),
        };
        let Some(incoming) = next.transpose()? else { break };
        context.progress.note(queue, &incoming);
        let stamped = Stamped { incoming, at: Instant::now(), open: of_consumer.token() };
        if to.send(stamped).await.is_err() {
            break;
        }
    }
    Ok(consumer.cancel().await?)
}

async fn first_attempts(lane: Lane, mut jobs: mpsc::Receiver<Stamped>) {
    let lane = Arc::new(lane);
    while let Some(Stamped { incoming, at, open }) = jobs.recv().await {
        if lane.context.stop.is_cancelled() {
            give_back(vec![incoming.settle]).await;
            continue;
        }
        let job = match Job::from_bytes(&incoming.message.body) {
            Ok(job) => job,
            Err(error) => {
                set_aside(&lane, incoming, open, error);
                continue;
            }
        };
        let wanted = lane.wanted(width(&job));
        let Ok(permit) = Arc::clone(&lane.permits).acquire_many_owned(wanted).await else {
            break;
        };
        if lane.context.stop.is_cancelled() {
            give_back(vec![incoming.settle]).await;
            continue;
        }
        let again = incoming.redelivered || at.elapsed() > STALE;
        let for_job = Arc::clone(&lane);
        lane.tracker.spawn(async move {
            match job {
                Job::Fresh(units) if !again && width_of(&units) <= MAX_DELIVERIES => {
                    let Lane { context, hand_on, .. } = &*for_job;
                    let (hold, end) = JobHold::new();
                    // Slow attempts go on when their job is settled.
                    join(attempt_all(context, hand_on, &units, permit, hold), async {
                        settle_jobs(vec![(incoming.settle, end.wait().await)]).await;
                    })
                    .await;
                }
                job => {
                    let result = later(&for_job, &job).await;
                    settle_jobs(vec![(incoming.settle, result)]).await;
                }
            }
            drop(open);
        });
    }
}

/// Sends a job round whose deliveries are not to be attempted now.
async fn later(lane: &Lane, job: &Job) -> Result<(), WorkerError> {
    let fresh;
    let (dues, units, wait) = match job {
        Job::Fresh(units) => {
            fresh = dues_of(units);
            (&fresh, units.as_slice(), HANDOVER)
        }
        Job::Copy(dues) => (dues, [].as_slice(), lane.context.certainty()),
        // These belong into the other queue.
        Job::First(dues) | Job::Due(dues) => (dues, [].as_slice(), HANDOVER),
    };
    // No router makes a job so wide that this takes more than one round.
    for dues in dues.chunks(WIDEST) {
        defer(&lane.context, &lane.hand_on, dues, units, wait).await?;
    }
    Ok(())
}

/// The deliveries that a job may have under way at a time.
fn width(job: &Job) -> usize {
    match job {
        Job::Fresh(units) => width_of(units),
        // Copies are not attempted here but sent on their way.
        Job::Copy(_) | Job::First(_) | Job::Due(_) => 1,
    }
}

fn width_of(units: &[Unit]) -> usize {
    units.iter().map(|unit| unit.deliveries.len()).sum()
}

/// Acknowledges jobs that are done, and gives back those that are not.
async fn settle_jobs(jobs: Vec<(Settle, Result<(), WorkerError>)>) {
    let (mut done, mut undone) = (Vec::new(), Vec::new());
    for (settle, result) in jobs {
        match result {
            Ok(()) => done.push(settle),
            Err(error) => {
                if !matches!(error, WorkerError::NotHandedOn) {
                    tracing::warn!(error = chain(&error), "a job was not done; it comes again");
                }
                undone.push(settle);
            }
        }
    }
    if let Err(error) = ack_all(done).await {
        tracing::debug!(%error, "jobs could not be settled; they come again");
    }
    if !undone.is_empty() {
        tokio::time::sleep(PAUSE).await;
        give_back(undone).await;
    }
}

async fn give_back(settles: Vec<Settle>) {
    for settle in settles {
        if let Err(error) = settle.give_back().await {
            tracing::debug!(%error, "a job could not be given back; it comes again");
        }
    }
}

/// Puts a message aside that this worker can't take: a job of a newer version goes round by the delay
/// ladder, unchanged, until a worker that knows its kind takes it; what is no job is kept for a
/// person.
fn set_aside(lane: &Arc<Lane>, incoming: Incoming, open: TaskTrackerToken, why: JobError) {
    let Incoming { message, routing_key, settle, .. } = incoming;
    let metrics = &lane.context.config.metrics;
    let follow_up = match why {
        JobError::UnknownKind(kind) => {
            metrics.unknown_job();
            let mut unknown = lane.unknown.lock().unwrap_or_else(PoisonError::into_inner);
            if unknown.len() < MOST_UNKNOWN && unknown.insert(kind.clone()) {
                tracing::warn!(
                    kind,
                    "jobs of this kind are not known to this version of the worker; they go round \
                     until a newer worker takes them"
                );
            }
            FollowUp::round(message)
        }
        JobError::NotAJob(_) => {
            let detail = why.to_string();
            tracing::error!(detail, "a message is no job; it is kept as a dead letter");
            metrics.unreadable();
            let now = lane.context.now();
            let letter = reject(&message, &routing_key, UNREADABLE, &detail, now);
            FollowUp::Unreadable { letter: Box::new(letter), original: Box::new(message) }
        }
    };
    let for_job = Arc::clone(lane);
    lane.tracker.spawn(async move {
        let result = for_job.hand_on.hand_on([follow_up]).await;
        settle_jobs(vec![(settle, result)]).await;
        drop(open);
    });
}
