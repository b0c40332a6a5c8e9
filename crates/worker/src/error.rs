//! What ends a session's work, and what keeps one job from its end.

use fanfare_broker::{BrokerError, PublishError};
use fanfare_store::patience::Impatient;

/// Why a job was not settled, or a session's work ended. What is not settled comes again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database refused what was to be written.
    #[error("the database refused a statement")]
    Refused(#[source] fanfare_store::StoreError),
    /// What follows from an attempt is not on the broker, for a reason that was told where it arose.
    #[error("what follows from an attempt could not be handed on")]
    NotHandedOn,
    /// A job can't be written.
    #[error("failed to write a job")]
    Job(#[from] serde_json::Error),
}

impl From<PublishError> for WorkerError {
    fn from(error: PublishError) -> Self {
        Self::Broker(error.into())
    }
}

impl From<Impatient> for WorkerError {
    fn from(error: Impatient) -> Self {
        match error {
            Impatient::Stopping => Self::Stopping,
            Impatient::Refused(error) | Impatient::Failing(error) => Self::Refused(error),
        }
    }
}
