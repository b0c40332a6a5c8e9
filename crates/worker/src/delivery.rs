//! A delivery whose attempt is due, as its job names it, and the series of attempts that it is in.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::Delay;
use fanfare_core::job::AttemptRef;
use fanfare_store::attempts::DeliveryHistory;

use crate::follow_up::{AttemptKind, FollowUp};
use crate::pacer::Slot;

/// A delivery whose attempt is due, with the broker's information about its job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DueDelivery {
    pub(crate) due: AttemptRef,
    pub(crate) kind: AttemptKind,
    pub(crate) redelivered: bool,
    /// The reserved slot, if its webhook has a pace.
    pub(crate) slot: Option<Slot>,
}

impl DueDelivery {
    /// A first attempt of a job that the broker delivers for the first time.
    pub(crate) fn first(due: AttemptRef) -> Self {
        Self { due, kind: AttemptKind::First, redelivered: false, slot: None }
    }

    /// The follow-up of this delivery, which keeps the doubt about its job; see
    /// [`FollowUp::keep_doubt`].
    pub(crate) fn keep_doubt(self, follow_up: FollowUp) -> FollowUp {
        if self.redelivered { follow_up.keep_doubt(self.due) } else { follow_up }
    }

    /// The same job again after a delay.
    pub(crate) fn again(self, wait: Duration) -> FollowUp {
        let (due, delay) = (self.due, Delay::at_least(wait));
        match (self.redelivered, self.kind) {
            (true, kind) => FollowUp::Split { job: kind.job(vec![due]), delay },
            (false, AttemptKind::First) => FollowUp::First { due, delay },
            (false, AttemptKind::Later) => FollowUp::Retry { due, delay },
        }
    }
}

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
