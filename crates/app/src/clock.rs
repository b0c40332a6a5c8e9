//! The time, and how it is written.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

/// Now.
#[must_use]
pub fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

/// A time for machines and people alike: RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
