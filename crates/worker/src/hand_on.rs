//! The way on: what follows from many attempts, handed to the broker together.
//!
//! What comes back at the same time shares a message ([`crate::follow_up`]), and the more so the more
//! attempts are looked at together: while an endpoint fails, its retries would otherwise cost the
//! broker more than all the rest. Whoever made an attempt waits here until what follows from it is
//! confirmed, but not for the other attempts of its job, of which one may hang.

use std::sync::Arc;
use std::time::Duration;

use fanfare_broker::{BrokerError, PublishError, Publisher};
use fanfare_core::chain::chain;
use fanfare_core::job::Due;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::error::WorkerError;
use crate::follow_up::{FollowUp, messages};

/// How long what follows from an attempt waits for what follows from others. Delays are exact to about a
/// second.
const GATHER: Duration = Duration::from_millis(100);

/// So many are enough together.
const ENOUGH: usize = 1024;

/// Lists that wait; as many as a worker has attempts under way fit.
const WAITING: usize = 4096;

type Waiting = (Vec<FollowUp>, oneshot::Sender<()>);

/// A handle to the task that publishes.
#[derive(Clone)]
pub(crate) struct HandOn {
    queue: mpsc::Sender<Waiting>,
}

impl HandOn {
    /// Begins to publish; ends when all handles are gone.
    pub(crate) fn start(
        context: Arc<Context>,
        publisher: Publisher,
        tracker: &TaskTracker,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tracker.spawn(run(context, publisher, waiting));
        Self { queue }
    }

    /// Publishes what follows from an attempt, or from several, and waits until that is confirmed.
    ///
    /// # Errors
    ///
    /// [`WorkerError::NotHandedOn`]: the job is to come again.
    pub(crate) async fn hand_on(
        &self,
        follow_ups: impl IntoIterator<Item = FollowUp>,
    ) -> Result<(), WorkerError> {
        let follow_ups = Vec::from_iter(follow_ups);
        if follow_ups.is_empty() {
            return Ok(());
        }
        let (done, confirmed) = oneshot::channel();
        let sent = self.queue.send((follow_ups, done)).await;
        sent.map_err(|_| WorkerError::NotHandedOn)?;
        confirmed.await.map_err(|_| WorkerError::NotHandedOn)
    }
}

async fn run(context: Arc<Context>, publisher: Publisher, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, ENOUGH).await > 0 {
        if batch.iter().map(|(follow_ups, _)| follow_ups.len()).sum::<usize>() < ENOUGH {
            tokio::time::sleep(GATHER).await;
            while batch.len() < ENOUGH
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
        }
        let publish = async |lists: &[Waiting]| {
            let lists: Vec<&FollowUp> = lists.iter().flat_map(|(list, _)| list).collect();
            publish(&context, &publisher, &lists).await
        };
        match publish(&batch).await {
            Ok(()) => batch.drain(..).for_each(confirm),
            Err(error) if blames_a_message(&error) && batch.len() > 1 => {
                // The broker did not take one of them; the others must not suffer for it.
                for one in batch.drain(..) {
                    match publish(std::slice::from_ref(&one)).await {
                        Ok(()) => confirm(one),
                        Err(error) => not_handed_on(&error),
                    }
                }
            }
            Err(error) => {
                not_handed_on(&error);
                batch.clear();
            }
        }
    }
}

/// Whether the broker is there, but does not take one of the messages.
fn blames_a_message(error: &WorkerError) -> bool {
    use PublishError::{Refused, Unroutable, Unsendable};
    matches!(
        error,
        WorkerError::Broker(BrokerError::Publish(
            Refused { .. } | Unroutable { .. } | Unsendable { .. }
        ))
    )
}

fn confirm((_, done): Waiting) {
    // Who does not wait any more does not mind.
    let _ = done.send(());
}

/// Dropping their `done` says so to those who wait.
fn not_handed_on(error: &WorkerError) {
    let error = chain(error);
    tracing::warn!(error, "what follows from jobs could not be handed on; they come again");
}

async fn publish(
    context: &Context,
    publisher: &Publisher,
    follow_ups: &[&FollowUp],
) -> Result<(), WorkerError> {
    note_deferred(context, follow_ups).await?;
    Ok(publisher.publish_all(messages(context, follow_ups)?).await?)
}

/// Keeps the reconciler from taking deferred deliveries for lost ones.
async fn note_deferred(context: &Context, follow_ups: &[&FollowUp]) -> Result<(), WorkerError> {
    let deferred = |follow_up: &&FollowUp| match follow_up {
        FollowUp::Deferred { due, delay } | FollowUp::First { due, delay } => {
            Some((*due, delay.duration()))
        }
        _ => None,
    };
    let deferred: Vec<(Due, Duration)> = follow_ups.iter().filter_map(deferred).collect();
    if deferred.is_empty() {
        return Ok(());
    }
    let store = &context.config.store;
    context.patiently(|| store.claims_defer(&deferred)).await
}
