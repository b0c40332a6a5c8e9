//! What ends a session's work.

use fanfare_broker::{BrokerError, PublishError};
use fanfare_store::StoreError;
use fanfare_store::patience::Impatient;

/// Why the work of a session ended. What was taken and not settled comes again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouterError {
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database refused something that is not one message's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A job can't be written.
    #[error("failed to write a job")]
    Job(#[from] serde_json::Error),
}

impl From<PublishError> for RouterError {
    fn from(error: PublishError) -> Self {
        Self::Broker(error.into())
    }
}

impl From<Impatient> for RouterError {
    fn from(error: Impatient) -> Self {
        match error {
            Impatient::Stopping => Self::Stopping,
            Impatient::Refused(error) | Impatient::Failing(error) => Self::Store(error),
        }
    }
}
