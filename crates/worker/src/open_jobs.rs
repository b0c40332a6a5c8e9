//! The jobs for first attempts that this worker has received, until their attempts are recorded, leased
//! or requeued. A first attempt has no lease, so only its worker knows of it; other workers need to know
//! since when none is open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

/// The open jobs of a process. It is cheap to clone, and all clones share their jobs.
#[derive(Clone, Default)]
pub(crate) struct OpenJobs(Arc<Mutex<Numbered>>);

#[derive(Default)]
struct Numbered {
    next: u64,
    /// When each was received.
    received: BTreeMap<u64, DateTime<Utc>>,
}

/// A job that is open until this value is dropped.
pub(crate) struct OpenJob {
    jobs: OpenJobs,
    number: u64,
}

impl OpenJobs {
    /// Counts a job as open that was received at this time.
    pub(crate) fn open(&self, received: DateTime<Utc>) -> OpenJob {
        let mut jobs = self.lock();
        let number = jobs.next;
        jobs.next += 1;
        jobs.received.insert(number, received);
        OpenJob { jobs: self.clone(), number }
    }

    /// The time before which no open job was received. `now` is a time before the call.
    pub(crate) fn clear_before(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.lock().received.values().copied().min().map_or(now, |oldest| oldest.min(now))
    }

    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenJob {
    fn drop(&mut self) {
        self.jobs.lock().received.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_clear_before_its_oldest_open_job() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let jobs = OpenJobs::default();
        assert_eq!(jobs.clear_before(at(9)), at(9));
        let (first, second) = (jobs.open(at(3)), jobs.open(at(5)));
        assert_eq!(jobs.clear_before(at(9)), at(3));
        drop(first);
        assert_eq!(jobs.clear_before(at(9)), at(5));
        assert_eq!(jobs.clear_before(at(4)), at(4));
        drop(second);
        assert_eq!(jobs.clear_before(at(9)), at(9));
    }
}
