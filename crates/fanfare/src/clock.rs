//! The time, as the commands tell it.

use std::time::SystemTime;

use chrono::{DateTime, Utc};

pub(crate) use fanfare_console::view::rfc3339;

/// Now.
pub(crate) fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}
