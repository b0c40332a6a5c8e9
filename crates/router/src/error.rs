//! Why a session's work ended.

use fanfare_broker::{BrokerError, PublishError};
use fanfare_store::StoreError;
use fanfare_store::retry::QueryError;

/// Why the work of a session ended. Messages that are not settled are redelivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouterError {
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database rejected a statement for a reason that is not in one message.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A job can't be serialised.
    #[error("failed to serialise a job")]
    Job(#[from] serde_json::Error),
}

impl From<PublishError> for RouterError {
    fn from(error: PublishError) -> Self {
        Self::Broker(error.into())
    }
}

impl From<QueryError> for RouterError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::ShuttingDown => Self::Stopping,
            QueryError::Rejected(error) | QueryError::Failing(error) => Self::Store(error),
        }
    }
}
