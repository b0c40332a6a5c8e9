//! Jobs in: received from the delivery queues and from the retry queue, worked on concurrently, and
//! acknowledged when their attempts are in the ledger and their follow-ups are on the broker.

mod group;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_broker::dead_letters::reject;
use fanfare_broker::job;
use fanfare_broker::{
    BrokerError, Consumer, Incoming, Queue, Session, Settle, ack_all, keep_consuming,
};
use fanfare_core::chain::chain;
use fanfare_core::job::{AttemptRef, DeliveryGroup, Job, JobError, MAX_DELIVERIES, first_attempts};
use fanfare_failpoints::failpoint;
use futures_util::future::{join, join_all};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::context::{Context, MAX_PREFETCH_AGE};
use crate::deliver::Pipeline;
use crate::endpoint_limiter::lanes;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::follow_up_publisher::FollowUpPublisher;
use crate::guard::JobGuard;
use crate::in_doubt::{Doubt, defer};
use crate::open_jobs::OpenJob;
use group::run_later_attempts;

/// The pause before a job that failed is requeued, so that it does not circulate without a pause.
const REQUEUE_PAUSE: Duration = Duration::from_secs(1);

/// The most deliveries that are read in one statement.
const MAX_LOOKUP: usize = 1024;

/// The most unknown kinds of jobs that are logged.
const MAX_UNKNOWN_KINDS: usize = 16;

/// The reason of a dead letter that is not a job.
const UNREADABLE: &str = "unreadable";

/// How long a stopping worker waits for attempts that are under way.
const GRACE: Duration = Duration::from_secs(20);

/// How often a delivery queue is checked that no router has declared yet.
const QUEUE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// A message with the time when this worker received it.
struct Received {
    incoming: Incoming,
    at: Instant,
    /// Cancelled when its consumer has ended without settling it, so that the broker redelivers it.
    lost: CancellationToken,
    /// Held until a job for first attempts has left none open.
    unleased: Option<OpenJob>,
    /// Held until the message is settled and its attempts are over, because its consumer waits for that
    /// when the process stops.
    open: TaskTrackerToken,
}

/// The shared state of the jobs for first attempts, or of those for later ones.
struct Lane {
    context: Arc<Context>,
    publisher: FollowUpPublisher,
    /// All jobs of the process. They outlive a lost session.
    tracker: TaskTracker,
    /// One permit for each delivery of this kind that may be under way at a time.
    permits: Arc<Semaphore>,
    most: u32,
    /// The unknown kinds of jobs that were logged.
    unknown: Arc<Mutex<BTreeSet<String>>>,
}

impl Lane {
    /// The steps of a job with these events.
    fn pipeline<'a>(&'a self, groups: &'a [DeliveryGroup]) -> Pipeline<'a> {
        Pipeline { context: &self.context, publisher: &self.publisher, groups }
    }

    /// The number of permits that a job waits for: at most a quarter of them, because stuck requests
    /// may hold most of the others. A wider job begins with this number.
    fn wanted(&self, deliveries: usize) -> u32 {
        u32::try_from(deliveries).unwrap_or(u32::MAX).clamp(1, self.most.div_ceil(4))
    }
}

