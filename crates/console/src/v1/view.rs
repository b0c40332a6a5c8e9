//! What the API and `fanfare … --json` show: one form for both.

pub mod dead_letter;
pub mod delivery;
pub mod event;
pub mod explanation;

use chrono::{DateTime, SecondsFormat, Utc};

/// A time for machines and people alike: RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
