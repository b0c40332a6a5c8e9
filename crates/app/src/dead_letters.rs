//! Use cases of dead letters: list, show, replay, discard, and put back what the broker has lost.

pub(crate) mod restore;

use std::time::Instant;

use fanfare_broker::dead_letters::{
    Choice, DeadLetter, Kind, Look, Position, Replay, dead_delivery, replay,
};
use fanfare_broker::{BrokerError, Destination, Message, PublishError, Publisher, Session, job};
use fanfare_core::audit::entry::Letter;
use fanfare_core::audit::{self, Author, Entry};
use fanfare_core::ids::DeliveryId;
use fanfare_core::job::{AttemptRef, Restart};
use fanfare_store::{Store, StoreError};
use uuid::Uuid;

use crate::receiving::not_receiving;
use crate::{Actor, NotAdministrator, NotReceiving};
pub use restore::restore;

/// The action on dead letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Route events again and retry deliveries.
    Replay,
    /// Remove the letters for good. The ledger keeps their deliveries no longer than others.
    Discard,
}

impl Action {
    fn code(self) -> audit::Action {
        match self {
            Self::Replay => audit::Action::DeadLetterReplayed,
            Self::Discard => audit::Action::DeadLetterDiscarded,
        }
    }
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
    /// The data of one of its events is gone, so that there is nothing to send.
    #[error("the payload of {0} was removed, so there is nothing to send")]
    PayloadRemoved(DeliveryId),
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
            Self::PayloadRemoved(_) => "payload-removed",
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
/// The ledger keeps dead events, masked. Only a letter that it does not have is looked for in the
/// queues, letter by letter.
///
/// # Errors
///
/// [`Stopped`]
pub async fn show(
    stores: Stores<'_>,
    actor: &Actor,
    id: String,
) -> Result<Option<(Kind, DeadLetter)>, Stopped> {
    actor.administrator()?;
    if let Ok(id) = Uuid::parse_str(&id)
        && let Some(kept) = stores.store.kept_find(id).await?
        && let Some(letter) = restore::encoded(kept).decode()
    {
        return Ok(Some((Kind::Events, DeadLetter::of_message(letter))));
    }
    let choice = Choice { ids: vec![id], ..Choice::default() };
    let mut look = look(stores.session, choice, None, None);
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

/// The connections that replays and discards use.
#[derive(Clone, Copy)]
pub struct Stores<'a> {
    /// The broker, which has the letters.
    pub session: &'a Session,
    /// The ledger, and the audit trail.
    pub store: &'a Store,
}

/// Replays or discards dead letters, the oldest of each queue first. `on_kept` gets each letter that
/// can't be replayed.
///
/// Each letter gets an entry in the audit trail before it leaves its queue. If the process ends in
/// between, the letter is still there, and has another entry when it is replayed or discarded again.
///
/// # Errors
///
/// [`Stopped`]
pub async fn settle(
    stores: Stores<'_>,
    actor: &Actor,
    action: Action,
    request: Request,
    mut on_kept: impl FnMut(DeadLetter, Kept),
) -> Result<Outcome, Stopped> {
    actor.administrator()?;
    let Request { choice, from, until, dry_run } = request;
    let settler = Settler {
        store: stores.store,
        publisher: stores.session.publisher(),
        author: actor.author(),
    };
    let mut look = look(stores.session, choice, from, until);
    let mut count = 0;
    while let Some((kind, letter)) = look.next().await? {
        let kept = match action {
            Action::Replay if dry_run => settler.why_not(kind, &letter).await?,
            Action::Replay => settler.replay(kind, &letter).await?,
            Action::Discard if dry_run => None,
            Action::Discard => {
                discard(stores.store, &settler.author, kind, &letter).await?;
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
    let is_replay = action == Action::Replay;
    tracing::info!(count, dry_run, is_replay, by = %actor, "replayed or discarded dead letters");
    Ok(Outcome { count, next, missing })
}

/// Replays or discards letters one by one.
struct Settler<'a> {
    store: &'a Store,
    publisher: Publisher,
    author: Author,
}

impl Settler<'_> {
    /// Returns why a letter would be kept, as far as that is known without replaying it.
    async fn why_not(&self, kind: Kind, letter: &DeadLetter) -> Result<Option<Kept>, Stopped> {
        match replay(kind, letter) {
            Ok(Replay::Message(..)) => Ok(None),
            Ok(Replay::Delivery(_, webhook)) => {
                Ok(not_receiving(self.store, webhook).await?.map(Kept::NotReceiving))
            }
            Err(PublishError::Unsendable { .. }) => Ok(Some(Kept::Unsendable)),
            Err(error) => Err(error.into()),
        }
    }

    /// Replays one letter. The caller removes it afterwards, unless this returns why it is kept.
    async fn replay(&self, kind: Kind, letter: &DeadLetter) -> Result<Option<Kept>, Stopped> {
        let kept = self.why_not(kind, letter).await?;
        if kept.is_some() {
            return Ok(kept);
        }
        let (batch, webhook) = match replay(kind, letter)? {
            Replay::Message(queue, message) => {
                note(self.store, &self.author, Action::Replay, (kind, letter)).await?;
                let kept = self.publish(&queue.into(), *message).await;
                if !matches!(kept, Ok(None)) && kind == Kind::Events {
                    self.store.kept_not_replayed(letter.kept_id()).await?;
                }
                return kept;
            }
            Replay::Delivery(batch, webhook) => (batch, webhook),
        };
        let id = DeliveryId::of(batch, webhook);
        let entry = entry(Action::Replay, kind, letter);
        match self.store.delivery_restart_dead(batch, webhook, &self.author, &entry).await? {
            Restart::Begun(due) => {
                let (to, message) = job::due(due)?;
                self.publish(&to, message).await
            }
            Restart::MovedOn => {
                note(self.store, &self.author, Action::Replay, (kind, letter)).await?;
                Ok(None)
            }
            Restart::UnderWay => Ok(Some(Kept::InProgress(id))),
            Restart::PayloadRemoved => Ok(Some(Kept::PayloadRemoved(id))),
            Restart::Unknown => Ok(Some(Kept::Unknown(id))),
        }
    }

    async fn publish(&self, to: &Destination, message: Message) -> Result<Option<Kept>, Stopped> {
        match self.publisher.publish(to, message).await {
            Ok(()) => Ok(None),
            Err(PublishError::Unsendable { .. }) => Ok(Some(Kept::Unsendable)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Records that a letter leaves its queue, before it does: in the audit trail, and in the row of a dead
/// event.
async fn note(
    store: &Store,
    author: &Author,
    action: Action,
    (kind, letter): (Kind, &DeadLetter),
) -> Result<(), StoreError> {
    let (id, entry) = (letter.kept_id(), entry(action, kind, letter));
    match (kind, action) {
        (Kind::Events, Action::Discard) => store.kept_discard(id, author, &entry).await,
        (Kind::Events, Action::Replay) => store.kept_replaying(id, author, &entry).await,
        (Kind::Deliveries, _) => store.audit_add(author, &entry).await,
    }
}

/// Discards one letter, which the caller removes afterwards. An undecided dead letter is kept for ever,
/// so the ledger notes the decision.
pub(crate) async fn discard(
    store: &Store,
    author: &Author,
    kind: Kind,
    letter: &DeadLetter,
) -> Result<(), StoreError> {
    // A worker's letter is named after the row of the ledger by which its delivery died. The letters
    // of jobs that the broker gave up have no such row.
    let sequence = letter.id.rsplit_once('-').and_then(|(_, sequence)| sequence.parse().ok());
    let Some(((batch, webhook), sequence)) = dead_delivery(kind, letter).zip(sequence) else {
        return note(store, author, Action::Discard, (kind, letter)).await;
    };
    let entry = entry(Action::Discard, kind, letter);
    let died = AttemptRef { batch, webhook, sequence, received_at: None };
    store.delivery_discard(died, author, &entry).await
}

/// The entry of the audit trail about a letter.
fn entry(action: Action, kind: Kind, letter: &DeadLetter) -> Entry {
    let delivery = dead_delivery(kind, letter);
    let shown = Letter {
        id: &letter.id,
        queue: kind.name(),
        reason: &letter.reason,
        event: letter.event(kind),
        delivery: delivery.map(|(batch, webhook)| DeliveryId::of(batch, webhook)),
        webhook: letter.webhook(kind),
    };
    Entry::dead_letter(action.code(), &shown)
}
