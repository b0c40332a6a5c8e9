//! Makes the steps of administrators' bulk operations on dead letters.
//!
//! Any number of routers do this at the same time, and the command that asked for an operation does it,
//! too: a step is one transaction, and an operation has one step at a time. What a step has begun is
//! published after it. If the process ends in between, the reconciler finds the deliveries, and events
//! are published again as kept messages that did not come back.

use std::time::Duration;

use fanfare_broker::Session;
use fanfare_core::chain::chain;
use fanfare_letters::{StepError, WAIT, step};
use fanfare_store::Store;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// The pause between two looks for operations, and after a failure.
const EVERY: Duration = Duration::from_secs(2);
/// The pause between two steps, so that the database has time for others.
const PAUSE: Duration = Duration::from_millis(20);
/// The time between two removals of old operations' letters.
const SWEEP_EVERY: u32 = 150;
/// The most letters of old operations that one statement removes.
const SWEPT_AT_ONCE: i64 = 5000;

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let mut until_sweep = SWEEP_EVERY;
    loop {
        let round = round(&config.store, session, &mut until_sweep);
        let pause = match stop.run_until_cancelled(round).await {
            None => return Ok(()),
            Some(Ok(pause)) => pause,
            Some(Err(error)) => {
                // Most likely the database or the broker is away, which other parts report.
                tracing::debug!(error = chain(&error), "operations go on later");
                EVERY
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

/// Makes one step of each operation that needs one. Returns the pause before the next round.
async fn round(
    store: &Store,
    session: &Session,
    until_sweep: &mut u32,
) -> Result<Duration, StepError> {
    *until_sweep = until_sweep.saturating_sub(1);
    if *until_sweep == 0 {
        store.operations_sweep(SWEPT_AT_ONCE).await?;
        *until_sweep = SWEEP_EVERY;
    }
    let mut pause = EVERY;
    for (id, is_running) in store.operations_due().await? {
        let has_advanced = step(store, session, id).await?;
        if is_running {
            pause = pause.min(if has_advanced { PAUSE } else { WAIT });
        }
    }
    Ok(pause)
}
