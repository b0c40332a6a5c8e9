//! Claims of attempts for this worker.

use std::time::{Duration, Instant};

use fanfare_core::job::Due;
use fanfare_store::claims::{Claim, Lease};

use crate::database::Database;
use crate::error::WorkerError;

/// The margin for writing an attempt's row to the ledger. Every time-out that waits for an attempt
/// includes it.
pub(crate) const RECORD_MARGIN: Duration = Duration::from_secs(5);

/// Claims attempts for this worker.
#[derive(Clone)]
pub(crate) struct Claimer {
    database: Database,
    /// The duration of a claim.
    length: Duration,
}

/// The lease of the claims that one statement made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldLease {
    pub(crate) lease: Lease,
    /// The time from which they are surely held.
    pub(crate) from: Instant,
}

impl Claimer {
    /// `timeout` is the longest POST.
    pub(crate) fn new(database: Database, timeout: Duration) -> Self {
        Self { database, length: timeout + 2 * RECORD_MARGIN }
    }

    /// The duration of a claim: the longest POST and twice the margin for its record.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Claims attempts; the answers are in their order.
    pub(crate) async fn claim(&self, dues: &[Due]) -> Result<(Vec<Claim>, HeldLease), WorkerError> {
        let held = HeldLease { lease: Lease::new(self.length, false), from: Instant::now() };
        let claims = self.database.retry_until_available(|| {
            // Computed for each try: there may have been an outage since the last one.
            let may_take_over = self.database.is_settled();
            let lease = Lease { may_take_over, ..held.lease };
            self.database.store().attempts_claim(dues, lease)
        });
        Ok((claims.await?, held))
    }
}
