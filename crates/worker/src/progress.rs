//! What the reconciler must know of this worker: that it runs, how long an attempt may take until it
//! leaves a trace, and how far the worker has come in the queues of jobs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_broker::job::queued_at;
use fanfare_broker::{Incoming, Queue};
use fanfare_store::progress::WorkerId;

use crate::context::Context;

/// How often it is written, if it has changed.
const EVERY: Duration = Duration::from_secs(1);

/// How often the worker says that it runs.
const SEEN_EVERY: Duration = Duration::from_secs(10);

/// The newest time, by queue, at which a job came into it that this worker was handed and that is
/// not written yet.
#[derive(Default)]
pub(crate) struct Progress {
    passed: Mutex<BTreeMap<&'static str, DateTime<Utc>>>,
}

impl Progress {
    /// Notes that a job was handed out. One that came back says nothing about where its queue is.
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
}

/// Writes it for ever. What can't be written is written with what comes next.
pub(crate) async fn write(context: &Context) {
    let store = &context.config.store;
    let worker = WorkerId::random();
    let mut seen: Option<Instant> = None;
    loop {
        if seen.is_none_or(|seen| seen.elapsed() >= SEEN_EVERY) {
            match store.worker_seen(worker, context.certainty()).await {
                Ok(()) => seen = Some(Instant::now()),
                Err(error) => {
                    tracing::debug!(error = error.chain(), "failed to note that this worker runs");
                }
            }
        }
        tokio::time::sleep(EVERY).await;
        let passed = context.progress.take();
        if passed.is_empty() {
            continue;
        }
        if let Err(error) = store.queue_progress_note(&passed).await {
            tracing::debug!(error = error.chain(), "the progress of the queues is not written");
            for (queue, at) in passed {
                context.progress.raise(queue, at);
            }
        }
    }
}
