//! The console's background work: counting attempts for the grid and for statistics, and working on resends. Any
//! number of consoles may do this at the same time, and each may stop at any point: the progress is
//! in the database, and another console continues.

use std::time::{Duration, Instant};

use fanfare_failpoints::failpoint;
use fanfare_store::StoreError;
use fanfare_store::health::Counted;
use tokio::time::{sleep, timeout};

use crate::app::App;

/// The time between two counts of attempts.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// The time after which counting for statistics pauses. Counting a month of stored attempts after an upgrade
/// takes longer, and is not urgent.
const COUNT_FOR: Duration = Duration::from_secs(2);

/// The number of deliveries that one step of a resend retries. The next step waits until they are
/// attempted, so that the rest can still be cancelled, and a receiver that has just recovered is
/// not flooded.
const STEP: i64 = 250;
/// The time between two steps of a resend.
const STEP_EVERY: Duration = Duration::from_millis(500);
/// The time between two searches for resends that another console began.
const POLL_EVERY: Duration = Duration::from_secs(5);

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

/// Works on open resends, step by step.
pub(crate) async fn resend(app: &App) {
    loop {
        let wait = match resend_steps(app).await {
            Ok(true) => STEP_EVERY,
            Ok(false) => POLL_EVERY,
            Err(error) => {
                log_failure(&error, "failed to resend dead deliveries");
                POLL_EVERY
            }
        };
        // In either case it is time to search again.
        let _ = timeout(wait, app.context.resend_begun()).await;
    }
}

/// Runs one step of each open resend, and returns whether there was one.
async fn resend_steps(app: &App) -> Result<bool, StoreError> {
    let open = app.background.resends_open().await?;
    for id in &open {
        let begun = app.background.resend_step(*id, STEP).await?;
        if begun.is_empty() {
            continue;
        }
        failpoint!(ResendRestarts, &begun);
        app.context.publisher.enqueue(&begun).await;
        failpoint!(ResendPublishes, &begun);
    }
    Ok(!open.is_empty())
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