/// Works on the jobs of the queues until the session or the process ends. Each queue has a consumer of
/// its own, so that a queue that can't be consumed stops only its own jobs.
pub(crate) async fn run(
    context: Arc<Context>,
    session: Session,
    tracker: TaskTracker,
) -> Result<(), WorkerError> {
    let store = &context.config.store;
    // No job is received while the database is away.
    context.retry_until_available(|| async { store.directory_revision().await.map(drop) }).await?;
    // Decisions use the database's clock, so it must be known first.
    context.retry_until_available(|| store.sample_clock()).await?;
    // Other workers must know that this one may have first attempts open.
    context.retry_until_available(|| context.progress.report(store)).await?;
    // Workers that died are known to be dead as soon as their jobs come.
    context.look_at_workers().await;
    let (first, retries) = lanes(context.config.concurrency);
    let publisher = FollowUpPublisher::start(Arc::clone(&context), &session, &tracker);
    let unknown = Arc::default();
    let lane = |most: u32| Lane {
        context: Arc::clone(&context),
        publisher: publisher.clone(),
        tracker: tracker.clone(),
        permits: Arc::new(Semaphore::new(most as usize)),
        most,
        unknown: Arc::clone(&unknown),
    };
    // A job that waits here for long would be in doubt. Another worker may have room for it.
    let most = u16::try_from(context.config.concurrency).unwrap_or(u16::MAX);
    let prefetch = context.config.prefetch.min(most);
    let capacity = usize::from(prefetch);
    let (to_first, firsts) = mpsc::channel(capacity);
    let (to_later, dues) = mpsc::channel(capacity);
    let shards = context.config.broker.delivery_queues();
    let each = (prefetch / u16::from(shards.count())).max(1);
    let intake =
        |queue, prefetch, to| Intake { context: &context, session: &session, queue, prefetch, to };
    let deliveries: Vec<_> = shards
        .all()
        .map(|shard| intake(Queue::Deliveries(shard), each, to_first.clone()).run())
        .collect();
    // First attempts end when the last of these senders does.
    drop(to_first);
    tokio::join!(
        join_all(deliveries),
        intake(Queue::Retries, prefetch, to_later).run(),
        run_first_attempts(lane(first), firsts),
        run_later_attempts(lane(retries), dues),
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

/// Receives the jobs of one queue.
struct Intake<'a> {
    context: &'a Context,
    session: &'a Session,
    queue: Queue,
    prefetch: u16,
    to: mpsc::Sender<Received>,
}

impl Intake<'_> {
    /// Receives jobs until the session or the process ends. If the consumer ends, another one is
    /// opened.
    async fn run(self) {
        let stop = &self.context.stop;
        keep_consuming(self.session, self.queue, stop, || self.receive_until_end()).await;
    }

    /// Receives jobs until the consumer ends, and then makes sure that the attempts in flight are
    /// settled or claimed.
    async fn receive_until_end(&self) -> Result<(), WorkerError> {
        let Some(consumer) = self.open().await? else {
            return Ok(());
        };
        let (of_consumer, lost) = (TaskTracker::new(), CancellationToken::new());
        let result = self.receive(consumer, &of_consumer, &lost).await;
        of_consumer.close();
        // Attempts in flight are settled before the consumer's connection ends, if there is time.
        let settled = match &result {
            Ok(()) => tokio::time::timeout(GRACE, of_consumer.wait()).await.is_ok(),
            Err(_) => false,
        };
        if !settled {
            // They go on and are recorded, while the broker redelivers their jobs to other workers. Those
            // that have not begun don't begin.
            lost.cancel();
            self.context.claim_in_flight().await?;
        }
        result
    }

    /// Begins to consume; `None` when the process stops. Only the first delivery queue always exists.
    /// The others are declared by the routers that spread jobs over them, and the routers are best
    /// configured after the workers.
    async fn open(&self) -> Result<Option<Consumer>, WorkerError> {
        let Self { context, session, queue, prefetch, .. } = *self;
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
                    "a delivery queue does not exist yet; a router with this \
                     FANFARE_DELIVERY_QUEUES declares it"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(QUEUE_CHECK_INTERVAL) => {}
                () = context.stop.cancelled() => return Ok(None),
                () = session.lost() => return Err(lost().into()),
            }
        }
    }

    /// Receives messages and notes when each arrived.
    async fn receive(
        &self,
        mut consumer: Consumer,
        of_consumer: &TaskTracker,
        consumer_lost: &CancellationToken,
    ) -> Result<(), WorkerError> {
        loop {
            let next = tokio::select! {
                next = consumer.next() => next,
                () = self.context.stop.cancelled() => break,
                () = self.session.lost() => return Err(lost().into()),
            };
            let Some(incoming) = next.transpose()? else { break };
            self.context.progress.note(self.queue, &incoming);
            let unleased = matches!(self.queue, Queue::Deliveries(_)).then(|| {
                let received = self.context.now();
                self.context.progress.open_jobs().open(received)
            });
            let (at, lost, open) = (Instant::now(), consumer_lost.clone(), of_consumer.token());
            let received = Received { incoming, at, lost, unleased, open };
            if self.to.send(received).await.is_err() {
                break;
            }
        }
        Ok(consumer.cancel().await?)
    }
}

async fn run_first_attempts(lane: Lane, mut jobs: mpsc::Receiver<Received>) {
    let lane = Arc::new(lane);
    while let Some(Received { incoming, at, lost, unleased, open }) = jobs.recv().await {
        if lane.context.stop.is_cancelled() {
            requeue(vec![incoming.settle]).await;
            continue;
        }
        let job = match job::read(&incoming.message) {
            Ok(job) => job,
            Err(error) => {
                park(&lane, incoming, open, &error);
                continue;
            }
        };
        let wanted = lane.wanted(width(&job));
        let Ok(permit) = Arc::clone(&lane.permits).acquire_many_owned(wanted).await else {
            break;
        };
        if lane.context.stop.is_cancelled() {
            requeue(vec![incoming.settle]).await;
            continue;
        }
        let redelivered = incoming.redelivered;
        let for_job = Arc::clone(&lane);
        lane.tracker.spawn(async move {
            failpoint!(WorkerTakes, refs(&job));
            let in_doubt = redelivered || lost.is_cancelled() || at.elapsed() > MAX_PREFETCH_AGE;
            match job {
                Job::FirstInline(groups)
                    if !in_doubt && delivery_count(&groups) <= MAX_DELIVERIES =>
                {
                    let (guard, end) = JobGuard::new();
                    let pipeline = for_job.pipeline(&groups);
                    // Slow attempts go on after their job is settled.
                    join(pipeline.run_inline(permit, guard), async {
                        let result = end.wait().await;
                        drop(unleased);
                        settle_jobs(vec![(incoming.settle, result)]).await;
                    })
                    .await;
                }
                job => {
                    let result = defer_job(&for_job, &job).await;
                    settle_jobs(vec![(incoming.settle, result)]).await;
                }
            }
            drop(open);
        });
    }
}

