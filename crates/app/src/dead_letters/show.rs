//! A single dead letter with its message.

use fanfare_broker::dead_letters::{DeadLetter, Walk, queue_of};
use fanfare_core::dead_letter::{Choice, Kind, Letter, Source};
use fanfare_core::job::AttemptRef;
use fanfare_letters::dead_delivery;
use fanfare_store::Store;
use uuid::Uuid;

use super::{Stopped, Stores, restore, select, take_in};
use crate::Actor;

/// A dead letter with its message.
pub struct Shown {
    pub letter: Letter,
    pub message: DeadLetter,
}

/// Finds a dead letter by its id. Returns `None` when there is none.
///
/// The message comes from the ledger: a dead event is masked there, and the body of a delivery is made
/// as it was sent last. Only a letter that the ledger does not have is looked for in its queue.
///
/// # Errors
///
/// [`Stopped`]
pub async fn show(stores: Stores<'_>, actor: &Actor, id: String) -> Result<Option<Shown>, Stopped> {
    actor.administrator()?;
    let choice = Choice::of_ids(vec![id]);
    let mut found = select(stores.store, &choice, None, 1).await?.letters.pop();
    if found.is_none() {
        take_in(stores, None, None).await?;
        found = select(stores.store, &choice, None, 1).await?.letters.pop();
    }
    let Some(letter) = found else { return Ok(None) };
    let message = match (letter.source, letter.kind) {
        (Source::Ledger, Kind::Events) => event(stores.store, &letter).await?,
        (Source::Ledger, Kind::Deliveries) => delivery(stores.store, &letter).await?,
        (Source::Broker, _) => in_queue(stores, &letter).await?,
    };
    Ok(message.map(|message| Shown { letter, message }))
}

/// Finds a dead letter in the ledger, without a look into a queue. The message is `None` if only the queue
/// has it.
///
/// # Errors
///
/// [`Stopped`]
pub async fn show_kept(
    store: &Store,
    actor: &Actor,
    id: String,
) -> Result<Option<(Letter, Option<DeadLetter>)>, Stopped> {
    actor.administrator()?;
    let Some(letter) = select(store, &Choice::of_ids(vec![id]), None, 1).await?.letters.pop()
    else {
        return Ok(None);
    };
    let message = match (letter.source, letter.kind) {
        (Source::Ledger, Kind::Events) => event(store, &letter).await?,
        (Source::Ledger, Kind::Deliveries) => delivery(store, &letter).await?,
        (Source::Broker, _) => None,
    };
    Ok(Some((letter, message)))
}

async fn event(store: &Store, letter: &Letter) -> Result<Option<DeadLetter>, Stopped> {
    let Ok(id) = Uuid::parse_str(&letter.id) else { return Ok(None) };
    let kept = store.kept_find(id).await?;
    Ok(kept.and_then(|kept| restore::encoded(kept).decode()).map(DeadLetter::of_message))
}

async fn delivery(store: &Store, letter: &Letter) -> Result<Option<DeadLetter>, Stopped> {
    let Some(died) = letter.died_by else { return Ok(None) };
    let received_at = Some(died.received_at);
    let due =
        AttemptRef { batch: died.batch, webhook: died.webhook, sequence: died.entry, received_at };
    let history = store.delivery_histories(&[due], usize::MAX).await?.pop();
    let webhook = store.webhooks_read(&[died.webhook]).await?.readable.pop();
    let message = history.as_ref().and_then(|history| {
        let last = history.last.as_ref().filter(|last| last.entry == died.entry)?;
        let webhook = webhook.as_ref().map(|read| &read.webhook);
        Some(dead_delivery(due, last, history, webhook).message(letter.died_at))
    });
    Ok(message.map(DeadLetter::of_message))
}

async fn in_queue(stores: Stores<'_>, letter: &Letter) -> Result<Option<DeadLetter>, Stopped> {
    let mut walk = Walk::begin(stores.session, queue_of(letter.kind)).await?;
    let mut found = None;
    while let Some(message) = walk.next().await? {
        if message.id == letter.id {
            found = Some(message);
            break;
        }
    }
    walk.end().await?;
    Ok(found)
}
