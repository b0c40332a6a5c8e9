//! Conversions between counts and floating-point numbers, in one place because each may round.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Converts a count to a floating-point number. It is exact up to 2^53, which no count here
/// reaches.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The integral part of a number; 0 for a negative number or NaN.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts saturate, and the integral part is the result"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// Converts a length to a count.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970. All processes of a machine have the same clock.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
