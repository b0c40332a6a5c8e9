//! A kept message, published for the routers again.

use fanfare_broker::dead_letters::{DeadLetter, EncodedLetter, Kind as LetterKind, Replay, replay};
use fanfare_broker::{Destination, Message, Queue};
use fanfare_store::kept::{Kept, Kind};

/// A message for the routers that did not come back. `None` if it can't be decoded.
#[must_use]
pub fn again(kept: Kept) -> Option<(Destination, Message)> {
    let (id, kind) = (kept.id, kept.kind);
    let mut message =
        EncodedLetter { id, properties: kept.properties, body: kept.body }.decode()?;
    match kind {
        Kind::Held => {
            message.set_kept_id(id);
            Some((Queue::Events.into(), message))
        }
        Kind::Dead => match replay(LetterKind::Events, &DeadLetter::of_message(message)).ok()? {
            Replay::Message(queue, message) => Some((queue.into(), *message)),
            Replay::Delivery(..) => None,
        },
    }
}
