//! Jobs as messages: those that a person's demand makes, and when a job came into its queue.

use chrono::{DateTime, Utc};
use fanfare_core::job::{AttemptRef, Job};

use crate::error::PublishError;
use crate::message::{Destination, Message};
use crate::topology::Queue;

/// When a job came into its queue (Unix milliseconds of the database's clock); of one that waits on
/// the ladder first, when it will.
const QUEUED_AT: &str = "x-fanfare-queued-at";

/// The message that hands a due attempt to the workers, and where it goes.
///
/// # Errors
///
/// [`PublishError::Unsendable`]
pub fn due(due: AttemptRef) -> Result<(Destination, Message), PublishError> {
    Ok((Queue::Retries.into(), Message::new(bytes(&Job::Retry(vec![due]))?, "application/json")))
}

/// Sets the time at which a job's message enters its queue, by the database's clock.
pub fn set_queued_at(message: &mut Message, at: DateTime<Utc>) {
    message.headers.set(QUEUED_AT, at.timestamp_millis());
}

/// The time at which a job's message entered its queue, if the message has it.
#[must_use]
pub fn queued_at(message: &Message) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(message.headers.int(QUEUED_AT)?)
}

pub(crate) fn bytes(job: &Job) -> Result<Vec<u8>, PublishError> {
    job.to_bytes().map_err(|error| PublishError::Unsendable { reason: error.to_string() })
}
