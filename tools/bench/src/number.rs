//! Conversions between counts and what is computed from them, in one place because each may round.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A count as a number to compute with. Exact up to 2^53, which no count here reaches.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The whole part of a number that is not negative; 0 for any other.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts saturate, and the whole part is what is asked for"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// A length as a count.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970, the same clock in all processes of a machine.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
