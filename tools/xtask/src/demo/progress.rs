//! Progress messages for people who wait.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A step that takes longer than this is announced.
const FIRST: Duration = Duration::from_secs(1);

/// The interval of the messages about a step that is still running.
const AGAIN: Duration = Duration::from_secs(10);

/// Prints on stderr what is being done, if it takes longer than a second.
pub(crate) async fn step<T>(doing: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = sleep(FIRST) => eprintln!("{doing}…"),
    }
    long_step(doing, work).await
}

/// Prints on stderr what is still being done, for a step that has printed its first message itself.
pub(crate) async fn long_step<T>(doing: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(AGAIN) => eprintln!("{doing}… ({} s)", started.elapsed().as_secs()),
        }
    }
}
