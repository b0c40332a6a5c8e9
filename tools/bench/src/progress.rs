//! Progress messages on stderr.

use std::sync::OnceLock;
use std::time::Instant;

/// Prints that a step begins, with the seconds since the first message.
pub(crate) fn say(text: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    eprintln!("{:7.1} s  {text}", START.get_or_init(Instant::now).elapsed().as_secs_f64());
}
