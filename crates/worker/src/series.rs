//! The series of attempts that a delivery is in.

use chrono::{DateTime, Utc};
use fanfare_store::attempts::DeliveryHistory;

/// The series of a delivery before this attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetrySeries {
    /// POSTs so far.
    pub(crate) attempts: i32,
    /// POSTs in this series so far.
    pub(crate) attempts_in_series: i32,
    /// When this series began.
    pub(crate) started_at: DateTime<Utc>,
    /// The directory revision at which this attempt was allowed, or an older one; 0 when only the
    /// plan allowed it.
    pub(crate) revision: i64,
}

impl RetrySeries {
    /// The series of a delivery that was received at this time and has no row.
    pub(crate) fn first(started_at: DateTime<Utc>, revision: i64) -> Self {
        Self { attempts: 0, attempts_in_series: 0, started_at, revision }
    }

    /// The present series of a delivery with this history.
    pub(crate) fn of(history: &DeliveryHistory) -> Self {
        let received_at = history.events.first().map(|event| event.received_at);
        match &history.last {
            Some(last) => Self {
                attempts: last.attempt,
                attempts_in_series: last.tries,
                started_at: last.since,
                revision: history.revision,
            },
            None => Self::first(received_at.unwrap_or_default(), history.revision),
        }
    }
}
