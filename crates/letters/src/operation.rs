//! A step of an administrator's bulk operation.
//!
//! A step is one transaction, and an operation has one step at a time. What a step has begun is published
//! after it. If the process ends in between, the reconciler finds the deliveries, and events are published
//! again as kept messages that did not come back.

use std::time::Duration;

use fanfare_broker::dead_letters::died_at;
use fanfare_broker::{BrokerError, PublishError, Session, job};
use fanfare_core::dead_letter::Kind;
use fanfare_failpoints::failpoint;
use fanfare_store::operations::Stepped;
use fanfare_store::{Store, StoreError};
use uuid::Uuid;

use crate::{LettersError, PATIENCE, again, sweep};

/// The pause before the next step of an operation that waits: for its rate, or for its receivers.
pub const WAIT: Duration = Duration::from_millis(200);

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

/// Removes the messages of settled letters from their queues, for a command that runs without routers.
/// `on_left` gets the number that has left a queue so far.
///
/// # Errors
///
/// [`LettersError`]
pub async fn sweep_queues(
    store: &Store,
    session: &Session,
    mut on_left: impl FnMut(u64),
) -> Result<(), LettersError> {
    for kind in Kind::ALL {
        sweep(session, store, kind, PATIENCE, &mut on_left).await?;
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
    messages.extend(events.into_iter().filter_map(again));
    session.publisher().publish_all(messages).await?;
    failpoint!(OperationPublishes, &due);
    Ok(has_advanced)
}
