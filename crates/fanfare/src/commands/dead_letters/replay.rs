//! A dead letter's way back.

use fanfare_broker::dead_letters::DeadLetter;
use fanfare_broker::{Message, Publisher, Queue};
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::{Addressee, Due, Job, Unit};
use fanfare_store::Store;

use super::choice::QueueName;
use crate::commands::deliveries;

/// The header in which a message that takes another way keeps its routing key.
const ROUTING_KEY: &str = "x-fanfare-routing-key";

/// Brings letters back into the flow.
pub(super) struct Replayer {
    publisher: Publisher,
    store: Store,
}

impl Replayer {
    pub(super) fn new(publisher: Publisher, store: Store) -> Self {
        Self { publisher, store }
    }

    /// Brings one letter back; when this is over, the letter itself can go.
    pub(super) async fn replay(&self, queue: QueueName, letter: &DeadLetter) -> anyhow::Result<()> {
        if queue == QueueName::Events {
            return self.publish(event_queue(letter), event(letter)).await;
        }
        if let Some((batch, webhook)) = dead_delivery(letter) {
            return self.restart(batch, webhook).await;
        }
        // Else it is a job that the broker itself, or a worker that could not read it, put aside.
        match Job::from_bytes(&letter.message.body) {
            Ok(Job::Due(_)) => self.publish(Queue::Retries, letter.original()).await,
            // Another job of these may have been published since: the ledger is asked first.
            Ok(Job::Fresh(units)) => {
                let body = Job::Copy(copies(&units)).to_bytes()?;
                let message = Message { body: body.into(), ..letter.original() };
                self.publish(Queue::Deliveries, message).await
            }
            // What is no job of this version is for a worker to judge.
            Ok(Job::Copy(_)) | Err(_) => self.publish(Queue::Deliveries, letter.original()).await,
        }
    }

    /// Begins a new chain of attempts. A delivery that has moved on since, because somebody retried
    /// it, needs nothing.
    async fn restart(&self, batch: BatchKey, webhook: WebhookId) -> anyhow::Result<()> {
        match self.store.delivery_restart(batch, webhook, true).await? {
            Some(due) => deliveries::publish(&self.publisher, due).await,
            None => Ok(()),
        }
    }

    async fn publish(&self, queue: Queue, message: Message) -> anyhow::Result<()> {
        Ok(self.publisher.publish(&queue.into(), message).await?)
    }
}

/// The delivery that a worker gave up, from the letter's headers.
fn dead_delivery(letter: &DeadLetter) -> Option<(BatchKey, WebhookId)> {
    let id = |name| letter.message.headers.text(name);
    let batch = id("x-fanfare-batch")?.parse().ok()?;
    Some((batch, id("x-fanfare-webhook")?.parse().ok()?))
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
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: String,
    }
    serde_json::from_slice::<Typed>(body)
        .is_ok_and(|typed| !typed.r#type.to_ascii_lowercase().starts_with("directory."))
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
