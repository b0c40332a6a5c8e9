//! A delivery whose attempt is due, as its job names it.

use std::time::Duration;

use fanfare_broker::Delay;
use fanfare_core::job::{Due, Job};

use crate::follow_up::FollowUp;
use crate::pacer::Slot;

/// The kind of job that names a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AttemptKind {
    /// A job for first attempts.
    First,
    /// A job for retries and deferred attempts.
    Later,
}

impl AttemptKind {
    pub(crate) fn of(due: Due) -> Self {
        if due.entry == 1 { Self::First } else { Self::Later }
    }

    pub(crate) fn job(self, dues: Vec<Due>) -> Job {
        match self {
            Self::First => Job::First(dues),
            Self::Later => Job::Due(dues),
        }
    }
}

/// A delivery whose attempt is due, with the broker's information about its job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DueDelivery {
    pub(crate) due: Due,
    pub(crate) kind: AttemptKind,
    pub(crate) redelivered: bool,
    /// The reserved slot, if its webhook has a pace.
    pub(crate) slot: Option<Slot>,
}

impl DueDelivery {
    /// A first attempt of a job that the broker delivers for the first time.
    pub(crate) fn first(due: Due) -> Self {
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
