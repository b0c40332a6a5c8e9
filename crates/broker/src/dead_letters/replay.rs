//! A dead letter's way back.

use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::{Addressee, Due, Job, Unit};
use serde::Deserialize;

use super::{DeadLetter, Kind, ROUTING_KEY};
use crate::error::PublishError;
use crate::job;
use crate::message::Message;
use crate::topology::Queue;

/// What brings a letter back into the flow.
#[derive(Clone, Debug, PartialEq)]
pub enum Replay {
    /// Its message goes to a queue: an event to its router, a job to the workers.
    Message(Queue, Box<Message>),
    /// A delivery that was given up: the ledger is to begin a new chain of its attempts.
    Delivery(BatchKey, WebhookId),
}

/// Says what brings a letter back. It can be taken when that is done.
///
/// # Errors
///
/// [`PublishError::Unsendable`]
pub fn replay(kind: Kind, letter: &DeadLetter) -> Result<Replay, PublishError> {
    Ok(match (kind, dead_delivery(letter)) {
        (Kind::Events, _) => Replay::Message(event_queue(letter), Box::new(event(letter))),
        (Kind::Deliveries, Some((batch, webhook))) => Replay::Delivery(batch, webhook),
        (Kind::Deliveries, None) => {
            let (queue, message) = job_again(letter)?;
            Replay::Message(queue, Box::new(message))
        }
    })
}

/// The delivery that a worker gave up, from the letter's headers.
fn dead_delivery(letter: &DeadLetter) -> Option<(BatchKey, WebhookId)> {
    let id = |name| letter.message.headers.text(name);
    let batch = id("x-fanfare-batch")?.parse().ok()?;
    Some((batch, id("x-fanfare-webhook")?.parse().ok()?))
}

/// A job that the broker itself put aside, for the workers.
fn job_again(letter: &DeadLetter) -> Result<(Queue, Message), PublishError> {
    let mut message = letter.original();
    let queue = match Job::from_bytes(&message.body) {
        Ok(Job::First(_) | Job::Due(_)) => Queue::Retries,
        // Another job of these may have been published since: a copy is asked after first. It is in
        // no hurry to come out behind what is dead, so any delivery queue will do.
        Ok(Job::Fresh(units)) => {
            message.body = job::bytes(&Job::Copy(copies(&units)))?.into();
            Queue::DELIVERIES
        }
        // What is no job of this version is for a worker to judge.
        Ok(Job::Copy(_)) | Err(_) => Queue::DELIVERIES,
    };
    Ok((queue, message))
}

/// First attempts, without their contents.
fn copies(units: &[Unit]) -> Vec<Due> {
    let copies = units.iter().flat_map(|unit| {
        let copy = |to: &Addressee| Due { batch: unit.batch, webhook: to.webhook, entry: 1 };
        unit.deliveries.iter().map(copy)
    });
    copies.collect()
}

/// The message as it was, which still tells with what routing key it was published.
fn event(letter: &DeadLetter) -> Message {
    let mut message = letter.original();
    message.headers.set(ROUTING_KEY, letter.routing_key.as_str());
    message
}

/// The queue of the router that refused it. Straight back there, so that nobody else who is bound
/// to the exchange gets it twice.
fn event_queue(letter: &DeadLetter) -> Queue {
    let document = letter.routing_key.strip_prefix("directory.");
    let has_copy = document.is_some_and(|document| !document.contains('.'));
    if has_copy && !is_event(&letter.message.body) { Queue::Directory } else { Queue::Events }
}

/// Whether a message says that it is something else than a directory document.
fn is_event(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    serde_json::from_slice(body)
        .is_ok_and(|Typed { r#type }| !r#type.to_ascii_lowercase().starts_with("directory."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_events_go_back_to_where_they_came_from() {
        let event = r#"{"type":"reports.upload"}"#;
        let document = r#"{"type":"Directory.User"}"#;
        for (key, body, queue) in [
            ("directory.user", document, Queue::Directory),
            ("directory.user", "oops", Queue::Directory),
            ("directory.user", event, Queue::Events),
            ("directory.a.b", document, Queue::Events),
            ("reports.upload", event, Queue::Events),
            ("", "oops", Queue::Events),
        ] {
            let letter = DeadLetter {
                id: String::new(),
                reason: String::new(),
                detail: String::new(),
                dead_at: None,
                routing_key: key.to_owned(),
                message: Message::new(body, "application/json"),
            };
            assert_eq!(event_queue(&letter), queue, "{key} {body}");
            assert_eq!(super::event(&letter).headers.text(ROUTING_KEY), Some(key));
        }
    }
}
