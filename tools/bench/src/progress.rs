//! What the user hears while it runs, on stderr.

use std::sync::OnceLock;
use std::time::Instant;

/// Tells that something begins, with the seconds since the first word.
pub(crate) fn say(text: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    eprintln!("{:7.1} s  {text}", START.get_or_init(Instant::now).elapsed().as_secs_f64());
}
