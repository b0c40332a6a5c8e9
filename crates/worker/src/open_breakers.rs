//! The hosts whose circuit breakers are open in this worker, for others to see.

use std::sync::{Mutex, PoisonError};

/// The most hosts that a worker reports.
const MOST: usize = 100;

/// The hosts whose circuit breakers are open. A worker replaces them every second.
#[derive(Debug, Default)]
pub struct OpenBreakers(Mutex<Vec<String>>);

impl OpenBreakers {
    /// The hosts in alphabetical order, the first hundred of them.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set<'a>(&self, hosts: impl Iterator<Item = &'a str>) {
        let hosts = hosts.take(MOST).map(str::to_owned).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
    }
}
