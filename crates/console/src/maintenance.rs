//! What a console does beside answering: counting attempts for the grid, and attempting again what
//! somebody asked for. Any number of consoles may do so side by side, and each of them may be ended
//! at any point: what is done is in the database, and another one goes on.

use std::time::Duration;

use fanfare_store::StoreError;
use fanfare_store::health::Counted;
use tokio::time::{sleep, timeout};

use crate::app::App;

/// How often attempts are counted.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// Deliveries that are begun again in one step. The next step waits until they are attempted, so
/// that there is something left to cancel, and a receiver that has just come back is not flooded.
const STEP: i64 = 250;
/// How often it is looked whether they are.
const STEP_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked for what another console has left.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// Counts attempts from time to time.
pub(crate) async fn count(app: &App) {
    loop {
        match app.background.health_count(app.settled).await {
            Ok(Counted::More) => continue,
            Ok(Counted::All) => {}
            Err(error) => log_failure(&error, "failed to count attempts"),
        }
        sleep(COUNT_EVERY).await;
    }
}

/// Takes requests to attempt again what is dead, step by step.
pub(crate) async fn resend(app: &App) {
    loop {
        let wait = match resend_steps(app).await {
            Ok(true) => STEP_EVERY,
            Ok(false) => POLL_EVERY,
            Err(error) => {
                log_failure(&error, "failed to attempt again what is dead");
                POLL_EVERY
            }
        };
        // Late or not, it is time for another look.
        let _ = timeout(wait, app.context.resend_begun()).await;
    }
}

/// A step of each request; returns whether there was any.
async fn resend_steps(app: &App) -> Result<bool, StoreError> {
    let open = app.background.resends_open().await?;
    for id in &open {
        let begun = app.background.resend_step(*id, STEP).await?;
        app.context.publisher.enqueue(&begun).await;
    }
    Ok(!open.is_empty())
}

/// That the database is away is told elsewhere, once.
fn log_failure(error: &StoreError, what: &'static str) {
    if error.is_refusal() {
        tracing::error!(error = error.chain(), "{what}");
    } else {
        tracing::debug!(error = error.chain(), "{what}");
    }
}
