//! The current time, and the format of times.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

/// The current time of this machine.
#[must_use]
pub fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

/// Formats a time as RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
