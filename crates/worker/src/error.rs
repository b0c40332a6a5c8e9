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
            Impatient::Refused(error) => Self::Refused(error),
        }
    }
}

impl WorkerError {
    /// The error with its causes, in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
