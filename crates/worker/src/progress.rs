//! What the reconciler must know about this worker: that it runs, how long an attempt may be in doubt,
//! and how far the worker has come in the queues of jobs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_broker::job::queued_at;
use fanfare_broker::{Incoming, Queue};
use fanfare_store::Store;
use fanfare_store::progress::WorkerId;

/// How often the progress is written, if it has changed.
const EVERY: Duration = Duration::from_secs(1);

/// How often the worker writes that it runs.
const SEEN_EVERY: Duration = Duration::from_secs(10);

/// For each queue, the newest enqueue time of the jobs that this worker has received, unless it is
/// written already.
#[derive(Default)]
pub(crate) struct Progress {
    passed: Mutex<BTreeMap<&'static str, DateTime<Utc>>>,
}

impl Progress {
    /// Notes that a job was received. A redelivered job says nothing about the progress of its queue.
    pub(crate) fn note(&self, queue: Queue, incoming: &Incoming) {
        if incoming.redelivered {
            return;
        }
        if let Some(at) = queued_at(&incoming.message) {
            self.raise(queue.name(), at);
        }
    }

    fn raise(&self, queue: &'static str, at: DateTime<Utc>) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = passed.entry(queue).or_insert(at);
        *known = at.max(*known);
    }

    fn take(&self) -> Vec<(&'static str, DateTime<Utc>)> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *passed).into_iter().collect()
    }

    /// Writes the progress repeatedly, and never returns. Progress that can't be written is written
    /// with the next one. `in_doubt_window` is how long an attempt of this worker may be in doubt.
    pub(crate) async fn write(&self, store: &Store, in_doubt_window: Duration) {
        let worker = WorkerId::random();
        let mut seen: Option<Instant> = None;
        loop {
            if seen.is_none_or(|seen| seen.elapsed() >= SEEN_EVERY) {
                match store.worker_seen(worker, in_doubt_window).await {
                    Ok(()) => seen = Some(Instant::now()),
                    Err(error) => {
                        tracing::debug!(
                            error = error.chain(),
                            "failed to write that this worker runs"
                        );
                    }
                }
            }
            tokio::time::sleep(EVERY).await;
            let passed = self.take();
            if passed.is_empty() {
                continue;
            }
            if let Err(error) = store.queue_progress_note(&passed).await {
                tracing::debug!(
                    error = error.chain(),
                    "failed to write the progress of the queues"
                );
                for (queue, at) in passed {
                    self.raise(queue, at);
                }
            }
        }
    }
}
