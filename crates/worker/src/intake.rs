//! Jobs in: taken from the delivery queues and that of the retries, worked on side by side,
//! acknowledged when all that follows from them is in the ledger and on the broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_broker::dead_letters::reject;
use fanfare_broker::{BrokerError, Consumer, Incoming, Publisher, Queue, Session, Settle, ack_all};
use fanfare_core::chain::chain;
use fanfare_core::job::{Due, Job, MAX_DELIVERIES};
use fanfare_core::outcome::DeadReason;
use fanfare_core::share::Share;
use futures_util::future::try_join_all;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::context::{Context, STALE};
use crate::due::{Taken, attempt_each, defer, part};
use crate::error::WorkerError;
use crate::fresh::{attempt_all, dues};
use crate::gate::lanes;
use crate::hand_on::HandOn;

/// How long a worker whose session is lost needs to claim what it has under way; until then its
/// jobs, which the broker hands to others, must wait.
const HANDOVER: Duration = Duration::from_secs(4);

/// A job that could not be settled is given back after this pause, so that it does not spin.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a due job waits for others, with which it shares the questions to the database. Delays are
/// exact to about a second.
const GATHER: Duration = Duration::from_millis(20);

/// A due job that came back so often is taken apart: long before it would be given up as a whole.
const SUSPECT: u64 = 3;

/// How long a stopping worker waits for what is under way.
const GRACE: Duration = Duration::from_secs(20);

/// How often a delivery queue is looked for that no router has made yet.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A message with the time when it reached this worker.
struct Stamped {
    incoming: Incoming,
    at: Instant,
}

/// What the jobs of one kind share: first attempts, or due ones.
struct Lane {
    context: Arc<Context>,
    publisher: Publisher,
    hand_on: HandOn,
    /// All jobs of the process, which outlive a lost session.
    tracker: TaskTracker,
    /// The jobs of this session, which can be settled as long as it lives.
    of_session: TaskTracker,
    /// Deliveries of this kind that may be under way at a time.
    permits: Arc<Semaphore>,
    most: u32,
}

impl Lane {
    /// The slots that a job waits for. Not more than half, since requests to one host or of one
    /// owner may hold the other half: a wider job begins all the same.
    fn wanted(&self, deliveries: usize) -> u32 {
        u32::try_from(deliveries).unwrap_or(u32::MAX).clamp(1, self.most.div_ceil(2))
    }

    fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.of_session.track_future(job));
    }
}

/// Works through the queues until the session or the process ends.
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
    let of_session = TaskTracker::new();
    let hand_on = HandOn::start(Arc::clone(&context), session.publisher(), &tracker);
    let lane = |most: u32| Lane {
        context: Arc::clone(&context),
        publisher: session.publisher(),
        hand_on: hand_on.clone(),
        tracker: tracker.clone(),
        of_session: of_session.clone(),
        permits: Arc::new(Semaphore::new(most as usize)),
        most,
    };
    // Jobs that can't be begun for long would count as stale; others may have time for them.
    let most = u16::try_from(context.config.concurrency).unwrap_or(u16::MAX);
    let prefetch = context.config.prefetch.min(most);
    let due = session.consumer(Queue::Retries, prefetch).await?;
    let capacity = usize::from(prefetch);
    let (to_first, firsts) = mpsc::channel(capacity);
    let (to_due, dues) = mpsc::channel(capacity);
    let shares = context.config.broker.delivery_queues();
    let each = (prefetch / u16::from(shares.count())).max(1);
    let deliveries: Vec<_> = shares
        .all()
        .map(|share| take_deliveries(&context, &session, share, each, to_first.clone()))
        .collect();
    // First attempts end when the last of these senders does.
    drop(to_first);
    let result = tokio::try_join!(
        try_join_all(deliveries),
        stamp(&context, Queue::Retries, due, to_due),
        first_attempts(lane(first), firsts),
        due_attempts(lane(retries), dues),
        lost(&context, &session),
    );
    of_session.close();
    // The session ends with this function: what is under way is settled before, if there is time.
    let settled = match &result {
        Ok(_) => tokio::time::timeout(GRACE, of_session.wait()).await.is_ok(),
        Err(_) => false,
    };
    if !settled {
        // It goes on and is recorded, while the broker hands its jobs to others.
        context.claim_under_way().await?;
    }
    result.map(drop)
}

