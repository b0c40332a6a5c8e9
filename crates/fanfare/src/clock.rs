//! The time, as the commands tell it.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

/// Now.
pub(crate) fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

/// A time for machines and people alike: RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
