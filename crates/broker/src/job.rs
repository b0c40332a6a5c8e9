//! Jobs as messages: their format, those that a person's demand makes, and when a job came into its
//! queue.

use chrono::{DateTime, Utc};
use fanfare_core::job::{AttemptRef, FORMAT, Job, JobError};

use crate::error::PublishError;
use crate::message::{Destination, Message};
use crate::topology::Queue;

/// When a job came into its queue (Unix milliseconds of the database's clock); of one that waits on
/// the ladder first, when it will.
const QUEUED_AT: &str = "x-fanfare-queued-at";

/// The number of the format of a job or a dead letter.
pub(crate) const FORMAT_NUMBER: &str = "x-fanfare-format";

/// The message of a job.
///
/// # Errors
///
/// The job can't be serialised.
pub fn message(job: &Job) -> Result<Message, serde_json::Error> {
    let mut message = Message::new(job.to_bytes()?, "application/json");
    message.headers.set(FORMAT_NUMBER, FORMAT);
    Ok(message)
}

/// The job of a message. A message of the next format is read as far as this version understands it.
///
/// # Errors
///
/// The message is of a later format or kind, or not a job at all.
pub fn read(message: &Message) -> Result<Job, JobError> {
    let format = message.headers.int(FORMAT_NUMBER).unwrap_or(FORMAT);
    if format > FORMAT + 1 {
        return Err(JobError::LaterFormat(format));
    }
    Job::from_bytes(&message.body).map_err(|error| match error {
        JobError::NotAJob(_) if format > FORMAT => JobError::LaterFormat(format),
        error => error,
    })
}

/// The message that hands a due attempt to the workers, and where it goes.
///
/// # Errors
///
/// [`PublishError::Unsendable`]
pub fn due(due: AttemptRef) -> Result<(Destination, Message), PublishError> {
    Ok((Queue::Retries.into(), message(&Job::Retry(vec![due])).map_err(unsendable)?))
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
    job.to_bytes().map_err(unsendable)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unsendable(error: serde_json::Error) -> PublishError {
    PublishError::Unsendable { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_format(format: i64, body: &str) -> Result<Job, JobError> {
        let mut message = Message::new(body.to_owned(), "application/json");
        message.headers.set(FORMAT_NUMBER, format);
        read(&message)
    }

    #[test]
    fn a_job_of_the_next_format_is_read_if_possible_and_one_of_a_later_format_is_left() {
        let job = r#"{"Due":[]}"#;
        for format in [FORMAT - 1, FORMAT, FORMAT + 1] {
            assert!(matches!(of_format(format, job), Ok(Job::Retry(_))), "{format}");
        }
        assert_eq!(of_format(FORMAT + 2, job).unwrap_err(), JobError::LaterFormat(FORMAT + 2));
        let changed = r#"{"Due":"changed"}"#;
        assert_eq!(of_format(FORMAT + 1, changed).unwrap_err(), JobError::LaterFormat(FORMAT + 1));
        assert!(matches!(of_format(FORMAT, changed), Err(JobError::NotAJob(_))));
        assert_eq!(message(&Job::Retry(vec![])).unwrap().headers.int(FORMAT_NUMBER), Some(FORMAT));
    }
}
