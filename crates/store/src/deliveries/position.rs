//! Positions in the list of deliveries, which is sorted from the newest to the oldest.

use chrono::{DateTime, TimeZone as _, Utc};
use fanfare_core::ids::{BatchKey, WebhookId};
use uuid::Uuid;

use super::DeliveryFilter;

/// The key by which a delivery is sorted. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The time at which the delivery's events were received. For a dead or dropped delivery, the
    /// time at which its last series began.
    pub at: DateTime<Utc>,
    pub batch: BatchKey,
    pub webhook: WebhookId,
}

impl Position {
    /// The position below which a list has the deliveries before this time, and none at it or
    /// later.
    pub(super) fn before(at: DateTime<Utc>) -> Self {
        Self { at, batch: BatchKey(Uuid::nil()), webhook: WebhookId(Uuid::nil()) }
    }
}

impl DeliveryFilter {
    /// The position below which this page begins.
    pub(super) fn below(&self) -> Position {
        let end = || Utc.with_ymd_and_hms(9999, 1, 1, 0, 0, 0).single().unwrap_or_default();
        // A position of a later page is below `until` as well.
        self.after.unwrap_or_else(|| Position::before(self.until.unwrap_or_else(end)))
    }
}
