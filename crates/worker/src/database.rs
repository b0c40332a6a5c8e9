//! How long the database has been answering this worker.
//!
//! During an outage claims run out while their holders still have POSTs to record. These do it within
//! moments of the database's return. So nobody takes a claim over before the database has been
//! answering for longer than that takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanfare_store::StoreError;

/// A worker that waits for the database tries again, over a new connection, within this time.
pub(crate) const SETTLED: Duration = Duration::from_secs(10);

/// A statement that takes longer may have met an outage without an error.
const SLOW: Duration = Duration::from_secs(2);

/// Since when the database has been answering.
#[derive(Debug, Clone)]
pub(crate) struct Answering(Arc<Mutex<Instant>>);

impl Answering {
    /// A process that has just started does not know what was before.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Waits for the answer of a statement, and notes if there was none or it came late.
    pub(crate) async fn watch<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let asked = Instant::now();
        let answer = answer.await;
        let failed = answer.as_ref().is_err_and(|error| !error.is_refusal());
        if failed || asked.elapsed() > SLOW {
            *self.lock() = Instant::now();
        }
        answer
    }

    /// Whether all workers that had something to record have done so by now.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().elapsed() > SETTLED
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
