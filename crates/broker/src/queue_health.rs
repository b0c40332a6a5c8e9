//! Which of the queues that a process consumes it can't consume now.

use crate::topology::Queue;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state of each queue that this process consumes, or tried to.
#[derive(Debug, Default)]
pub struct QueueHealth {
    /// Why a queue can't be consumed; `None` while it is.
    queues: Mutex<BTreeMap<&'static str, Option<String>>>,
}

impl QueueHealth {
    /// Each queue by its name, and why it can't be consumed; `None` while it is.
    #[must_use]
    pub fn queues(&self) -> Vec<(&'static str, Option<String>)> {
        self.lock().iter().map(|(queue, problem)| (*queue, problem.clone())).collect()
    }

    /// Notes that messages of a queue arrive, or would. Returns whether they did not before.
    pub(crate) fn consumed(&self, queue: Queue) -> bool {
        matches!(self.lock().insert(queue.name(), None), Some(Some(_)))
    }

    /// Notes why a queue can't be consumed.
    pub(crate) fn failed(&self, queue: Queue, problem: String) {
        self.lock().insert(queue.name(), Some(problem));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
