//! Use cases of dead letters: list, show, replay and discard.

use std::time::Instant;

use fanfare_broker::dead_letters::{Choice, DeadLetter, Kind, Look, Position, Replay, replay};
use fanfare_broker::{BrokerError, PublishError, Publisher, Session, job};
use fanfare_core::ids::DeliveryId;
use fanfare_core::job::Restart;
use fanfare_store::{Store, StoreError};

use crate::receiving::not_receiving;
use crate::{Actor, NotAdministrator, NotReceiving};

/// The action on dead letters.
#[derive(Clone, Copy)]
pub enum Action<'a> {
    /// Route events again and retry deliveries. The ledger is in this database.
    Replay(&'a Store),
    /// Remove the letters for good. The ledger in this database keeps their deliveries no longer than
    /// others.
    Discard(&'a Store),
}

/// Which dead letters to replay or discard, and within which limits.
pub struct Request {
    /// The letters that are chosen.
    pub choice: Choice,
    /// The position at which to continue; `None` for the beginning.
    pub from: Option<Position>,
    /// The time at which to stop; `None` for no limit.
    pub until: Option<Instant>,
    /// Whether to count the letters only.
    pub dry_run: bool,
}

/// The result of a replay or discard.
#[derive(Debug)]
pub struct Outcome {
    /// The number of letters that were replayed or discarded, or would be.
    pub count: u64,
    /// The position at which to continue when the time ran out; `None` when all queues were read to
    /// their ends.
    pub next: Option<Position>,
    /// The requested ids that were not found.
    pub missing: Vec<String>,
}

/// Why a dead letter could not be replayed, so that it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// The delivery's webhook receives nothing.
    #[error(transparent)]
    NotReceiving(#[from] NotReceiving),
    /// The ledger does not know the delivery.
    #[error("the database does not know the delivery {0}")]
    Unknown(DeliveryId),
    /// An attempt is in progress, and its outcome is not known yet.
    #[error("an attempt of {0} is being made now")]
    InProgress(DeliveryId),
    /// The broker will never accept the message.
    #[error("the broker does not take the message")]
    Unsendable,
}

impl Kept {
    /// The stable code of the reason.
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

/// Why the work stopped. Letters that were replayed or discarded before stay so; all others are
/// kept.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The actor is neither an operator nor a System Administrator.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// The broker did not answer, or refused the operation.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PublishError> for Stopped {
    fn from(error: PublishError) -> Self {
        Self::Broker(error.into())
    }
}

/// Which dead letters to list, and within which limits.
pub struct Listing {
    /// The letters that are chosen.
    pub choice: Choice,
    /// The position at which to continue; `None` for the beginning.
    pub from: Option<Position>,
    /// The time at which to stop; `None` for no limit.
    pub until: Option<Instant>,
    /// The maximum number of letters; `None` for all.
    pub limit: Option<usize>,
}

/// Lists dead letters, the oldest of each queue first. `on_letter` gets one letter at a time,
/// because the letters may be many and large. Returns the position at which to continue, or `None`
/// at the end.
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
            // This letter is the first one of the next page.
            Some(_) if is_full => break here,
            Some((kind, letter)) => on_letter(kind, letter),
            None => break look.position(),
        }
        count += 1;
    };
    look.end().await?;
    Ok(next)
}

/// Finds a dead letter by its id. Returns `None` when there is none.
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
            Action::Discard(_) if dry_run => None,
            Action::Discard(store) => {
                discard_one(store, kind, &letter).await?;
                None
            }
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
    tracing::info!(count, dry_run, is_replay, by = %actor, "replayed or discarded dead letters");
    Ok(Outcome { count, next, missing })
}

/// Records in the ledger that a letter is discarded, before the letter is removed: an undecided dead
/// letter is kept for ever.
async fn discard_one(store: &Store, kind: Kind, letter: &DeadLetter) -> Result<(), Stopped> {
    // A worker's letter is named after the row of the ledger by which its delivery died. The letters
    // of jobs that the broker gave up have no such row.
    let sequence = letter.id.rsplit_once('-').and_then(|(_, sequence)| sequence.parse().ok());
    if let (Ok(Replay::Delivery(batch, webhook)), Some(sequence)) = (replay(kind, letter), sequence)
    {
        store.delivery_discard(batch, webhook, sequence).await?;
    }
    Ok(())
}

/// Returns why a letter would be kept, as far as that is known without replaying it.
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

/// Replays one letter. The caller removes it afterwards, unless this returns why it is kept.
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
