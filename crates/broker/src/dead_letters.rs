//! Dead letters: how a message becomes one, and how a person inspects, replays and discards them.
//!
//! A dead letter keeps its body, its content type and its headers. Fanfare adds headers of its own
//! that say why it was given up. A walk receives every letter without acknowledging it, and returns
//! all letters that were not removed. So a walk costs the broker little and loses nothing, even if
//! the process dies in the middle of it. Only one letter, and some that the broker sends ahead, are
//! in memory at a time.

mod delivery;
mod facts;
mod replay;
mod restore;
mod walk;

use crate::error::BrokerError;
use crate::message::Message;
use crate::session::Session;
use crate::topology::Queue;

pub use crate::letter::{DeadLetter, POISON, reject};
pub use delivery::DeadDelivery;
pub use facts::queue_of;
pub use fanfare_core::dead_letter::Kind;
pub use replay::{Replay, dead_delivery, replay};
pub(crate) use replay::{event, without_data};
pub use restore::{EncodedLetter, restore};
pub use walk::{Walk, Walked};

/// The decision about a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays in the queue.
    Keep,
    /// It leaves the queue.
    Take,
    /// It stays in the queue, and the walk ends.
    Stop,
}

/// The time of death in the header of a letter, from its properties as AMQP encodes them.
#[must_use]
pub fn died_at(properties: &[u8]) -> Option<String> {
    let message = Message::from_encoded(properties, Vec::new())?;
    DeadLetter::of_message(message).dead_at
}

/// Walks once over the letters that a dead letter queue has at the start, the oldest first, and
/// calls `visit` for each. A removed letter leaves the queue after `visit` has returned, so that
/// everything that `visit` does with it, such as publishing it again, is done before.
///
/// Letters are hidden from others during the walk. The broker ends a walk that takes longer than
/// its consumer time-out (30 minutes by default).
///
/// # Errors
///
/// Those of `visit`, and the connection's. Removed letters stay removed; all others are back.
pub async fn walk<E: From<BrokerError>>(
    session: &Session,
    queue: Queue,
    mut visit: impl AsyncFnMut(&DeadLetter) -> Result<Verdict, E>,
) -> Result<Walked, E> {
    let mut walk = Walk::begin(session, queue).await?;
    while let Some(letter) = walk.next().await? {
        match visit(&letter).await? {
            Verdict::Keep => {}
            Verdict::Take => walk.take().await?,
            Verdict::Stop => break,
        }
    }
    Ok(walk.end().await?)
}
