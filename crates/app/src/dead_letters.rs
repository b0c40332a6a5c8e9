//! Use cases of dead letters: list, show, replay, discard, and put back what the broker has lost.
//!
//! Everything is read from the index of the ledger, and nothing is taken from a queue to look at it. A
//! replay or a discard is written there first, for some hundred letters in one transaction, then published
//! ([`batch`]), and at the end the messages leave their queue ([`fanfare_letters::sweep`]).

pub mod batch;
mod groups;
mod in_queue;
pub mod mend;
pub(crate) mod restore;
mod selection;
mod show;

use std::collections::HashSet;
use std::time::Instant;

use fanfare_broker::{BrokerError, PublishError, Session};
use fanfare_core::audit;
use fanfare_core::dead_letter::{Choice, Letter, Position};
use fanfare_core::ids::DeliveryId;
use fanfare_letters::{LettersError, PATIENCE, sweep};
use fanfare_store::{Store, StoreError};

use crate::{Actor, NotAdministrator, NotReceiving};
pub use groups::groups;
pub(crate) use in_queue::discard_message;
pub use restore::restore;
pub use selection::{Listing, Newest, list, newest, select, take_in};
pub use show::{Shown, show, show_kept};

/// The letters that are replayed or discarded together.
const BATCH: i64 = 500;

/// The action on dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Route events again and retry deliveries.
    Replay,
    /// Remove the letters for good. The ledger keeps their deliveries no longer than others.
    Discard,
}

impl Action {
    pub(crate) fn code(self) -> audit::Action {
        match self {
            Self::Replay => audit::Action::DeadLetterReplayed,
            Self::Discard => audit::Action::DeadLetterDiscarded,
        }
    }

    /// What becomes of the letter.
    pub(crate) fn settled_as(self) -> &'static str {
        match self {
            Self::Replay => "replayed",
            Self::Discard => "discarded",
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
    /// The position at which to continue when the time ran out; `None` when all letters were done.
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

impl From<LettersError> for Stopped {
    fn from(error: LettersError) -> Self {
        match error {
            LettersError::Broker(error) => Self::Broker(error),
            LettersError::Store(error) => Self::Store(error),
        }
    }
}

/// The connections that use cases of dead letters need.
#[derive(Clone, Copy)]
pub struct Stores<'a> {
    /// The broker, whose queues have the messages.
    pub session: &'a Session,
    /// The ledger, and the audit trail.
    pub store: &'a Store,
}

/// Replays or discards dead letters, the oldest of each queue first. `on_kept` gets each letter that
/// can't be replayed. Letters that die meanwhile, or die again, are left alone.
///
/// Each letter gets an entry in the audit trail in the transaction that settles it. If the process ends
/// at any point, each letter is either still there, or it was replayed or discarded.
///
/// # Errors
///
/// [`Stopped`]
pub async fn settle(
    stores: Stores<'_>,
    actor: &Actor,
    action: Action,
    request: Request,
    mut on_kept: impl FnMut(Letter, Kept),
) -> Result<Outcome, Stopped> {
    actor.administrator()?;
    let Request { mut choice, mut from, until, dry_run } = request;
    take_in(stores, choice.kind, until).await?;
    choice.noted_before = Some(stores.store.letters_clock().await?);
    let mut missing: HashSet<&str> = choice.ids.iter().map(String::as_str).collect();
    let (author, mut count) = (actor.author(), 0);
    let next = loop {
        let page = select(stores.store, &choice, from.take(), BATCH).await?;
        for letter in &page.letters {
            missing.remove(letter.id.as_str());
        }
        let settled = if dry_run {
            batch::survey(stores, action, page.letters, &mut on_kept).await?
        } else {
            batch::settle(stores, &author, action, page.letters, &mut on_kept).await?
        };
        count += settled;
        match page.next {
            None => break None,
            next if until.is_some_and(|until| Instant::now() >= until) => break next,
            next => from = next,
        }
    };
    if !dry_run && count > 0 {
        clear(stores, &choice).await?;
    }
    let missing = choice.ids.iter().filter(|id| missing.contains(id.as_str())).cloned().collect();
    let is_replay = action == Action::Replay;
    tracing::info!(count, dry_run, is_replay, by = %actor, "replayed or discarded dead letters");
    Ok(Outcome { count, next, missing })
}

/// Removes the messages of settled letters from their queues.
async fn clear(stores: Stores<'_>, choice: &Choice) -> Result<(), Stopped> {
    for kind in selection::kinds(choice.kind) {
        sweep(stores.session, stores.store, kind, PATIENCE, |_| {}).await?;
    }
    Ok(())
}
