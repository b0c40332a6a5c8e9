//! The replay of a dead letter.

use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::{Job, first_attempts};

use super::Kind;
use crate::error::PublishError;
use crate::job;
use crate::letter::{DeadLetter, ROUTING_KEY};
use crate::message::Message;
use crate::topology::Queue;

/// How a letter is replayed.
#[derive(Clone, Debug, PartialEq)]
pub enum Replay {
    /// Its message is published to a queue: an event for the routers, a job for the workers.
    Message(Queue, Box<Message>),
    /// A delivery that was given up: a new series of its attempts begins in the ledger.
    Delivery(BatchKey, WebhookId),
}

/// How to replay a letter. The letter can be removed when that is done.
///
/// # Errors
///
/// [`PublishError::Unsendable`]
pub fn replay(kind: Kind, letter: &DeadLetter) -> Result<Replay, PublishError> {
    Ok(match (kind, dead_delivery(kind, letter)) {
        (Kind::Events, _) => Replay::Message(event_queue(letter), Box::new(event(letter))),
        (Kind::Deliveries, Some((batch, webhook))) => Replay::Delivery(batch, webhook),
        (Kind::Deliveries, None) => {
            let (queue, message) = job_again(letter)?;
            Replay::Message(queue, Box::new(message))
        }
    })
}

/// The delivery that a worker gave up, from the headers of its letter; `None` for any other letter.
#[must_use]
pub fn dead_delivery(kind: Kind, letter: &DeadLetter) -> Option<(BatchKey, WebhookId)> {
    if kind == Kind::Events {
        return None;
    }
    let id = |name| letter.message.headers.text(name);
    let batch = id("x-fanfare-batch")?.parse().ok()?;
    Some((batch, id("x-fanfare-webhook")?.parse().ok()?))
}

/// The same job without the data of its events, if it has any: its first attempts, which a worker
/// rechecks, because they may have been made.
pub(crate) fn without_data(mut message: Message) -> Result<Option<Message>, PublishError> {
    let Ok(Job::FirstInline(groups)) = Job::from_bytes(&message.body) else { return Ok(None) };
    message.body = job::bytes(&Job::Recheck(first_attempts(&groups)))?.into();
    Ok(Some(message))
}

/// A job that the broker itself moved to the dead letters, for the workers.
fn job_again(letter: &DeadLetter) -> Result<(Queue, Message), PublishError> {
    let message = letter.original();
    // Another job of these may have been published since, so they are rechecked first. It is in no
    // hurry to come out behind what is dead, so any delivery queue will do.
    if let Some(message) = without_data(message.clone())? {
        return Ok((Queue::DELIVERIES, message));
    }
    let queue = match Job::from_bytes(&message.body) {
        Ok(Job::FirstByReference(_) | Job::Retry(_)) => Queue::Retries,
        // A worker decides about messages that are not jobs of this version.
        Ok(Job::FirstInline(_) | Job::Recheck(_)) | Err(_) => Queue::DELIVERIES,
    };
    Ok((queue, message))
}

/// The message as it was, with the routing key that it was published with, and the row of the ledger
/// that keeps it until it is routed.
pub(crate) fn event(letter: &DeadLetter) -> Message {
    let mut message = letter.original();
    message.headers.set(ROUTING_KEY, letter.routing_key.as_str());
    if let Some(id) = letter.kept_id() {
        message.set_kept_id(id);
    }
    message
}

/// The queue whose consumers read the message. It is published to that queue alone, so that no
/// other queue that is bound to the exchange gets it twice.
///
/// Consumers of the directory's queue ignore events, because the other queue has them too. After a
/// replay it does not have them, so a message that may hold an event is published to the queue of
/// events, whose consumers handle both.
fn event_queue(letter: &DeadLetter) -> Queue {
    let document = letter.routing_key.strip_prefix("directory.");
    let is_bound = document.is_some_and(|document| !document.contains('.'));
    if is_bound && letter.message.as_event().is_directory_document() {
        Queue::Directory
    } else {
        Queue::Events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(routing_key: &str, message: Message) -> DeadLetter {
        DeadLetter {
            id: String::new(),
            reason: String::new(),
            detail: String::new(),
            dead_at: None,
            routing_key: routing_key.to_owned(),
            message,
        }
    }

    #[test]
    fn only_single_documents_are_replayed_to_the_directory_s_queue() {
        let event = r#"{"type":"reports.upload"}"#;
        let document = r#"{"type":"Directory.User"}"#;
        let batch = format!("[{document},{event}]");
        let like_a_document = r#"["directory.user"]"#;
        for (key, body, queue) in [
            ("directory.user", document, Queue::Directory),
            ("directory.user", &format!("\u{feff} {document}"), Queue::Directory),
            ("directory.user", event, Queue::Events),
            ("directory.user", &format!("\u{feff}{event}"), Queue::Events),
            ("directory.user", &batch, Queue::Events),
            ("directory.user", like_a_document, Queue::Events),
            ("directory.user", "oops", Queue::Events),
            ("directory.a.b", document, Queue::Events),
            ("reports.upload", document, Queue::Events),
            ("reports.upload", event, Queue::Events),
            ("", "oops", Queue::Events),
        ] {
            let letter = letter(key, Message::new(body.to_owned(), "application/json"));
            assert_eq!(event_queue(&letter), queue, "{key} {body}");
            assert_eq!(super::event(&letter).headers.text(ROUTING_KEY), Some(key));
        }
    }

    #[test]
    fn the_type_of_a_message_in_binary_mode_is_in_its_headers() {
        for (kind, queue) in
            [("directory.role", Queue::Directory), ("reports.upload", Queue::Events)]
        {
            let mut message = Message::new(r#"{"type":"directory.user"}"#, "application/json");
            message.headers.set("cloudEvents:type", kind);
            assert_eq!(event_queue(&letter("directory.role", message)), queue, "{kind}");
        }
    }
}
