//! Jobs in: taken from the two queues, worked on side by side, acknowledged when all that follows
//! from them is in the ledger and on the broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_broker::dead_letters::reject;
use fanfare_broker::{BrokerError, Consumer, Incoming, Publisher, Queue, Session, Settle};
use fanfare_core::chain::chain;
use fanfare_core::job::{Due, Job, MAX_DELIVERIES};
use fanfare_core::outcome::DeadReason;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::context::{Context, STALE};
use crate::due::{Taken, attempt_each, defer};
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::fresh::{attempt_all, dues};

/// How long a worker whose session is lost needs to claim what it has under way; until then its
/// jobs, which the broker hands to others, must wait.
const HANDOVER: Duration = Duration::from_secs(4);

/// A job that could not be settled is given back after this pause, so that it does not spin.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a stopping worker waits for what is under way.
const GRACE: Duration = Duration::from_secs(20);

/// A message with the time when it reached this worker.
struct Stamped {
    incoming: Incoming,
    at: Instant,
}

/// What the jobs of one queue share.
struct Lane {
    context: Arc<Context>,
    publisher: Publisher,
    /// All jobs of the process, which outlive a lost session.
    tracker: TaskTracker,
    /// The jobs of this session, which can be settled as long as it lives.
    of_session: TaskTracker,
    /// Deliveries of this queue that may be under way at a time.
    permits: Arc<Semaphore>,
    most: u32,
}

impl Lane {
    fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.of_session.track_future(job));
    }
}

/// Works through both queues until the session or the process ends.
pub(crate) async fn work(
    context: Arc<Context>,
    session: Session,
    tracker: TaskTracker,
) -> Result<(), WorkerError> {
    let store = &context.config.store;
    // Nothing is taken while nothing can be done with it.
    context.patiently(|| async { store.directory_revision().await.map(drop) }).await?;
    // A storm of due attempts must leave first attempts their share, and the other way round.
    let retries = (context.config.concurrency / 4).max(1);
    let first = context.config.concurrency.saturating_sub(retries).max(1);
    let of_session = TaskTracker::new();
    let lane = |most: u32| Lane {
        context: Arc::clone(&context),
        publisher: session.publisher(),
        tracker: tracker.clone(),
        of_session: of_session.clone(),
        permits: Arc::new(Semaphore::new(most as usize)),
        most,
    };
    let prefetch = context.config.prefetch;
    let deliveries = session.consumer(Queue::Deliveries, prefetch).await?;
    let due = session.consumer(Queue::Retries, prefetch).await?;
    let capacity = usize::from(prefetch);
    let (to_first, firsts) = mpsc::channel(capacity);
    let (to_due, dues) = mpsc::channel(capacity);
    let result = tokio::try_join!(
        stamp(&context, deliveries, to_first),
        stamp(&context, due, to_due),
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

/// Takes messages as they come and notes when.
async fn stamp(
    context: &Context,
    mut consumer: Consumer,
    to: mpsc::Sender<Stamped>,
) -> Result<(), WorkerError> {
    while let Some(Some(next)) = context.stop.run_until_cancelled(consumer.next()).await {
        let stamped = Stamped { incoming: next?, at: Instant::now() };
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
        let wanted = u32::try_from(width(&job)).unwrap_or(u32::MAX).clamp(1, lane.most);
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
            let (count, settle) = (incoming.delivery_count, incoming.settle);
            let context = &for_job.context;
            let result = match job {
                Job::Fresh(units) if !again => attempt_all(context, &units, permit).await,
                Job::Fresh(units) => defer(context, &dues(&units), count, HANDOVER).await,
                Job::Copy(dues) => defer(context, &dues, count, context.certainty()).await,
                // Nobody sends these here; the other queue is where they belong.
                Job::First(due) | Job::Due(due) => defer(context, &[due], count, HANDOVER).await,
            };
            settle_job(&for_job, settle, result).await;
        });
    }
    Ok(())
}

