//! Mutexes whose content is used after a panic elsewhere.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A panic elsewhere must not keep servers from being ended, or hide what a test has seen.
pub(crate) fn hold<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
