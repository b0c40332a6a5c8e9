//! Dead letters: how a message becomes one, and how a person looks through them.
//!
//! A dead letter keeps its body, its content type and its headers; what Fanfare has to say about it
//! is added in headers of its own. Looking takes every letter without acknowledging it, and returns
//! all but the taken ones by closing the channel. So a look costs the broker a little and loses
//! nothing, even when the process dies in the middle of it. However large the letters are, only one
//! and some that the broker sends ahead are in memory.

mod choice;
mod look;
mod replay;
mod walk;

use crate::error::BrokerError;
use crate::session::Session;
use crate::topology::Queue;

pub use crate::letter::{DeadLetter, POISON, reject};
pub use choice::{Choice, Kind};
pub use look::{Look, NoPosition, Position};
pub use replay::{Replay, replay};
pub use walk::{Walk, Walked};

/// What becomes of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It leaves the queue.
    Take,
    /// It stays, and the walk is over.
    Stop,
}

/// Goes once through a dead letter queue, as long as it was at the start, and asks `visit` about
/// each letter, the oldest first. A taken letter leaves the queue when `visit` has answered, so that
/// what `visit` does with it (such as publishing it again) is done before.
///
/// Letters are hidden from others during the walk; the broker ends a walk of more than its consumer
/// timeout (30 minutes by default).
///
/// # Errors
///
/// Those of `visit`, and the connection's. Taken letters stay taken; all others are back.
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