/// Defers a job whose deliveries may not be attempted now.
async fn defer_job(lane: &Lane, job: &Job) -> Result<(), WorkerError> {
    let fresh;
    let (dues, groups, doubt) = match job {
        Job::FirstInline(groups) => {
            fresh = first_attempts(groups);
            (&fresh, groups.as_slice(), Doubt::Redelivered)
        }
        Job::Recheck(dues) => (dues, [].as_slice(), Doubt::Recheck { since: lane.context.now() }),
        // These belong to the other queue.
        Job::FirstByReference(dues) | Job::Retry(dues) => (dues, [].as_slice(), Doubt::Redelivered),
    };
    // A router's jobs need one turn of this loop.
    for dues in dues.chunks(MAX_LOOKUP) {
        defer(&lane.context, &lane.publisher, dues, groups, doubt).await?;
    }
    Ok(())
}

/// The attempts of a job.
fn refs(job: &Job) -> Vec<AttemptRef> {
    match job {
        Job::FirstInline(groups) => first_attempts(groups),
        Job::Recheck(dues) | Job::FirstByReference(dues) | Job::Retry(dues) => dues.clone(),
    }
}

fn delivery_count(groups: &[DeliveryGroup]) -> usize {
    groups.iter().map(|group| group.deliveries.len()).sum()
}

/// The number of deliveries that a job may have under way at a time.
fn width(job: &Job) -> usize {
    match job {
        Job::FirstInline(groups) => delivery_count(groups),
        // These are not attempted here but published again.
        Job::Recheck(_) | Job::FirstByReference(_) | Job::Retry(_) => 1,
    }
}

/// Acknowledges jobs that are done, and requeues those that failed.
async fn settle_jobs(jobs: Vec<(Settle, Result<(), WorkerError>)>) {
    let (mut done, mut undone) = (Vec::new(), Vec::new());
    for (settle, result) in jobs {
        match result {
            Ok(()) => done.push(settle),
            Err(error) => {
                if !matches!(error, WorkerError::NotPublished) {
                    tracing::warn!(error = chain(&error), "a job failed; it is requeued");
                }
                undone.push(settle);
            }
        }
    }
    let any = !done.is_empty();
    match ack_all(done).await {
        Ok(()) if any => failpoint!(WorkerAcknowledges),
        Ok(()) => {}
        Err(error) => {
            tracing::debug!(%error, "failed to acknowledge jobs; they will be redelivered");
        }
    }
    if !undone.is_empty() {
        tokio::time::sleep(REQUEUE_PAUSE).await;
        requeue(undone).await;
    }
}

async fn requeue(settles: Vec<Settle>) {
    for settle in settles {
        if let Err(error) = settle.requeue().await {
            tracing::debug!(%error, "failed to requeue a job; it will be redelivered");
        }
    }
}

/// Handles a message that is no job of this version. A job of a newer version circulates through the
/// delay ladder, unchanged, until a worker that knows its kind receives it. Any other message becomes a
/// dead letter.
fn park(lane: &Arc<Lane>, incoming: Incoming, open: TaskTrackerToken, why: &JobError) {
    let Incoming { message, routing_key, settle, .. } = incoming;
    let metrics = &lane.context.config.metrics;
    let follow_up = if let Some(kind) = why.newer() {
        metrics.unknown_job();
        let mut unknown = lane.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() < MAX_UNKNOWN_KINDS && unknown.insert(kind.clone()) {
            tracing::warn!(
                kind,
                "this version of the worker does not know this kind of job; such jobs circulate \
                 until a newer worker receives them"
            );
        }
        FollowUp::put_off(message)
    } else {
        let detail = why.to_string();
        tracing::error!(detail, "a message is not a job; it becomes a dead letter");
        metrics.unreadable();
        let now = lane.context.now();
        let letter = reject(&message, &routing_key, UNREADABLE, &detail, now);
        FollowUp::Unreadable { letter: Box::new(letter), original: Box::new(message) }
    };
    let for_job = Arc::clone(lane);
    lane.tracker.spawn(async move {
        let result = for_job.publisher.publish([follow_up]).await;
        settle_jobs(vec![(settle, result)]).await;
        drop(open);
    });
}
