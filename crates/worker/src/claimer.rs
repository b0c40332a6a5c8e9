//! Claims of attempts for this worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_core::job::AttemptRef;
use fanfare_store::claims::{Claim, Lease};
use fanfare_store::holder::Holder;

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
    /// This worker.
    holder: Arc<Holder>,
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
    pub(crate) fn new(database: Database, timeout: Duration, holder: Arc<Holder>) -> Self {
        Self { database, length: timeout + 2 * RECORD_MARGIN, holder }
    }

    /// The duration of a claim: the longest POST and twice the margin for its record.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Whether an attempt may begin under this lease: if it ends with its holder, this worker must
    /// still have the holder's lock.
    pub(crate) fn may_begin(&self, held: HeldLease) -> bool {
        held.lease.holder.is_none() || self.holder.proven_since(held.from)
    }

    /// Claims attempts; the answers are in their order.
    pub(crate) async fn claim(
        &self,
        dues: &[AttemptRef],
    ) -> Result<(Vec<Claim>, HeldLease), WorkerError> {
        // The same for each try: a lease is void without a lock only if all tries named its holder.
        let lease = Lease { holder: self.holder.proven(), ..Lease::new(self.length, false) };
        let held = HeldLease { lease, from: Instant::now() };
        let claims = self.database.retry_until_available(|| {
            // Computed for each try: there may have been an outage since the last one.
            let may_take_over = self.database.is_settled();
            let lease = Lease { may_take_over, ..held.lease };
            self.database.store().attempts_claim(dues, lease)
        });
        let claims = claims.await?;
        if claims.contains(&Claim::HolderGone) {
            self.database.look_at_workers().await;
        }
        Ok((claims, held))
    }
}
