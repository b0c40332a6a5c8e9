//! What others must know about this worker: that it runs, since when it has no first attempt open, how
//! long one may be in doubt, and how far it has come in the queues of jobs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::job::queued_at;
use fanfare_broker::{Incoming, Queue};
use fanfare_store::holder::WorkerId;
use fanfare_store::{Store, StoreError};

use crate::open_jobs::OpenJobs;

/// How often the worker reports, and writes its progress if that has changed.
const EVERY: Duration = Duration::from_secs(1);

/// What this worker reports.
pub(crate) struct Progress {
    worker: WorkerId,
    /// How long an attempt of this worker may be in doubt.
    in_doubt_window: Duration,
    open: OpenJobs,
    /// For each queue, the newest enqueue time of the jobs that this worker has received, unless it is
    /// written already.
    passed: Mutex<BTreeMap<&'static str, DateTime<Utc>>>,
}

impl Progress {
    pub(crate) fn new(worker: WorkerId, in_doubt_window: Duration) -> Self {
        Self { worker, in_doubt_window, open: OpenJobs::default(), passed: Mutex::default() }
    }

    /// The jobs for first attempts that are open.
    pub(crate) fn open_jobs(&self) -> &OpenJobs {
        &self.open
    }

    /// Reports that the worker runs, and since when it has no first attempt open.
    pub(crate) async fn report(&self, store: &Store) -> Result<(), StoreError> {
        let clear_before = self.open.clear_before(store.clock().now());
        store.worker_report(self.worker, self.in_doubt_window, clear_before).await
    }

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

    /// Reports and writes the progress repeatedly, and never returns. Progress that can't be written is
    /// written with the next one.
    pub(crate) async fn write(&self, store: &Store) {
        loop {
            if let Err(error) = self.report(store).await {
                tracing::debug!(error = error.chain(), "failed to report that this worker runs");
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
