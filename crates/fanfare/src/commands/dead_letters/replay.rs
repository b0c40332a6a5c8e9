//! A dead letter's way back.

use fanfare_broker::dead_letters::DeadLetter;
use fanfare_broker::{Message, Publisher, Queue};
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::{Addressee, Due, Job, Unit};
use fanfare_store::Store;

use super::choice::QueueName;
use crate::commands::deliveries;
use crate::output;

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

    /// Brings one letter back. Says whether the letter itself can go now.
    pub(super) async fn replay(
        &self,
        queue: QueueName,
        letter: &DeadLetter,
    ) -> anyhow::Result<bool> {
        match queue {
            QueueName::Events => self.publish(event_queue(letter), event(letter)).await,
            QueueName::Deliveries => match dead_delivery(letter) {
                Some((batch, webhook)) => self.restart(batch, webhook).await,
                None => self.replay_job(letter).await,
            },
        }
    }

    /// Begins a new chain of attempts of a delivery that was given up. One that has moved on since,
    /// because somebody retried it, needs nothing; one that the ledger does not know can't go on.
    async fn restart(&self, batch: BatchKey, webhook: WebhookId) -> anyhow::Result<bool> {
        if let Some(due) = self.store.delivery_restart(batch, webhook, true).await? {
            deliveries::publish(&self.publisher, due).await?;
            return Ok(true);
        }
        let id = DeliveryId::of(batch, webhook);
        let known = self.store.delivery_find(id).await?.is_some();
        if !known {
            output::note(&format!(
                "fanfare: the database does not know the delivery {id}; its dead letter is kept"
            ));
        }
        Ok(known)
    }

    /// Hands a job that the broker itself put aside back to the workers.
    async fn replay_job(&self, letter: &DeadLetter) -> anyhow::Result<bool> {
        let mut message = letter.original();
        let queue = match Job::from_bytes(&message.body) {
            Ok(Job::First(_) | Job::Due(_)) => Queue::Retries,
            // Another job of these may have been published since: a copy is asked after first.
            Ok(Job::Fresh(units)) => {
                message.body = Job::Copy(copies(&units)).to_bytes()?.into();
                Queue::Deliveries
            }
            // What is no job of this version is for a worker to judge.
            Ok(Job::Copy(_)) | Err(_) => Queue::Deliveries,
        };
        self.publish(queue, message).await
    }

    async fn publish(&self, queue: Queue, message: Message) -> anyhow::Result<bool> {
        self.publisher.publish(&queue.into(), message).await?;
        Ok(true)
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
