//! Telling people what they wait for.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What takes longer than this is told.
const FIRST: Duration = Duration::from_secs(1);

/// How often it is told that something still goes on.
const AGAIN: Duration = Duration::from_secs(10);

/// Says on stderr what is being done, if it takes longer than a second.
pub(crate) async fn step<T>(doing: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = sleep(FIRST) => eprintln!("{doing}…"),
    }
    long_step(doing, work).await
}

/// Says on stderr what is still being done, for work that begins with words of its own.
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