async fn lost(context: &Context, session: &Session) -> Result<(), WorkerError> {
    match context.stop.run_until_cancelled(session.lost()).await {
        Some(()) => Err(BrokerError::Lost { doing: "delivering".to_owned(), source: None }.into()),
        None => Ok(()),
    }
}

/// Takes the jobs of a delivery queue. Only the first one is always there; the others are made by
/// routers that spread jobs over them, which are best told to do so after the workers.
async fn take_deliveries(
    context: &Context,
    session: &Session,
    share: Share,
    prefetch: u16,
    to: mpsc::Sender<Stamped>,
) -> Result<(), WorkerError> {
    let queue = Queue::Deliveries(share);
    let mut told = false;
    loop {
        match session.consumer(queue, prefetch).await {
            Ok(consumer) => return stamp(context, queue, consumer, to).await,
            Err(BrokerError::Missing { .. }) if share != Share::FIRST => {}
            Err(error) => return Err(error.into()),
        }
        if !std::mem::replace(&mut told, true) {
            let queue = queue.name();
            tracing::info!(
                queue,
                "a delivery queue is not there yet; a router with this FANFARE_DELIVERY_QUEUES \
                 makes it"
            );
        }
        let pause = tokio::time::sleep(LOOK_AGAIN);
        if context.stop.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
    }
}

/// Takes messages as they come and notes when.
async fn stamp(
    context: &Context,
    queue: Queue,
    mut consumer: Consumer,
    to: mpsc::Sender<Stamped>,
) -> Result<(), WorkerError> {
    while let Some(Some(next)) = context.stop.run_until_cancelled(consumer.next()).await {
        let stamped = Stamped { incoming: next?, at: Instant::now() };
        context.progress.note(queue, &stamped.incoming);
        if to.send(stamped).await.is_err() {
            break;
        }
    }
    Ok(consumer.cancel().await?)
}

async fn first_attempts(lane: Lane, mut jobs: mpsc::Receiver<Stamped>) -> Result<(), WorkerError> {
    let lane = Arc::new(lane);
    while let Some(Stamped { incoming, at }) = jobs.recv().await {
        if lane.context.stop.is_cancelled() {
            incoming.settle.give_back().await?;
            continue;
        }
        let job = match Job::from_bytes(&incoming.message.body) {
            Ok(job) => job,
            Err(error) => {
                unreadable(&lane, incoming, &error).await?;
                continue;
            }
        };
        let wanted = lane.wanted(width(&job));
        let Ok(permit) = Arc::clone(&lane.permits).acquire_many_owned(wanted).await else {
            break;
        };
        if lane.context.stop.is_cancelled() {
            incoming.settle.give_back().await?;
            continue;
        }
        let again = incoming.redelivered || at.elapsed() > STALE;
        let for_job = Arc::clone(&lane);
        lane.spawn(async move {
            let settle = incoming.settle;
            let (context, hand_on) = (&*for_job.context, &for_job.hand_on);
            let result = match job {
                Job::Fresh(units) if !again => attempt_all(context, hand_on, &units, permit).await,
                Job::Fresh(units) => defer(context, hand_on, &dues(&units), &units, HANDOVER).await,
                Job::Copy(dues) => defer(context, hand_on, &dues, &[], context.certainty()).await,
                // Nobody sends these here; the other queue is where they belong.
                Job::First(dues) | Job::Due(dues) => {
                    defer(context, hand_on, &dues, &[], HANDOVER).await
                }
            };
            settle_jobs(vec![(settle, result)]).await;
        });
    }
    Ok(())
}

