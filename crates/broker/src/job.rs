//! Jobs that a person's demand makes.

use fanfare_core::job::{Due, Job};

use crate::error::PublishError;
use crate::message::{Destination, Message};
use crate::topology::Queue;

/// The message that hands a due attempt to the workers, and where it goes.
///
/// # Errors
///
/// [`PublishError::Unsendable`]
pub fn due(due: Due) -> Result<(Destination, Message), PublishError> {
    Ok((Queue::Retries.into(), Message::new(bytes(&Job::Due(vec![due]))?, "application/json")))
}

pub(crate) fn bytes(job: &Job) -> Result<Vec<u8>, PublishError> {
    job.to_bytes().map_err(|error| PublishError::Unsendable { reason: error.to_string() })
}
