//! What follows from attempts, published for many of them at a time, with one lane for each
//! destination.
//!
//! Follow-ups that come back at the same time share a message ([`messages`]), and the more so the
//! more attempts are looked at together: while an endpoint fails, its retries would otherwise cost the
//! broker more than all the rest. Whoever made an attempt waits here until what follows from it is
//! confirmed, but not for the other attempts of its job, of which one may hang.
//!
//! A destination that refuses messages, or does not confirm them in time, stops only its own lane.
//! What the ledger knows of is then left to it: the job is done, and a router publishes the follow-up
//! again. Anything else is tried again, with its job unacknowledged, until a queue has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_broker::{PublishError, Publisher, Session};
use fanfare_core::chain::chain;
use fanfare_core::job::Due;
use futures_util::future::{try_join, try_join_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::error::WorkerError;
use crate::follow_up::{FollowUp, Outgoing, messages};

/// How long what follows from an attempt waits for what follows from others. Delays are exact to about a
/// second.
const GATHER: Duration = Duration::from_millis(100);

/// So many are enough together.
const ENOUGH: usize = 1024;

/// Lists that wait in a lane; as many as a worker has attempts under way fit.
const WAITING: usize = 4096;

/// How long a destination may take to confirm a batch.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a lane tries nothing after its destination has not confirmed in time: jobs must not wait
/// for one time-out after the other.
const REST: Duration = Duration::from_secs(30);

/// How often a lane warns of its destination.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// The pause before what no queue has taken is tried again, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Follow-ups, and where to tell what became of them.
type Waiting = (Vec<FollowUp>, oneshot::Sender<Result<(), Unpublished>>);

/// Why follow-ups were not published.
enum Unpublished {
    /// The destination does not take them; here they are again.
    Refused(Vec<FollowUp>),
    /// The session is at its end, or the process.
    Lost,
}

/// A handle to the lanes.
#[derive(Clone)]
pub(crate) struct HandOn {
    shared: Arc<Shared>,
}

struct Shared {
    context: Arc<Context>,
    publisher: Publisher,
    blocked: watch::Receiver<bool>,
    tracker: TaskTracker,
    /// The lanes that were needed so far; each ends when this does.
    lanes: Mutex<HashMap<&'static str, mpsc::Sender<Waiting>>>,
}

impl HandOn {
    /// Begins to publish over a session; ends when all handles are gone.
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

    /// Publishes what follows from an attempt, or from several, and waits until it is confirmed or
    /// left to the ledger.
    ///
    /// # Errors
    ///
    /// [`WorkerError::NotHandedOn`]: the job is to come again.
    pub(crate) async fn hand_on(
        &self,
        follow_ups: impl IntoIterator<Item = FollowUp>,
    ) -> Result<(), WorkerError> {
        let mut by_queue: BTreeMap<&'static str, Vec<FollowUp>> = BTreeMap::new();
        for follow_up in follow_ups {
            by_queue.entry(follow_up.queue()).or_default().push(follow_up);
        }
        let lists = by_queue.into_iter().map(|(queue, list)| self.publish(queue, list));
        try_join_all(lists).await.map(drop)
    }

    async fn publish(&self, queue: &'static str, list: Vec<FollowUp>) -> Result<(), WorkerError> {
        let refused = match self.send(queue, list).await {
            Ok(()) => return Ok(()),
            Err(Unpublished::Lost) => return Err(WorkerError::NotHandedOn),
            Err(Unpublished::Refused(refused)) => refused,
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(FollowUp::is_in_ledger);
        self.shared.context.config.metrics.unpublished(queue, known.len());
        try_join_all(unknown.into_iter().map(|it| self.keep_trying(it))).await.map(drop)
    }

    /// Publishes what the ledger can't provide again, however long it takes: its message is not
    /// acknowledged meanwhile, so the prefetch bounds how many wait.
    async fn keep_trying(&self, mut follow_up: FollowUp) -> Result<(), WorkerError> {
        let mut pause = FIRST_PAUSE;
        loop {
            // The delay ladder may take it for half a minute, which frees this worker of it.
            if let Some(detour) = follow_up.detour() {
                match self.send(detour.queue(), vec![detour]).await {
                    Ok(()) => return Ok(()),
                    Err(Unpublished::Lost) => return Err(WorkerError::NotHandedOn),
                    Err(Unpublished::Refused(_)) => {}
                }
            }
            let rest = tokio::time::sleep(pause);
            if self.shared.context.stop.run_until_cancelled(rest).await.is_none() {
                return Err(WorkerError::NotHandedOn);
            }
            follow_up = match self.send(follow_up.queue(), vec![follow_up]).await {
                Ok(()) => return Ok(()),
                Err(Unpublished::Lost) => return Err(WorkerError::NotHandedOn),
                Err(Unpublished::Refused(mut refused)) => {
                    refused.pop().ok_or(WorkerError::NotHandedOn)?
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
            let (lane, waiting) = mpsc::channel(WAITING);
            let Shared { context, publisher, blocked, tracker, .. } = &*self.shared;
            let (context, publisher) = (Arc::clone(context), publisher.clone());
            let blocked = blocked.clone();
            tracker.spawn(Lane { context, publisher, blocked, queue, warned: None }.run(waiting));
            lane
        });
        lane.clone()
    }
}

/// What publishes to one destination.
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
        while waiting.recv_many(&mut batch, ENOUGH).await > 0 {
            if resting.is_some_and(|since| since.elapsed() < REST) {
                batch.drain(..).for_each(refuse);
                continue;
            }
            if batch.iter().map(|(follow_ups, _)| follow_ups.len()).sum::<usize>() < ENOUGH {
                tokio::time::sleep(GATHER).await;
                while batch.len() < ENOUGH
                    && let Ok(next) = waiting.try_recv()
                {
                    batch.push(next);
                }
            }
            let lists: Vec<&[FollowUp]> = batch.iter().map(|(list, _)| list.as_slice()).collect();
            let outcome = self.publish(&lists).await;
            resting = matches!(outcome, Outcome::NoConfirm).then(Instant::now);
            for (index, (list, done)) in batch.drain(..).enumerate() {
                match &outcome {
                    Outcome::Published => tell(done, Ok(())),
                    Outcome::Partly(refused) if !refused.contains(&index) => tell(done, Ok(())),
                    Outcome::Partly(_) | Outcome::NoConfirm => refuse((list, done)),
                    Outcome::Lost => tell(done, Err(Unpublished::Lost)),
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
                tracing::warn!(error, "follow-ups can't be published; their jobs come again");
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
                // These say nothing certain of the other messages.
                _ => refused.extend(0..lists.len()),
            }
        }
        if refused.is_empty() { Outcome::Published } else { Outcome::Partly(refused) }
    }

    /// What became of each message; `None` when the destination does not confirm in time. While the
    /// broker takes no messages from anybody, that is no fault of the destination, and is waited for.
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
            "a queue does not take retries, deferrals or dead letters; retries and deferrals are \
             left to the ledger and published again by a router, dead letters are tried again"
        );
    }
}

/// What became of a lane's batch.
enum Outcome {
    Published,
    /// All but the lists with these numbers.
    Partly(Vec<usize>),
    NoConfirm,
    Lost,
}

fn refuse((list, done): Waiting) {
    tell(done, Err(Unpublished::Refused(list)));
}

fn tell(done: oneshot::Sender<Result<(), Unpublished>>, answer: Result<(), Unpublished>) {
    // Who does not wait any more does not mind.
    let _ = done.send(answer);
}

/// Keeps the reconciler from taking deferred deliveries for lost ones.
async fn note_deferred(context: &Context, lists: &[&[FollowUp]]) -> Result<(), WorkerError> {
    let deferred = |follow_up: &FollowUp| match follow_up {
        FollowUp::Deferred { due, delay } | FollowUp::First { due, delay } => {
            Some((*due, delay.duration()))
        }
        _ => None,
    };
    let deferred: Vec<(Due, Duration)> =
        lists.iter().flat_map(|list| list.iter()).filter_map(deferred).collect();
    if deferred.is_empty() {
        return Ok(());
    }
    let store = &context.config.store;
    context.patiently(|| store.claims_defer(&deferred)).await
}
