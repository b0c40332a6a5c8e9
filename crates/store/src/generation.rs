//! The generation of this process's connections.
//!
//! When one connection shows that its server can't be used any more, the other open ones lead to
//! the same server. The next generation begins then, and the pools close every connection of an
//! earlier one instead of using it again.

use std::sync::atomic::{AtomicU64, Ordering};

static CURRENT: AtomicU64 = AtomicU64::new(0);

/// The generation of a connection that is opened now.
pub(crate) fn current() -> u64 {
    CURRENT.load(Ordering::Relaxed)
}

/// Begins the next generation: the pools close every connection that is open now.
pub(crate) fn discard_open_connections() {
    CURRENT.fetch_add(1, Ordering::Relaxed);
}
