//! Publishes the follow-ups of many attempts at a time, with one lane for each destination.
//!
//! Follow-ups with the same delay share a message ([`messages`]). The more attempts are batched, the
//! fewer messages there are: otherwise the retries of a failing endpoint would cost the broker more
//! than all other messages. An attempt waits here until its follow-up is confirmed, but not for the
//! other attempts of its job, because one of them may hang.
//!
//! A destination that refuses messages, or does not confirm them in time, stops only its own lane. A
//! follow-up that the ledger shows is then left to the ledger: the job is done, and a router publishes
//! the follow-up again. Any other follow-up is published again, with its job unacknowledged, until a
//! queue has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_broker::{PublishError, Publisher, Queue, Session};
use fanfare_core::chain::chain;
use fanfare_core::job::AttemptRef;
use fanfare_failpoints::failpoint;
use futures_util::future::{try_join, try_join_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::error::WorkerError;
use crate::follow_up::{FollowUp, Outgoing, messages};

/// How long a follow-up waits for others that share its message. Delays are exact to about a second.
const GATHER: Duration = Duration::from_millis(100);

/// The most follow-ups in a batch.
const MAX_BATCH: usize = 1024;

/// The most lists that wait in a lane: enough for all attempts that a worker has under way.
const LANE_CAPACITY: usize = 4096;

/// How long a destination may take to confirm a batch.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a lane publishes nothing after its destination has not confirmed in time, so that jobs do
/// not wait for one time-out after the other.
const LANE_REST: Duration = Duration::from_secs(30);

/// The shortest time between two warnings about a destination.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// The first and the longest pause before a follow-up that no queue has accepted is published again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Follow-ups, and the sender for their result.
type Waiting = (Vec<FollowUp>, oneshot::Sender<Result<(), Unpublished>>);

/// Why follow-ups were not published.
enum Unpublished {
    /// The destination refuses these follow-ups.
    Refused(Vec<FollowUp>),
    /// The session or the process ends.
    Lost,
}

/// A handle to the lanes.
#[derive(Clone)]
pub(crate) struct FollowUpPublisher {
    shared: Arc<Shared>,
}

struct Shared {
    context: Arc<Context>,
    publisher: Publisher,
    blocked: watch::Receiver<bool>,
    tracker: TaskTracker,
    /// The lanes that were needed so far. Each ends when this value is dropped.
    lanes: Mutex<HashMap<&'static str, mpsc::Sender<Waiting>>>,
}

impl FollowUpPublisher {
    /// Begins to publish over a session; ends when all handles are dropped.
    pub(crate) fn start(context: Arc<Context>, session: &Session, tracker: &TaskTracker) -> Self {
        let shared = Shared {
            context,
            publisher: session.publisher(),
            blocked: session.blocked(),
            tracker: tracker.clone(),
            lanes: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Publishes follow-ups, and waits until they are confirmed or left to the ledger.
    ///
    /// # Errors
    ///
    /// [`WorkerError::NotPublished`]: the job is to be requeued.
    pub(crate) async fn publish(
        &self,
        follow_ups: impl IntoIterator<Item = FollowUp>,
    ) -> Result<(), WorkerError> {
        let mut by_queue: BTreeMap<&'static str, Vec<FollowUp>> = BTreeMap::new();
        for follow_up in follow_ups {
            by_queue.entry(follow_up.queue()).or_default().push(follow_up);
        }
        let lists = by_queue.into_iter().map(|(queue, list)| self.publish_to(queue, list));
        try_join_all(lists).await.map(drop)
    }

    async fn publish_to(
        &self,
        queue: &'static str,
        list: Vec<FollowUp>,
    ) -> Result<(), WorkerError> {
        let refused = match self.send(queue, list).await {
            Ok(()) => return Ok(()),
            Err(Unpublished::Lost) => return Err(WorkerError::NotPublished),
            Err(Unpublished::Refused(refused)) => refused,
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(FollowUp::is_in_ledger);
        self.shared.context.config.metrics.unpublished(queue, known.len());
        try_join_all(unknown.into_iter().map(|it| self.publish_until_accepted(it))).await.map(drop)
    }

    /// Publishes a follow-up that the ledger does not show, until a queue accepts it. Its job is not
    /// acknowledged meanwhile, so the prefetch bounds the number that wait.
    async fn publish_until_accepted(&self, mut follow_up: FollowUp) -> Result<(), WorkerError> {
        let mut pause = FIRST_PAUSE;
        loop {
            // The delay ladder may accept it for half a minute, and then this worker no longer has it.
            if let Some(detour) = follow_up.detour() {
                match self.send(detour.queue(), vec![detour]).await {
                    Ok(()) => return Ok(()),
                    Err(Unpublished::Lost) => return Err(WorkerError::NotPublished),
                    Err(Unpublished::Refused(_)) => {}
                }
            }
            let rest = tokio::time::sleep(pause);
            if self.shared.context.stop.run_until_cancelled(rest).await.is_none() {
                return Err(WorkerError::NotPublished);
            }
            follow_up = match self.send(follow_up.queue(), vec![follow_up]).await {
                Ok(()) => return Ok(()),
                Err(Unpublished::Lost) => return Err(WorkerError::NotPublished),
                Err(Unpublished::Refused(mut refused)) => {
                    refused.pop().ok_or(WorkerError::NotPublished)?
                }
            };
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send(&self, queue: &'static str, list: Vec<FollowUp>) -> Result<(), Unpublished> {
        let (done, answer) = oneshot::channel();
        let lane = self.lane(queue);
        lane.send((list, done)).await.map_err(|_| Unpublished::Lost)?;
        answer.await.unwrap_or(Err(Unpublished::Lost))
    }

    fn lane(&self, queue: &'static str) -> mpsc::Sender<Waiting> {
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(queue).or_insert_with(|| {
            let (lane, waiting) = mpsc::channel(LANE_CAPACITY);
            let Shared { context, publisher, blocked, tracker, .. } = &*self.shared;
            let (context, publisher) = (Arc::clone(context), publisher.clone());
            let blocked = blocked.clone();
            tracker.spawn(Lane { context, publisher, blocked, queue, warned: None }.run(waiting));
            lane
        });
        lane.clone()
    }
}

/// Publishes to one destination.
struct Lane {
    context: Arc<Context>,
    publisher: Publisher,
    blocked: watch::Receiver<bool>,
    queue: &'static str,
    warned: Option<Instant>,
}

impl Lane {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut resting: Option<Instant> = None;
        while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
            if resting.is_some_and(|since| since.elapsed() < LANE_REST) {
                batch.drain(..).for_each(refuse);
                continue;
            }
            if batch.iter().map(|(follow_ups, _)| follow_ups.len()).sum::<usize>() < MAX_BATCH {
                tokio::time::sleep(GATHER).await;
                while batch.len() < MAX_BATCH
                    && let Ok(next) = waiting.try_recv()
                {
                    batch.push(next);
                }
            }
            let lists: Vec<&[FollowUp]> = batch.iter().map(|(list, _)| list.as_slice()).collect();
            let outcome = self.publish(&lists).await;
            if self.queue == Queue::DeliveriesDead.name() && matches!(outcome, Outcome::Published) {
                failpoint!(WorkerPublishesDeadLetter);
            }
            resting = matches!(outcome, Outcome::NoConfirm).then(Instant::now);
            for (index, (list, done)) in batch.drain(..).enumerate() {
                match &outcome {
                    Outcome::Published => reply(done, Ok(())),
                    Outcome::Partly(refused) if !refused.contains(&index) => reply(done, Ok(())),
                    Outcome::Partly(_) | Outcome::NoConfirm => refuse((list, done)),
                    Outcome::Lost => reply(done, Err(Unpublished::Lost)),
                }
            }
        }
    }

    async fn publish(&mut self, lists: &[&[FollowUp]]) -> Outcome {
        let prepared = try_join(note_deferred(&self.context, lists), async {
            Ok(messages(&self.context, lists)?)
        });
        let outgoing = match prepared.await {
            Ok(((), outgoing)) => outgoing,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "failed to prepare follow-ups; their jobs are requeued");
                return Outcome::Lost;
            }
        };
        let (of, messages): (Vec<Vec<usize>>, Vec<_>) = outgoing
            .into_iter()
            .map(|Outgoing { destination, message, of }| (of, (destination, message)))
            .unzip();
        let Some(results) = self.confirmed(messages).await else {
            self.warn("no confirm in time");
            return Outcome::NoConfirm;
        };
        let mut refused = Vec::new();
        for (result, of) in results.into_iter().zip(&of) {
            let Err(error) = result else { continue };
            if error.is_lost() && !self.publisher.is_connected() {
                return Outcome::Lost;
            }
            self.warn(&chain(&error));
            match error {
                PublishError::Refused { .. } | PublishError::Unsendable { .. } => {
                    refused.extend(of);
                }
                // After any other error, it is not certain whether the other messages were published.
                _ => refused.extend(0..lists.len()),
            }
        }
        if refused.is_empty() { Outcome::Published } else { Outcome::Partly(refused) }
    }

    /// The result for each message; `None` when the destination does not confirm in time. While the
    /// broker blocks all publishers, the destination is not at fault, and there is no time limit.
    async fn confirmed(
        &self,
        messages: Vec<(fanfare_broker::Destination, fanfare_broker::Message)>,
    ) -> Option<Vec<Result<(), PublishError>>> {
        let mut publishing = std::pin::pin!(self.publisher.publish_each(messages));
        loop {
            tokio::select! {
                results = &mut publishing => return Some(results),
                () = tokio::time::sleep(CONFIRM_TIMEOUT) => {
                    if !*self.blocked.borrow() {
                        return None;
                    }
                }
            }
        }
    }

    fn warn(&mut self, error: &str) {
        if self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned = Some(Instant::now());
        tracing::warn!(
            queue = self.queue,
            error,
            "a queue refuses retries, deferrals or dead letters; a router publishes retries and \
             deferrals again from the ledger, and this worker publishes dead letters again"
        );
    }
}

/// The result of a lane's batch.
enum Outcome {
    Published,
    /// All were published except the lists with these numbers.
    Partly(Vec<usize>),
    NoConfirm,
    Lost,
}

fn refuse((list, done): Waiting) {
    reply(done, Err(Unpublished::Refused(list)));
}

fn reply(done: oneshot::Sender<Result<(), Unpublished>>, answer: Result<(), Unpublished>) {
    // The attempt may have stopped waiting.
    let _ = done.send(answer);
}

/// Notes deferrals in the ledger, so that the reconciler does not consider the deliveries lost.
async fn note_deferred(context: &Context, lists: &[&[FollowUp]]) -> Result<(), WorkerError> {
    let mut deferred: Vec<(AttemptRef, Duration)> = Vec::new();
    for follow_up in lists.iter().flat_map(|list| list.iter()) {
        match follow_up {
            FollowUp::Deferred { due, delay }
            | FollowUp::First { due, delay }
            | FollowUp::InDoubt { due, delay, .. } => deferred.push((*due, delay.duration())),
            FollowUp::Recheck { dues, delay, .. } => {
                deferred.extend(dues.iter().map(|due| (*due, delay.duration())));
            }
            _ => {}
        }
    }
    if deferred.is_empty() {
        return Ok(());
    }
    let store = &context.config.store;
    context.retry_until_available(|| store.claims_defer(&deferred)).await?;
    failpoint!(WorkerNotesDeferral, deferred.iter().map(|(due, _)| due));
    Ok(())
}
