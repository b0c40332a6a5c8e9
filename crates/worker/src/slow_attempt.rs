//! Slow attempts: an attempt that takes longer than usual gives back its permit and releases its job,
//! and goes on.
//!
//! Others get its permit at once. Its job is acknowledged as soon as the attempt has a claim in the
//! ledger: if the worker dies, the claim expires, the reconciler finds that the attempt was never
//! recorded, and publishes a job for it. Later attempts have a claim already.

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

use crate::attempt::{Ready, RetrySeries};
use crate::context::{Claimer, Context, RECORD_MARGIN};

/// How often a slow attempt checks for room among the slow ones, if there was none.
const RECHECK_SLOW: Duration = Duration::from_secs(1);

/// The most claims in one statement.
const MAX_BATCH: usize = 512;

/// The most claims that wait: enough for all attempts that a worker has under way.
const CAPACITY: usize = 4096;

/// Waits for the answer of a POST, and gives back permit and job when it takes longer than usual.
pub(crate) async fn answer<T>(
    context: &Context,
    ready: &mut Ready<'_>,
    mut post: Pin<&mut impl Future<Output = T>>,
) -> T {
    let mut wait = ready.permit.slow_after();
    loop {
        if let Ok(answer) = timeout(wait, &mut post).await {
            return answer;
        }
        if ready.permit.slow_down() {
            break;
        }
        wait = RECHECK_SLOW;
    }
    ready.guard.release_permit();
    // Boxed because it is rare: the futures of thousands of attempts stay small.
    match select(post, Box::pin(release_job(context, ready))).await {
        // A claim that is made after the answer does no harm: the job is acknowledged after the record.
        Either::Left((answer, _)) => answer,
        Either::Right(((), post)) => post.await,
    }
}

/// Releases the job if the reconciler would publish the delivery again. It publishes no dead letters,
/// so an attempt that may lead to one keeps its job. So does a solo attempt.
async fn release_job(context: &Context, ready: &mut Ready<'_>) {
    if ready.is_solo || may_end(context, &ready.series) {
        return;
    }
    if ready.held.is_some() || context.slow_claims.claim(ready.due).await {
        ready.guard.release_job();
    }
}

/// Whether the delivery may be dead after this attempt.
fn may_end(context: &Context, series: &RetrySeries) -> bool {
    let longest = context.config.timeout + RECORD_MARGIN;
    let progress = Progress {
        tries: u32::try_from(series.attempts_in_series + 1).unwrap_or(u32::MAX),
        since: series.started_at,
        now: context.now() + longest,
    };
    let failed = Answer::Failed { failure: Failure::Timeout, detail: String::new() };
    matches!(decide(&context.config.policy, &failed, progress, 1.0), Next::Dead(_))
}

/// A handle to the task that claims first attempts whose POSTs are slow.
pub(crate) struct SlowClaims {
    queue: mpsc::Sender<(Due, oneshot::Sender<bool>)>,
}

impl SlowClaims {
    /// Begins to claim; ends when the handle is dropped.
    pub(crate) fn start(claimer: Claimer, tracker: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(CAPACITY);
        tracker.spawn(run(claimer, waiting));
        Self { queue }
    }

    /// Claims a first attempt in flight, together with others; false when another worker has it, or the
    /// process stops.
    async fn claim(&self, due: Due) -> bool {
        let (done, claimed) = oneshot::channel();
        self.queue.send((due, done)).await.is_ok() && claimed.await.unwrap_or(false)
    }
}

async fn run(claimer: Claimer, mut waiting: mpsc::Receiver<(Due, oneshot::Sender<bool>)>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let (dues, waiters): (Vec<Due>, Vec<_>) = batch.drain(..).unzip();
        let claims = match claimer.claim(&dues).await {
            Ok((claims, _)) => claims,
            Err(error) => {
                tracing::debug!(%error, "failed to claim slow attempts; they keep their jobs");
                Vec::new()
            }
        };
        // Attempts without an answer keep their jobs.
        for (waiter, claim) in waiters.into_iter().zip(claims) {
            // The attempt may have stopped waiting.
            let _ = waiter.send(matches!(claim, Claim::Ours(_)));
        }
    }
}
