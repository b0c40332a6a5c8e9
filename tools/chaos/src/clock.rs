//! Times of the machine's clock, which is the database's too.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) type Time = f64;

pub(crate) fn now() -> Time {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