async fn due_attempts(lane: Lane, mut jobs: mpsc::Receiver<Stamped>) -> Result<(), WorkerError> {
    let lane = Arc::new(lane);
    let mut batch = Vec::with_capacity(MAX_DELIVERIES);
    while gather(&mut jobs, &mut batch).await {
        let mut group = Group::default();
        for Stamped { incoming, .. } in batch.drain(..) {
            if lane.context.stop.is_cancelled() {
                incoming.settle.give_back().await?;
                continue;
            }
            match Job::from_bytes(&incoming.message.body) {
                Ok(Job::First(dues)) => take_due(&lane, &mut group, incoming, &dues, true),
                Ok(Job::Due(dues)) => take_due(&lane, &mut group, incoming, &dues, false),
                Ok(_) => unreadable(&lane, incoming, &"it is not a due job").await?,
                Err(error) => unreadable(&lane, incoming, &error).await?,
            }
            if group.taken.len() >= MAX_DELIVERIES {
                attempt_group(&lane, std::mem::take(&mut group)).await;
            }
        }
        attempt_group(&lane, group).await;
    }
    Ok(())
}

/// Adds a job to the group; or takes it apart, if it came back so often that one of its deliveries
/// may be to blame.
fn take_due(lane: &Arc<Lane>, group: &mut Group, incoming: Incoming, dues: &[Due], first: bool) {
    let Incoming { redelivered, delivery_count, settle, .. } = incoming;
    let taken = dues.iter().map(|due| Taken { due: *due, first, redelivered });
    if dues.len() < 2 || delivery_count < SUSPECT {
        group.taken.extend(taken);
        group.jobs.push((dues.len(), settle));
        return;
    }
    let (for_job, taken): (_, Vec<Taken>) = (Arc::clone(lane), taken.collect());
    lane.spawn(async move {
        let result = part(&for_job.context, &for_job.hand_on, &taken).await;
        settle_jobs(vec![(settle, result)]).await;
    });
}

/// Due jobs that are worked on together.
#[derive(Default)]
struct Group {
    /// Their deliveries, one job after the other.
    taken: Vec<Taken>,
    /// How many of them are each job's, and how that is settled.
    jobs: Vec<(usize, Settle)>,
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
    lane.spawn(async move {
        let Lane { context, hand_on, .. } = &*for_group;
        match attempt_each(context, hand_on, &group.taken, &[], permit).await {
            Ok(results) => {
                let mut results = results.into_iter();
                // A job of which one delivery was not done comes again whole; of what was done the
                // ledger knows.
                let of_job = |(count, settle)| {
                    let own: Vec<_> = results.by_ref().take(count).collect();
                    (settle, own.into_iter().collect())
                };
                settle_jobs(group.jobs.into_iter().map(of_job).collect()).await;
            }
            Err(error) => {
                // One reason for all of them is told once.
                tracing::warn!(error = chain(&error), "due jobs were not done; they come again");
                tokio::time::sleep(PAUSE).await;
                give_back(group.settles()).await;
            }
        }
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

/// The deliveries that a job may have under way at a time.
fn width(job: &Job) -> usize {
    match job {
        Job::Fresh(units) => units.iter().map(|unit| unit.deliveries.len()).sum(),
        // Copies are not attempted here but sent on their way.
        Job::Copy(_) | Job::First(_) | Job::Due(_) => 1,
    }
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

/// Keeps a message that is no job for a person.
async fn unreadable(
    lane: &Lane,
    incoming: Incoming,
    why: &impl std::fmt::Display,
) -> Result<(), WorkerError> {
    let detail = format!("the message is not a job: {why}");
    tracing::error!(detail, "a message can't be read as a job; it is kept as a dead letter");
    let now = lane.context.now();
    lane.context.config.metrics.dead_letter(DeadReason::Poison);
    let code = DeadReason::Poison.code();
    let letter = reject(&incoming.message, &incoming.routing_key, code, &detail, now);
    lane.publisher.publish(&Queue::DeliveriesDead.into(), letter).await?;
    incoming.settle.ack().await?;
    Ok(())
}
