//! A dead letter's way back, through broker and ledger; for `fanfare dead-letters` too.

use fanfare_broker::dead_letters::{DeadLetter, Kind, Replay, replay as way_of};
use fanfare_broker::{BrokerError, PublishError, Publisher, job};
use fanfare_core::ids::DeliveryId;
use fanfare_core::job::Restart;
use fanfare_store::{Store, StoreError};

/// What became of a letter that somebody wants back in the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is on its way; the letter itself can go.
    Done,
    /// The ledger does not know this delivery, so that it can't go on; the letter is to stay.
    Unknown(DeliveryId),
    /// An attempt of this delivery is being made; the letter is to stay until its end is known.
    UnderWay(DeliveryId),
    /// The broker does not take this message, now or later; the letter is to stay.
    Unsendable,
}

/// Why a letter was not brought back.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The broker did not take it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The ledger could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PublishError> for ReplayError {
    fn from(error: PublishError) -> Self {
        Self::Broker(error.into())
    }
}

/// Brings one letter back.
///
/// # Errors
///
/// [`ReplayError`]; the letter must stay then.
pub async fn replay(
    publisher: &Publisher,
    store: &Store,
    kind: Kind,
    letter: &DeadLetter,
) -> Result<Replayed, ReplayError> {
    let way = match way_of(kind, letter) {
        Err(PublishError::Unsendable { .. }) => return Ok(Replayed::Unsendable),
        way => way?,
    };
    let (to, message) = match way {
        Replay::Message(queue, message) => (queue.into(), *message),
        Replay::Delivery(batch, webhook) => {
            match store.delivery_restart_dead(batch, webhook).await? {
                Restart::Begun(due) => job::due(due)?,
                Restart::MovedOn => return Ok(Replayed::Done),
                Restart::UnderWay => return Ok(Replayed::UnderWay(DeliveryId::of(batch, webhook))),
                Restart::Unknown => return Ok(Replayed::Unknown(DeliveryId::of(batch, webhook))),
            }
        }
    };
    match publisher.publish(&to, message).await {
        Err(PublishError::Unsendable { .. }) => Ok(Replayed::Unsendable),
        sent => Ok(sent.map(|()| Replayed::Done)?),
    }
}
