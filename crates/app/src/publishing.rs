//! Publishing for report servers that don't speak AMQP: a message is checked as a router checks it,
//! and is accepted when the broker has confirmed it.

use std::time::Duration;

use fanfare_broker::topology::EVENTS_EXCHANGE;
use fanfare_broker::{Destination, Message, PublishError};
use fanfare_core::chain::chain;
use fanfare_core::directory::refused::{of_refusal, with_consequences};
use fanfare_core::event::{Entry, parse_message};
use fanfare_core::mask::MaskPolicy;
use fanfare_core::reject::Reject;
use thiserror::Error;
use tokio::time::timeout;

use crate::Publisher;

/// The longest wait for a connection and the broker's confirm, which usually takes milliseconds.
const CONFIRM_TIME: Duration = Duration::from_secs(10);

/// A message that the broker has confirmed.
#[derive(Debug)]
pub struct Accepted {
    /// The number of its events and directory documents that are valid.
    pub events: usize,
    /// The others of its batch, which become dead letters.
    pub refused: Vec<RefusedEvent>,
}

/// An event of a batch that is refused.
#[derive(Debug)]
pub struct RefusedEvent {
    /// Its position in the batch, from zero.
    pub position: usize,
    pub reject: Reject,
}

/// Why a message was not accepted.
#[derive(Debug)]
pub enum PublishingError {
    /// The message is not valid.
    Refused(Reject),
    /// No event of the batch is valid.
    BatchRefused(Vec<RefusedEvent>),
    /// The broker has not confirmed the message.
    Unconfirmed(Unconfirmed),
}

/// Why the broker has not confirmed a message. In each case it is to be published again, with the
/// same `source` and `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unconfirmed {
    /// The broker can't be reached, or has no queues.
    #[error(
        "the message broker can't be reached for now, or no router has declared its queues yet"
    )]
    Unavailable,
    /// No queue is bound to the exchange.
    #[error("no queue takes events; a router declares the queues when it starts")]
    Unroutable,
    /// The broker refused the message, as when the queue is full.
    #[error("the message broker does not take the message; the log of the service says why")]
    NotTaken,
    /// The confirm did not arrive. The broker may have stored the message or not.
    #[error("the message broker has not confirmed the message; it may have arrived or not")]
    Unknown,
}

/// Publishes a message to the exchange of the report server, and returns when the broker has
/// confirmed it.
///
/// A batch with valid and refused events is published as it is, and the router makes dead letters of
/// the refused ones, as for a batch that came by AMQP. If nothing in a message is valid, it is not
/// published, with one exception: a refused document of the directory that names what it is about
/// is. It may have revoked grants, so the router voids them (access never fails open).
///
/// # Errors
///
/// [`PublishingError`]
pub async fn publish(publisher: &Publisher, message: Message) -> Result<Accepted, PublishingError> {
    let routing_key = message.as_event().routing_key();
    match check(&message, &routing_key) {
        Checked::Valid(accepted) => {
            confirmed(publisher, message, routing_key).await?;
            Ok(accepted)
        }
        Checked::Refused { error, voids } => {
            if voids {
                confirmed(publisher, message, routing_key).await?;
            }
            Err(error)
        }
    }
}

/// What a router will make of a message.
enum Checked {
    /// At least one event is valid, or the batch is empty.
    Valid(Accepted),
    /// Nothing is valid.
    Refused {
        error: PublishingError,
        /// Whether the router voids what a refused document names.
        voids: bool,
    },
}

fn check(message: &Message, routing_key: &str) -> Checked {
    let event = message.as_event();
    let mut voids = false;
    let mut refusal = |reject: Reject, raw: Option<&str>| {
        let voided = of_refusal(&event, routing_key, &reject, raw);
        voids |= !voided.is_empty();
        with_consequences(reject, &voided)
    };
    // Masking changes what receivers get, and never whether an event is valid.
    let published = match parse_message(&event, &MaskPolicy::off()) {
        Ok(published) => published,
        Err(reject) => {
            let error = PublishingError::Refused(refusal(reject, None));
            return Checked::Refused { error, voids };
        }
    };
    let all = published.entries.len();
    let refused: Vec<RefusedEvent> = published
        .entries
        .into_iter()
        .enumerate()
        .filter_map(|(position, entry)| match entry {
            Entry::Event(_) | Entry::Directory(_) => None,
            Entry::Rejected { reject, raw } => {
                Some(RefusedEvent { position, reject: refusal(reject, Some(&raw)) })
            }
        })
        .collect();
    if all > 0 && refused.len() == all {
        return Checked::Refused { error: PublishingError::BatchRefused(refused), voids };
    }
    Checked::Valid(Accepted { events: all - refused.len(), refused })
}

async fn confirmed(
    publisher: &Publisher,
    message: Message,
    routing_key: String,
) -> Result<(), PublishingError> {
    let publishing = async {
        let session = publisher.session().await.ok_or(Unconfirmed::Unavailable)?;
        let exchange = EVENTS_EXCHANGE.to_owned();
        let destination = Destination::Exchange { exchange, routing_key };
        let sent = session.publisher().publish(&destination, message).await;
        sent.map_err(|error| unconfirmed(&error))
    };
    let confirm = timeout(CONFIRM_TIME, publishing).await.unwrap_or_else(|_| {
        let seconds = CONFIRM_TIME.as_secs();
        tracing::warn!(seconds, "the broker did not confirm an event in time");
        Err(Unconfirmed::Unknown)
    });
    confirm.map_err(PublishingError::Unconfirmed)
}

fn unconfirmed(error: &PublishError) -> Unconfirmed {
    tracing::warn!(error = chain(error), "the broker did not confirm an event");
    match error {
        PublishError::Unroutable { .. } => Unconfirmed::Unroutable,
        PublishError::Refused { .. } | PublishError::Unsendable { .. } => Unconfirmed::NotTaken,
        _ => Unconfirmed::Unknown,
    }
}
