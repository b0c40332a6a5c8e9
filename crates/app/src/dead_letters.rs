//! Dead letters: listed, shown, replayed and discarded.

use std::time::Instant;

use fanfare_broker::dead_letters::{Choice, DeadLetter, Kind, Look, Position, Replay, replay};
use fanfare_broker::{BrokerError, PublishError, Publisher, Session, job};
use fanfare_core::ids::DeliveryId;
use fanfare_core::job::Restart;
use fanfare_store::{Store, StoreError};

use crate::receiving::not_receiving;
use crate::{Actor, NotAdministrator, NotReceiving};

/// What is done with dead letters.
#[derive(Clone, Copy)]
pub enum Action<'a> {
    /// Events are routed again and deliveries attempted again; the ledger is in this database.
    Replay(&'a Store),
    /// They are removed for good.
    Discard,
}

/// Which dead letters, and how.
pub struct Request {
    /// Which ones.
    pub choice: Choice,
    /// Where to go on; `None` for the beginning.
    pub from: Option<Position>,
    /// When to stop at the latest; `None` for no limit.
    pub until: Option<Instant>,
    /// Whether they are only counted.
    pub dry_run: bool,
}

/// What became of them.
#[derive(Debug)]
pub struct Outcome {
    /// How many were replayed or discarded, or would be.
    pub count: u64,
    /// Where to go on when the time was over; `None` when all queues were read to their ends.
    pub next: Option<Position>,
    /// The ids that were asked for and not found.
    pub missing: Vec<String>,
}

/// Why a dead letter could not be replayed and is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// The delivery's webhook is sent nothing.
    #[error(transparent)]
    NotReceiving(#[from] NotReceiving),
    /// The ledger does not have the delivery.
    #[error("the database does not know the delivery {0}")]
    Unknown(DeliveryId),
    /// An attempt is being made, whose outcome is not known yet.
    #[error("an attempt of {0} is being made now")]
    InProgress(DeliveryId),
    /// The broker will never take the message.
    #[error("the broker does not take the message")]
    Unsendable,
}

impl Kept {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotReceiving(NotReceiving::Paused(_)) => "webhook-paused",
            Self::NotReceiving(NotReceiving::Deleted(_)) => "webhook-deleted",
            Self::Unknown(_) => "unknown-delivery",
            Self::InProgress(_) => "attempt-under-way",
            Self::Unsendable => "unsendable",
        }
    }
}

/// Why the work stopped. What was done until then stays done; all other letters are kept.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// It is for an operator or a System Administrator.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PublishError> for Stopped {
    fn from(error: PublishError) -> Self {
        Self::Broker(error.into())
    }
}

/// Which dead letters are listed.
pub struct Listing {
    /// Which ones.
    pub choice: Choice,
    /// Where to go on; `None` for the beginning.
    pub from: Option<Position>,
    /// When to stop at the latest; `None` for no limit.
    pub until: Option<Instant>,
    /// The most that are listed; `None` for all.
    pub limit: Option<usize>,
}

/// Lists dead letters, the oldest of each queue first: `on_letter` gets each of them, since all
/// together may be many and large. Returns where to go on; `None` when that was all.
///
/// # Errors
///
/// [`Stopped`]
pub async fn list(
    session: &Session,
    actor: &Actor,
    listing: Listing,
    mut on_letter: impl FnMut(Kind, DeadLetter),
) -> Result<Option<Position>, Stopped> {
    actor.administrator()?;
    let Listing { choice, from, until, limit } = listing;
    let mut look = look(session, choice, from, until);
    let mut count = 0;
    let next = loop {
        let is_full = limit.is_some_and(|limit| count >= limit);
        let here = look.position();
        match look.next().await? {
            // This one is the first that the next page has.
            Some(_) if is_full => break here,
            Some((kind, letter)) => on_letter(kind, letter),
            None => break look.position(),
        }
        count += 1;
    };
    look.end().await?;
    Ok(next)
}

/// Finds a dead letter by its id; `None` when there is none.
///
/// # Errors
///
/// [`Stopped`]
pub async fn show(
    session: &Session,
    actor: &Actor,
    id: String,
) -> Result<Option<(Kind, DeadLetter)>, Stopped> {
    actor.administrator()?;
    let choice = Choice { ids: vec![id], ..Choice::default() };
    let mut look = look(session, choice, None, None);
    let found = look.next().await?;
    look.end().await?;
    Ok(found)
}

fn look(session: &Session, choice: Choice, from: Option<Position>, until: Option<Instant>) -> Look {
    let look = Look::begin(session, choice, from);
    match until {
        Some(until) => look.until(until),
        None => look,
    }
}

/// Replays or discards dead letters, the oldest of each queue first. `on_kept` gets each letter that
/// can't be replayed.
///
/// # Errors
///
/// [`Stopped`]
pub async fn settle(
    session: &Session,
    actor: &Actor,
    action: Action<'_>,
    request: Request,
    mut on_kept: impl FnMut(DeadLetter, Kept),
) -> Result<Outcome, Stopped> {
    actor.administrator()?;
    let Request { choice, from, until, dry_run } = request;
    let publisher = session.publisher();
    let mut look = look(session, choice, from, until);
    let mut count = 0;
    while let Some((kind, letter)) = look.next().await? {
        let kept = match action {
            Action::Replay(store) if dry_run => why_not(store, kind, &letter).await?,
            Action::Replay(store) => replay_one(store, &publisher, kind, &letter).await?,
            Action::Discard => None,
        };
        if let Some(kept) = kept {
            on_kept(letter, kept);
            continue;
        }
        if !dry_run {
            look.take().await?;
        }
        count += 1;
    }
    let next = look.position();
    let missing = look.end().await?;
    let is_replay = matches!(action, Action::Replay(_));
    tracing::info!(count, dry_run, is_replay, by = %actor, "took dead letters on a person's demand");
    Ok(Outcome { count, next, missing })
}

/// Why a letter would be kept, as far as that can be seen without replaying it.
async fn why_not(store: &Store, kind: Kind, letter: &DeadLetter) -> Result<Option<Kept>, Stopped> {
    match replay(kind, letter) {
        Ok(Replay::Message(..)) => Ok(None),
        Ok(Replay::Delivery(_, webhook)) => {
            Ok(not_receiving(store, webhook).await?.map(Kept::NotReceiving))
        }
        Err(PublishError::Unsendable { .. }) => Ok(Some(Kept::Unsendable)),
        Err(error) => Err(error.into()),
    }
}

/// Replays one letter, which can be removed afterwards unless it is to be kept.
async fn replay_one(
    store: &Store,
    publisher: &Publisher,
    kind: Kind,
    letter: &DeadLetter,
) -> Result<Option<Kept>, Stopped> {
    let kept = why_not(store, kind, letter).await?;
    if kept.is_some() {
        return Ok(kept);
    }
    let (to, message) = match replay(kind, letter)? {
        Replay::Message(queue, message) => (queue.into(), *message),
        Replay::Delivery(batch, webhook) => {
            let id = DeliveryId::of(batch, webhook);
            match store.delivery_restart_dead(batch, webhook).await? {
                Restart::Begun(due) => job::due(due)?,
                Restart::MovedOn => return Ok(None),
                Restart::UnderWay => return Ok(Some(Kept::InProgress(id))),
                Restart::Unknown => return Ok(Some(Kept::Unknown(id))),
            }
        }
    };
    match publisher.publish(&to, message).await {
        Ok(()) => Ok(None),
        Err(PublishError::Unsendable { .. }) => Ok(Some(Kept::Unsendable)),
        Err(error) => Err(error.into()),
    }
}
