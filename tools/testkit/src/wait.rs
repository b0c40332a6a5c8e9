//! Waiting for a state, with a limit, instead of for a time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often the state is looked at.
const POLL: Duration = Duration::from_millis(20);

/// One look at a state: what was waited for, or what was there instead.
pub trait Look {
    /// What is waited for.
    type Found;

    /// Separates what was waited for from the words for what was seen.
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

/// Lets time pass, where time itself is what a test is about: a peer that is slow, a promise that
/// holds from a time on, a pace. To wait for a state there is [`eventually`].
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Looks again and again until `look` finds something, and returns it.
///
/// `look` answers with an `Option`, a `bool`, or a `Result` whose error says what was seen instead.
///
/// # Panics
///
/// If it is not found within `timeout`, with `what` and what was seen last. A look that takes longer
/// than that is given up.
pub async fn eventually<L: Look>(
    what: &str,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> L,
) -> L::Found {
    let deadline = Instant::now() + timeout;
    let mut last_seen = "nothing".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // The first look is allowed for however short the timeout is.
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
