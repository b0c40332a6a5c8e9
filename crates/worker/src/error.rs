//! Why a session's work ended, or a job failed.

use fanfare_broker::{BrokerError, PublishError};
use fanfare_store::retry::QueryError;

/// Why a job failed, or a session's work ended. Messages that are not settled are redelivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database rejected a statement.
    #[error("the database rejected a statement")]
    Refused(#[source] fanfare_store::StoreError),
    /// The database answered for fewer deliveries than it was asked about.
    #[error("the database did not answer for each delivery")]
    Incomplete,
    /// A follow-up was not published. The reason was logged where it arose.
    #[error("failed to publish a follow-up of an attempt")]
    NotPublished,
    /// A job can't be serialised.
    #[error("failed to serialise a job")]
    Job(#[from] serde_json::Error),
}

impl From<PublishError> for WorkerError {
    fn from(error: PublishError) -> Self {
        Self::Broker(error.into())
    }
}

impl From<QueryError> for WorkerError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::ShuttingDown => Self::Stopping,
            QueryError::Rejected(error) | QueryError::Failing(error) => Self::Refused(error),
        }
    }
}
