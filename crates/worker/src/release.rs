//! Slow POSTs: what one that takes longer than usual lets go of, while it goes on.
//!
//! Its slot is free for others at once. Its job is acknowledged as soon as a claim in the ledger stands
//! for it: if the worker dies, the claim runs out, the reconciler finds that the attempt was never
//! recorded, and publishes a job for it. Due attempts have their claim already.

use std::pin::Pin;
use std::time::Duration;

use fanfare_core::answer::{Answer, Failure};
use fanfare_core::job::Due;
use fanfare_core::outcome::{Next, Progress, decide};
use fanfare_store::claims::Claim;
use futures_util::future::{Either, select};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::attempt::{Chain, Ready};
use crate::context::{Claimer, Context, SLACK};

/// How often a slow POST looks for room among the slow ones, when there was none.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Claims in one statement.
const AT_A_TIME: usize = 512;

/// Claims that wait; as many attempts as a worker has under way fit.
const WAITING: usize = 4096;

/// Waits for the answer of a POST, and lets go of slot and job when it takes longer than usual.
pub(crate) async fn answer<T>(
    context: &Context,
    ready: &mut Ready<'_>,
    mut post: Pin<&mut impl Future<Output = T>>,
) -> T {
    let mut wait = ready.pass.slow_after();
    loop {
        if let Ok(answer) = timeout(wait, &mut post).await {
            return answer;
        }
        if ready.pass.slow_down() {
            break;
        }
        wait = LOOK_AGAIN;
    }
    ready.hold.free_slot();
    // Boxed, as what is rare, so that thousands of attempts under way have small futures.
    match select(post, Box::pin(release_job(context, ready))).await {
        // A claim that comes later does no harm: the job is acknowledged after the record.
        Either::Left((answer, _)) => answer,
        Either::Right(((), post)) => post.await,
    }
}

/// Lets a job go whose delivery the ledger brings back if need be. It does not bring back dead letters:
/// an attempt after which there may be one keeps its job, and so does one that is made alone.
async fn release_job(context: &Context, ready: &mut Ready<'_>) {
    if ready.is_alone || may_end(context, &ready.chain) {
        return;
    }
    if ready.held.is_some() || context.releases.claim(ready.due).await {
        ready.hold.release_job();
    }
}

/// Whether the delivery may be dead after this attempt.
fn may_end(context: &Context, chain: &Chain) -> bool {
    let longest = context.config.timeout + SLACK;
    let progress = Progress {
        tries: u32::try_from(chain.tries + 1).unwrap_or(u32::MAX),
        since: chain.since,
        now: context.now() + longest,
    };
    let failed = Answer::Failed { failure: Failure::Timeout, detail: String::new() };
    matches!(decide(&context.config.policy, &failed, progress, 1.0), Next::Dead(_))
}

/// A handle to the task that claims first attempts whose POSTs are slow.
pub(crate) struct Releases {
    queue: mpsc::Sender<(Due, oneshot::Sender<bool>)>,
}

impl Releases {
    /// Begins to claim; ends when the handle is gone.
    pub(crate) fn start(claimer: Claimer, tracker: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tracker.spawn(run(claimer, waiting));
        Self { queue }
    }

    /// Claims a first attempt that is under way, together with others; false when somebody else has it,
    /// or the process stops.
    async fn claim(&self, due: Due) -> bool {
        let (done, claimed) = oneshot::channel();
        self.queue.send((due, done)).await.is_ok() && claimed.await.unwrap_or(false)
    }
}

async fn run(claimer: Claimer, mut waiting: mpsc::Receiver<(Due, oneshot::Sender<bool>)>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, AT_A_TIME).await > 0 {
        let (dues, waiters): (Vec<Due>, Vec<_>) = batch.drain(..).unzip();
        let claims = match claimer.claim(&dues).await {
            Ok((claims, _)) => claims,
            Err(error) => {
                tracing::debug!(%error, "slow attempts are not claimed; they keep their jobs");
                Vec::new()
            }
        };
        // Those who get no answer keep their jobs.
        for (waiter, claim) in waiters.into_iter().zip(claims) {
            // Who does not wait any more does not mind.
            let _ = waiter.send(matches!(claim, Claim::Ours(_)));
        }
    }
}
