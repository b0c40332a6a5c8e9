//! The replay or discard of some hundred letters together: one transaction, one wait for confirms.
//!
//! First the ledger says that a letter is settled, with its entry of the audit trail. Then its job or its
//! event is published. If the process ends in between, routers publish it. The messages in the queues of
//! dead letters are left to [`fanfare_letters::sweep`], which the caller begins at the end of its work,
//! and routers at any time.

use std::collections::HashMap;

use fanfare_broker::dead_letters::{DeadLetter, EncodedLetter, Replay, died_at, replay};
use fanfare_broker::{Destination, Message, PublishError, job};
use fanfare_core::audit::entry::Letter as AuditLetter;
use fanfare_core::audit::{Author, Entry};
use fanfare_core::dead_letter::{Kind, Letter, Source};
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::job::{AttemptRef, Restart};
use fanfare_store::letters::ReplayedEvent;

use super::{Action, Kept, Stopped, Stores, in_queue};
use crate::NotReceiving;

/// The most bytes of events that are in memory together, beyond the first one.
const MOST_BYTES: i64 = 8 * 1024 * 1024;

/// Replays or discards letters, and returns how many. `on_kept` gets each letter that can't be replayed.
/// Letters that were settled meanwhile don't count.
///
/// # Errors
///
/// [`Stopped`]
pub async fn settle(
    stores: Stores<'_>,
    author: &Author,
    action: Action,
    letters: Vec<Letter>,
    on_kept: &mut impl FnMut(Letter, Kept),
) -> Result<u64, Stopped> {
    let Parts { deliveries, events, others } = Parts::of(letters);
    let mut count = match action {
        Action::Discard => {
            let kept = [deliveries, events].concat();
            let entry = |letter: &Letter| entry(action, letter);
            let settled = stores.store.letters_discard(&kept, author, &entry).await?;
            number(settled.len())
        }
        Action::Replay => {
            let deliveries = receiving(stores, deliveries, on_kept).await?;
            let restarted = restart(stores, author, deliveries, on_kept).await?;
            restarted + replay_events(stores, author, events, on_kept).await?
        }
    };
    count += in_queue::settle(stores, Some(author), action, others, on_kept).await?;
    Ok(count)
}

/// Counts the letters that would be replayed or discarded. `on_kept` gets the others.
///
/// # Errors
///
/// [`Stopped`]
pub async fn survey(
    stores: Stores<'_>,
    action: Action,
    letters: Vec<Letter>,
    on_kept: &mut impl FnMut(Letter, Kept),
) -> Result<u64, Stopped> {
    if action == Action::Discard {
        return Ok(number(letters.len()));
    }
    let Parts { deliveries, events, others } = Parts::of(letters);
    let count = receiving(stores, deliveries, on_kept).await?.len() + events.len();
    Ok(number(count) + in_queue::settle(stores, None, action, others, on_kept).await?)
}

/// Letters by where their content is.
struct Parts {
    deliveries: Vec<Letter>,
    events: Vec<Letter>,
    /// Those that only their queue has.
    others: Vec<Letter>,
}

impl Parts {
    fn of(letters: Vec<Letter>) -> Self {
        let (in_ledger, others) =
            letters.into_iter().partition(|it: &Letter| it.source == Source::Ledger);
        let (deliveries, events) =
            Vec::into_iter(in_ledger).partition(|it: &Letter| it.kind == Kind::Deliveries);
        Self { deliveries, events, others }
    }
}

/// The deliveries whose webhooks receive their notifications.
async fn receiving(
    stores: Stores<'_>,
    deliveries: Vec<Letter>,
    on_kept: &mut impl FnMut(Letter, Kept),
) -> Result<Vec<Letter>, Stopped> {
    let mut ids: Vec<WebhookId> = deliveries.iter().filter_map(|letter| letter.webhook).collect();
    ids.sort_unstable_by_key(|id| id.0);
    ids.dedup();
    let paused = stores.store.webhooks_paused(&ids).await?;
    let mut receiving = Vec::with_capacity(deliveries.len());
    for letter in deliveries {
        match letter.webhook.and_then(|id| not_receiving(&paused, id)) {
            Some(why) => on_kept(letter, why.into()),
            None => receiving.push(letter),
        }
    }
    Ok(receiving)
}

fn not_receiving(paused: &HashMap<WebhookId, bool>, id: WebhookId) -> Option<NotReceiving> {
    match paused.get(&id) {
        Some(false) => None,
        Some(true) => Some(NotReceiving::Paused(id)),
        None => Some(NotReceiving::Deleted(id)),
    }
}

