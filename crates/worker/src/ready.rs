//! An attempt that is about to be made: its content, and what it holds.

use std::time::Instant;

use fanfare_core::job::AttemptRef;
use fanfare_core::webhook::Webhook;
use tokio::sync::SemaphorePermit;

use crate::claimer::HeldLease;
use crate::delivery::RetrySeries;
use crate::endpoint_limiter::Permit;
use crate::guard::DeliveryGuard;
use crate::pacer::Slot;
use crate::solo::SoloGuard;

/// The delivery of an attempt, and the content of its POST.
pub(crate) struct Attempt<'a> {
    /// The delivery, and the number of the row that the attempt writes.
    pub(crate) due: AttemptRef,
    pub(crate) webhook: &'a Webhook,
    /// Whether it is a first attempt that the plan alone decided about.
    pub(crate) by_plan: bool,
    pub(crate) series: RetrySeries,
    pub(crate) event_ids: Vec<&'a str>,
    pub(crate) notifications: Vec<&'a str>,
    pub(crate) traceparent: Option<&'a str>,
    /// Which events are left out, and why.
    pub(crate) detail: Option<String>,
}

/// The rights and resources of an attempt.
pub(crate) struct Holds<'a> {
    pub(crate) permit: Permit,
    /// The time at which it may begin, if its webhook has a pace.
    pub(crate) slot: Option<Slot>,
    /// The memory that is reserved for its body.
    pub(crate) memory: Option<SemaphorePermit<'a>>,
    /// The time from which surely no other worker has the attempt.
    pub(crate) from: Instant,
    /// The claim, if the attempt has one.
    pub(crate) held: Option<HeldLease>,
    /// The exclusive right of a solo attempt.
    pub(crate) solo: Option<SoloGuard<'a>>,
    /// Whether it is a solo attempt.
    pub(crate) is_solo: bool,
    /// Its hold on its job and on its permit.
    pub(crate) guard: &'a mut DeliveryGuard,
}

impl Attempt<'_> {
    /// The number of the attempt, as the receiver sees it.
    pub(crate) fn number(&self) -> i32 {
        self.series.attempts + 1
    }
}
