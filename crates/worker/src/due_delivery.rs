//! A delivery whose attempt is due, as its job names it.

use std::time::Duration;

use fanfare_broker::Delay;
use fanfare_core::job::{Due, Job};

use crate::follow_up::FollowUp;
use crate::pacer::Slot;

/// The kind of job that names a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptKind {
    /// A job for first attempts.
    First,
    /// A job for retries and deferred attempts.
    Later,
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

    /// The same job again after a delay.
    pub(crate) fn again(self, wait: Duration) -> FollowUp {
        let (due, delay) = (self.due, Delay::at_least(wait));
        match (self.redelivered, self.kind) {
            (true, AttemptKind::First) => FollowUp::Split { job: Job::First(vec![due]), delay },
            (true, AttemptKind::Later) => FollowUp::Split { job: Job::Due(vec![due]), delay },
            (false, AttemptKind::First) => FollowUp::First { due, delay },
            (false, AttemptKind::Later) => FollowUp::Retry { due, delay },
        }
    }
}