/// Begins new series of attempts, and publishes their jobs.
async fn restart(
    stores: Stores<'_>,
    author: &Author,
    deliveries: Vec<Letter>,
    on_kept: &mut impl FnMut(Letter, Kept),
) -> Result<u64, Stopped> {
    if deliveries.is_empty() {
        return Ok(0);
    }
    let entry = |letter: &Letter| entry(Action::Replay, letter);
    let restarts = stores.store.letters_restart(&deliveries, author, &entry).await?;
    let (mut count, mut dues) = (0, Vec::new());
    for (letter, restart) in deliveries.into_iter().zip(restarts) {
        match (restart, delivery_id(&letter)) {
            (Some(Restart::Begun(due)), _) => dues.push(due),
            (Some(Restart::MovedOn), _) => count += 1,
            (Some(Restart::UnderWay), Some(id)) => on_kept(letter, Kept::InProgress(id)),
            (Some(Restart::PayloadRemoved), Some(id)) => on_kept(letter, Kept::PayloadRemoved(id)),
            (_, Some(id)) => on_kept(letter, Kept::Unknown(id)),
            (_, None) => {}
        }
    }
    count += number(dues.len());
    publish_jobs(stores, &dues).await?;
    Ok(count)
}

async fn publish_jobs(stores: Stores<'_>, dues: &[AttemptRef]) -> Result<(), Stopped> {
    let jobs = dues.iter().copied().map(job::due).collect::<Result<Vec<_>, _>>()?;
    if !jobs.is_empty() {
        stores.session.publisher().publish_all(jobs).await?;
    }
    Ok(())
}

/// Publishes dead events for the routers again, in parts that need little memory.
async fn replay_events(
    stores: Stores<'_>,
    author: &Author,
    events: Vec<Letter>,
    on_kept: &mut impl FnMut(Letter, Kept),
) -> Result<u64, Stopped> {
    let mut count = 0;
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while let Some(letter) = events.next_if(|_| bytes < MOST_BYTES) {
            bytes += i64::from(letter.bytes);
            part.push(letter);
        }
        count += replay_some(stores, author, part, on_kept).await?;
    }
    Ok(count)
}

/// A message, and the index of its event.
type Numbered = (usize, (Destination, Message));

async fn replay_some(
    stores: Stores<'_>,
    author: &Author,
    letters: Vec<Letter>,
    on_kept: &mut impl FnMut(Letter, Kept),
) -> Result<u64, Stopped> {
    let entry = |letter: &Letter| entry(Action::Replay, letter);
    let store = stores.store;
    let replayed = store.letters_replay_events(&letters, author, &entry, died_at).await?;
    // By queue: the result of each is only certain among messages with the same destination.
    let mut by_queue: HashMap<&'static str, Vec<Numbered>> = HashMap::new();
    let mut unsendable = Vec::new();
    let ids: Vec<_> = replayed.events.iter().map(|event| event.id).collect();
    for (index, event) in replayed.events.into_iter().enumerate() {
        match message(event) {
            Some((queue, to, message)) => {
                by_queue.entry(queue).or_default().push((index, (to, message)));
            }
            None => unsendable.push(index),
        }
    }
    let mut failed = None;
    for messages in by_queue.into_values() {
        let (indexes, messages): (Vec<usize>, Vec<_>) = messages.into_iter().unzip();
        let sent = stores.session.publisher().publish_each(messages).await;
        for (index, sent) in indexes.into_iter().zip(sent) {
            match sent {
                Ok(()) => {}
                Err(PublishError::Unsendable { .. }) => unsendable.push(index),
                // The ledger has it, and a router publishes it soon.
                Err(error) => failed = Some(error),
            }
        }
    }
    let mut count = number(ids.len());
    for id in unsendable.into_iter().filter_map(|index| ids.get(index)) {
        store.letter_not_replayed(*id).await?;
        count -= 1;
        let name = id.simple().to_string();
        if let Some(letter) = letters.iter().find(|letter| letter.id == name) {
            on_kept(letter.clone(), Kept::Unsendable);
        }
    }
    failed.map_or(Ok(count), |error| Err(error.into()))
}

/// The message with which an event is published again, and the name of its queue.
pub(super) fn message(event: ReplayedEvent) -> Option<(&'static str, Destination, Message)> {
    let ReplayedEvent { id, properties, body } = event;
    let letter = DeadLetter::of_message(EncodedLetter { id, properties, body }.decode()?);
    match replay(Kind::Events, &letter).ok()? {
        Replay::Message(queue, message) => Some((queue.name(), queue.into(), *message)),
        Replay::Delivery(..) => None,
    }
}

/// The entry of the audit trail about a letter.
pub(super) fn entry(action: Action, letter: &Letter) -> Entry {
    let shown = AuditLetter {
        id: &letter.id,
        queue: letter.kind.name(),
        reason: &letter.reason,
        event: letter.event.clone(),
        delivery: delivery_id(letter),
        webhook: letter.webhook,
    };
    Entry::dead_letter(action.code(), &shown)
}

fn delivery_id(letter: &Letter) -> Option<DeliveryId> {
    letter.died_by.map(|died| DeliveryId::of(died.batch, died.webhook))
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
