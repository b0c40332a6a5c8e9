//! Claims of first attempts whose POSTs are slow, made together.

use fanfare_core::job::AttemptRef;
use fanfare_store::claims::Claim;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::claimer::Claimer;

/// The most claims in one statement.
const MAX_BATCH: usize = 512;

/// The most claims that wait: enough for all attempts that a worker has under way.
const CAPACITY: usize = 4096;

/// A handle to the task that claims first attempts whose POSTs are slow.
pub(crate) struct SlowClaims {
    queue: mpsc::Sender<(AttemptRef, oneshot::Sender<bool>)>,
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
    pub(crate) async fn claim(&self, due: AttemptRef) -> bool {
        let (done, claimed) = oneshot::channel();
        self.queue.send((due, done)).await.is_ok() && claimed.await.unwrap_or(false)
    }
}

async fn run(claimer: Claimer, mut waiting: mpsc::Receiver<(AttemptRef, oneshot::Sender<bool>)>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let (dues, waiters): (Vec<AttemptRef>, Vec<_>) = batch.drain(..).unzip();
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
