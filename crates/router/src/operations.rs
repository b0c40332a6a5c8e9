//! Makes the steps of administrators' bulk operations on dead letters.
//!
//! Any number of routers do this at the same time, and the command that asked for an operation does it,
//! too: a step is one transaction, and an operation has one step at a time. What a step has begun is
//! published after it. If the process ends in between, the reconciler finds the deliveries, and events
//! are published again as kept messages that did not come back.

use std::time::Duration;

use fanfare_broker::dead_letters::died_at;
use fanfare_broker::{BrokerError, PublishError, Session, job};
use fanfare_core::chain::chain;
use fanfare_core::dead_letter::Kind;
use fanfare_failpoints::failpoint;
use fanfare_letters::{LettersError, sweep};
use fanfare_store::operations::Stepped;
use fanfare_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Config;
use crate::error::RouterError;
use crate::restoring;

/// The pause between two looks for operations, and after a failure.
const EVERY: Duration = Duration::from_secs(2);
/// The pause before the next step of an operation that waits: for its rate, or for its receivers.
pub const WAIT: Duration = Duration::from_millis(200);
/// The pause between two steps, so that the database has time for others.
const PAUSE: Duration = Duration::from_millis(20);
/// The time between two removals of old operations' letters.
const SWEEP_EVERY: u32 = 150;
/// The most letters of old operations that one statement removes.
const SWEPT_AT_ONCE: i64 = 5000;

/// Why a step failed. What it settled before is published by others.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker did not confirm.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl From<PublishError> for StepError {
    fn from(error: PublishError) -> Self {
        Self::Broker(error.into())
    }
}

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

/// Removes the messages of settled letters from their queues, for a command that runs without routers.
///
/// # Errors
///
/// [`LettersError`]
pub async fn sweep_queues(store: &Store, session: &Session) -> Result<(), LettersError> {
    for kind in Kind::ALL {
        sweep(session, store, kind).await?;
    }
    Ok(())
}

/// Makes a step of an operation, and publishes what it has begun. Returns whether anything changed, so
/// that the next step may follow at once.
///
/// # Errors
///
/// [`StepError`]
pub async fn step(store: &Store, session: &Session, id: Uuid) -> Result<bool, StepError> {
    let Stepped { due, events, has_advanced } = store.operation_step(id, died_at).await?;
    if due.is_empty() && events.is_empty() {
        return Ok(has_advanced);
    }
    failpoint!(OperationSettles, &due);
    let jobs = due.iter().copied().map(job::due);
    let mut messages = jobs.collect::<Result<Vec<_>, PublishError>>()?;
    messages.extend(events.into_iter().filter_map(restoring::again));
    session.publisher().publish_all(messages).await?;
    failpoint!(OperationPublishes, &due);
    Ok(has_advanced)
}
