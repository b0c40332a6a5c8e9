//! The console's background work: counting attempts for the grid and for statistics. Any number of consoles
//! may do this at the same time, and each may stop at any point: the progress is in the database, and another
//! console continues.

use std::time::{Duration, Instant};

use fanfare_store::StoreError;
use fanfare_store::health::Counted;
use tokio::time::sleep;

use crate::app::App;

/// The time between two counts of attempts.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// The time after which counting for statistics pauses. Counting a month of stored attempts after an upgrade
/// takes longer, and is not urgent.
const COUNT_FOR: Duration = Duration::from_secs(2);

/// Counts attempts from time to time, for the grid and for statistics.
pub(crate) async fn count(app: &App) {
    loop {
        steps(Duration::MAX, || app.background.health_count(app.settled)).await;
        steps(COUNT_FOR, || app.background.statistics_count(app.settled)).await;
        sleep(COUNT_EVERY).await;
    }
}

/// Makes steps of a count until all is counted, one fails, or the time is over.
async fn steps<F>(longest: Duration, mut step: impl FnMut() -> F)
where
    F: Future<Output = Result<Counted, StoreError>>,
{
    let begin = Instant::now();
    while begin.elapsed() < longest {
        match step().await {
            Ok(Counted::More) => {}
            Ok(Counted::All) => return,
            Err(error) => return log_failure(&error, "failed to count attempts"),
        }
    }
}

/// Logs a failure. An outage of the database is logged once elsewhere, so here it is only a debug
/// message.
fn log_failure(error: &StoreError, what: &'static str) {
    if error.is_refusal() {
        tracing::error!(error = error.chain(), "{what}");
    } else {
        tracing::debug!(error = error.chain(), "{what}");
    }
}
