//! Letters that only their queue has: what the broker itself or another program put there, and what is
//! too large to be kept twice. They are read from the queue, one by one.

use std::collections::HashMap;
use std::time::Duration;

use fanfare_broker::dead_letters::{
    DeadLetter, Kind, Replay, Walk, dead_delivery, queue_of, replay,
};
use fanfare_broker::{Destination, Message, PublishError, job};
use fanfare_core::audit::entry::Letter as AuditLetter;
use fanfare_core::audit::{Author, Entry};
use fanfare_core::dead_letter::Letter;
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::{AttemptRef, Restart};
use fanfare_letters::{PATIENCE, begin_alone};
use fanfare_store::{Store, StoreError};

use super::{Action, Kept, Stopped, Stores};
use crate::receiving::not_receiving;

/// How often a queue is read for letters that were not found: those that another reader has just returned
/// are not ready at once.
const ROUNDS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// Replays or discards letters, and returns how many. Without an author they are only counted.
pub(super) async fn settle(
    stores: Stores<'_>,
    author: Option<&Author>,
    action: Action,
    letters: Vec<Letter>,
    on_kept: &mut impl FnMut(Letter, Kept),
) -> Result<u64, Stopped> {
    let mut count = 0;
    for kind in Kind::ALL {
        let of_kind = letters.iter().filter(|letter| letter.kind == kind);
        let mut open: HashMap<String, Letter> =
            of_kind.map(|letter| (letter.id.clone(), letter.clone())).collect();
        for round in 0..ROUNDS {
            if open.is_empty() {
                break;
            }
            if round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            // A router that reads through the queue at the same time would hide some of them.
            let is_alone = begin_alone(stores.store, PATIENCE).await?;
            let walked = walk(stores, author, action, (kind, &mut open), on_kept).await;
            if is_alone {
                stores.store.letters_walk_end().await?;
            }
            count += walked?;
        }
    }
    Ok(count)
}

/// Reads through a queue once. Letters that are found are no longer open.
async fn walk(
    stores: Stores<'_>,
    author: Option<&Author>,
    action: Action,
    (kind, open): (Kind, &mut HashMap<String, Letter>),
    on_kept: &mut impl FnMut(Letter, Kept),
) -> Result<u64, Stopped> {
    let mut count = 0;
    let mut walk = Walk::begin(stores.session, queue_of(kind)).await?;
    while !open.is_empty()
        && let Some(message) = walk.next().await?
    {
        let Some(letter) = open.remove(&message.id) else { continue };
        let kept = match (action, author) {
            (Action::Replay, None) => why_not(stores.store, kind, &message).await?,
            (Action::Replay, Some(author)) => {
                replay_message(stores, author, kind, &message).await?
            }
            (Action::Discard, None) => None,
            (Action::Discard, Some(author)) => {
                discard_message(stores.store, author, kind, &message).await?;
                None
            }
        };
        if let Some(kept) = kept {
            on_kept(letter, kept);
            continue;
        }
        if author.is_some() {
            walk.take().await?;
            stores.store.letter_taken(&message.id, action.settled_as()).await?;
        }
        count += 1;
    }
    walk.end().await?;
    Ok(count)
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
async fn replay_message(
    stores: Stores<'_>,
    author: &Author,
    kind: Kind,
    letter: &DeadLetter,
) -> Result<Option<Kept>, Stopped> {
    let store = stores.store;
    let kept = why_not(store, kind, letter).await?;
    if kept.is_some() {
        return Ok(kept);
    }
    let entry = entry(Action::Replay, kind, letter);
    match replay(kind, letter)? {
        Replay::Message(queue, message) => {
            store.audit_add(author, &entry).await?;
            publish(stores, &queue.into(), *message).await
        }
        Replay::Delivery(batch, webhook) => restart(stores, author, (batch, webhook), &entry).await,
    }
}

async fn restart(
    stores: Stores<'_>,
    author: &Author,
    (batch, webhook): (BatchKey, WebhookId),
    entry: &Entry,
) -> Result<Option<Kept>, Stopped> {
    let id = DeliveryId::of(batch, webhook);
    match stores.store.delivery_restart_dead(batch, webhook, author, entry).await? {
        Restart::Begun(due) => {
            let (to, message) = job::due(due)?;
            publish(stores, &to, message).await
        }
        Restart::MovedOn => {
            stores.store.audit_add(author, entry).await?;
            Ok(None)
        }
        Restart::UnderWay => Ok(Some(Kept::InProgress(id))),
        Restart::PayloadRemoved => Ok(Some(Kept::PayloadRemoved(id))),
        Restart::Unknown => Ok(Some(Kept::Unknown(id))),
    }
}

async fn publish(
    stores: Stores<'_>,
    to: &Destination,
    message: Message,
) -> Result<Option<Kept>, Stopped> {
    match stores.session.publisher().publish(to, message).await {
        Ok(()) => Ok(None),
        Err(PublishError::Unsendable { .. }) => Ok(Some(Kept::Unsendable)),
        Err(error) => Err(error.into()),
    }
}

/// Discards one letter, which the caller removes afterwards. An undecided dead letter is kept for ever,
/// so the ledger notes the decision.
pub(crate) async fn discard_message(
    store: &Store,
    author: &Author,
    kind: Kind,
    letter: &DeadLetter,
) -> Result<(), StoreError> {
    let entry = entry(Action::Discard, kind, letter);
    if kind == Kind::Events {
        return store.kept_discard(letter.kept_id(), author, &entry).await;
    }
    // A worker's letter is named after the row of the ledger by which its delivery died. The letters
    // of jobs that the broker gave up have no such row.
    let sequence = letter.id.rsplit_once('-').and_then(|(_, sequence)| sequence.parse().ok());
    let Some(((batch, webhook), sequence)) = dead_delivery(kind, letter).zip(sequence) else {
        return store.audit_add(author, &entry).await;
    };
    let died = AttemptRef { batch, webhook, sequence, received_at: None };
    store.delivery_discard(died, author, &entry).await
}

/// The entry of the audit trail about a letter.
fn entry(action: Action, kind: Kind, letter: &DeadLetter) -> Entry {
    let delivery = dead_delivery(kind, letter);
    let shown = AuditLetter {
        id: &letter.id,
        queue: kind.name(),
        reason: &letter.reason,
        event: letter.event(kind),
        delivery: delivery.map(|(batch, webhook)| DeliveryId::of(batch, webhook)),
        webhook: letter.webhook(kind),
    };
    Entry::dead_letter(action.code(), &shown)
}
