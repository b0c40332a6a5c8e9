//! Waiting for a state, with a limit, instead of for a time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// The interval at which the state is polled.
const POLL: Duration = Duration::from_millis(20);

/// The result of one poll: the awaited value, or the state that was seen instead.
pub trait Look {
    /// The awaited value.
    type Found;

    /// Splits the result into the awaited value or a description of the state.
    fn found(self) -> Result<Self::Found, String>;
}

impl<T> Look for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Debug> Look for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

impl Look for bool {
    type Found = ();

    fn found(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

/// Lets time pass in tests about time itself: a slow peer, a promise that holds from a time on, a
/// pace. Use [`eventually`] to wait for a state.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Polls `look` until it returns the awaited value, and returns that.
///
/// `look` returns an `Option`, a `bool`, or a `Result` whose error describes the state.
///
/// # Panics
///
/// If the value does not appear within `timeout`, with `what` and the last state. A poll that takes
/// longer than that is cancelled.
pub async fn eventually<L: Look>(
    what: &str,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> L,
) -> L::Found {
    let deadline = Instant::now() + timeout;
    let mut last_seen = "nothing".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // The first poll gets enough time even with a short timeout.
        match tokio::time::timeout(left.max(POLL), look()).await.map(Look::found) {
            Ok(Ok(found)) => return found,
            Ok(Err(seen)) => last_seen = seen,
            Err(_) => last_seen.push_str(", and then a look that took too long"),
        }
        assert!(
            Instant::now() < deadline,
            "not within {timeout:?}: {what}; seen last: {last_seen}"
        );
        tokio::time::sleep(POLL).await;
    }
}