async fn due_attempts(lane: Lane, mut jobs: mpsc::Receiver<Stamped>) -> Result<(), WorkerError> {
    let lane = Arc::new(lane);
    let mut batch = Vec::with_capacity(MAX_DELIVERIES);
    let most = MAX_DELIVERIES.min(lane.most as usize);
    while jobs.recv_many(&mut batch, most).await > 0 {
        let mut taken = Vec::with_capacity(batch.len());
        let mut settles = Vec::with_capacity(batch.len());
        for Stamped { incoming, .. } in batch.drain(..) {
            if lane.context.stop.is_cancelled() {
                incoming.settle.give_back().await?;
                continue;
            }
            match Job::from_bytes(&incoming.message.body) {
                Ok(job @ (Job::First(due) | Job::Due(due))) => {
                    let Incoming { redelivered, delivery_count, settle, .. } = incoming;
                    let first = matches!(job, Job::First(_));
                    taken.push(Taken { due, first, redelivered, delivery_count });
                    settles.push(settle);
                }
                Ok(_) => unreadable(&lane, incoming, &"it is not a due job").await?,
                Err(error) => unreadable(&lane, incoming, &error).await?,
            }
        }
        if taken.is_empty() {
            continue;
        }
        let wanted = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&lane.permits).acquire_many_owned(wanted).await else {
            break;
        };
        if lane.context.stop.is_cancelled() {
            give_back(settles).await;
            continue;
        }
        let for_jobs = Arc::clone(&lane);
        lane.spawn(async move {
            match attempt_each(&for_jobs.context, &taken, permit).await {
                Ok(results) => {
                    let mut settling = Vec::with_capacity(settles.len());
                    for (settle, result) in settles.into_iter().zip(results) {
                        let follow_ups = result.map(Vec::from_iter);
                        settling.push(settle_job(&for_jobs, settle, follow_ups));
                    }
                    futures_util::future::join_all(settling).await;
                }
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "due jobs were not done; they come again"
                    );
                    tokio::time::sleep(PAUSE).await;
                    give_back(settles).await;
                }
            }
        });
    }
    Ok(())
}

/// The deliveries that a job may have under way at a time.
fn width(job: &Job) -> usize {
    match job {
        Job::Fresh(units) => units.iter().map(|unit| unit.deliveries.len()).sum(),
        // Copies are not attempted here but sent on their way.
        Job::Copy(_) | Job::First(_) | Job::Due(_) => 1,
    }
}

/// Publishes what follows from a job and acknowledges it; or gives it back.
async fn settle_job(lane: &Lane, settle: Settle, result: Result<Vec<FollowUp>, WorkerError>) {
    let done = async {
        let follow_ups = result?;
        note_deferred(&lane.context, &follow_ups).await?;
        let messages: Vec<_> = follow_ups
            .into_iter()
            .map(|follow_up| follow_up.message(&lane.context))
            .collect::<Result<_, _>>()?;
        if !messages.is_empty() {
            lane.publisher.publish_all(messages).await?;
        }
        Ok::<(), WorkerError>(())
    };
    let outcome = match done.await {
        Ok(()) => settle.ack().await,
        Err(error) => {
            tracing::warn!(error = chain(&error), "a job was not done; it comes again");
            tokio::time::sleep(PAUSE).await;
            settle.give_back().await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a job could not be settled; it comes again");
    }
}

/// Keeps the reconciler from taking deferred deliveries for lost ones.
async fn note_deferred(context: &Context, follow_ups: &[FollowUp]) -> Result<(), WorkerError> {
    let deferred = |follow_up: &FollowUp| match follow_up {
        FollowUp::Deferred { due, delay } => Some((*due, delay.duration())),
        _ => None,
    };
    let deferred: Vec<(Due, Duration)> = follow_ups.iter().filter_map(deferred).collect();
    if deferred.is_empty() {
        return Ok(());
    }
    let store = &context.config.store;
    context.patiently(|| store.claims_defer(&deferred)).await
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
