//! The comparison of a queue with the index.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_broker::dead_letters::{Kind, Walk, queue_of};
use fanfare_broker::{BrokerError, Session};
use fanfare_core::dead_letter::Letter;
use fanfare_store::Store;
use fanfare_store::letters::Missed;

use crate::LettersError;

/// The letters that one statement adds.
const ADDED_AT_ONCE: usize = 500;

/// The longest time for which one walk keeps others from saying what a queue lacks.
const LEASE: Duration = Duration::from_mins(1);

/// How long a command waits for another walk, which hides the letters that it reads.
pub const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);

/// Waits until no other process reads through a queue of dead letters, at most for `patience`. Returns
/// whether that was so; then the caller ends with [`Store::letters_walk_end`].
///
/// # Errors
///
/// [`LettersError`]
pub async fn begin_alone(store: &Store, patience: Duration) -> Result<bool, LettersError> {
    let began = Instant::now();
    loop {
        if store.letters_walk_begin(LEASE).await? {
            return Ok(true);
        }
        if began.elapsed() >= patience {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a queue has letters that the index does not know: more than it should have. A passive look,
/// which moves nothing.
///
/// # Errors
///
/// [`LettersError`]
pub async fn has_unknown(
    session: &Session,
    store: &Store,
    kind: Kind,
) -> Result<bool, LettersError> {
    match difference(session, store, kind).await {
        Ok(difference) => Ok(difference > 0),
        // A router declares it when it starts.
        Err(LettersError::Broker(BrokerError::Missing { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// By how many messages a queue differs from the index: it has some that the index does not know, or, if
/// the number is negative, lacks some. They may be on their way, or held by others for a moment.
///
/// # Errors
///
/// [`LettersError`]
pub async fn difference(session: &Session, store: &Store, kind: Kind) -> Result<i64, LettersError> {
    // The index has a letter before its queue has it. So the queue is asked first.
    let ready = session.depth(queue_of(kind)).await?.ready;
    Ok(i64::from(ready) - store.letters_expected(kind).await?)
}

/// Reads through a queue, adds what the index does not know, and notes what the queue lacks. It stops at
/// `until`, and then has added what it had read. A letter without a time of death died `now`.
///
/// Letters are hidden from others while they are read, and return to the queue in their order. While
/// another process reads through a queue for longer than `patience`, nothing is read.
///
/// # Errors
///
/// [`LettersError`]
pub async fn take_census(
    (session, store): (&Session, &Store),
    kind: Kind,
    now: DateTime<Utc>,
    until: Option<Instant>,
    patience: Duration,
) -> Result<(), LettersError> {
    if !begin_alone(store, patience).await? {
        return Ok(());
    }
    let read = census((session, store), kind, now, until).await;
    store.letters_walk_end().await?;
    read
}

async fn census(
    (session, store): (&Session, &Store),
    kind: Kind,
    now: DateTime<Utc>,
    until: Option<Instant>,
) -> Result<(), LettersError> {
    let began = Instant::now();
    let mut walk = Walk::begin(session, queue_of(kind)).await?;
    let mut counts: HashMap<String, i16> = HashMap::new();
    let mut page: Vec<Letter> = Vec::new();
    let mut is_complete = true;
    while let Some(letter) = walk.next().await? {
        let letter = letter.facts(kind, now);
        let count = counts.entry(letter.id.clone()).or_default();
        *count = count.saturating_add(1);
        page.push(letter);
        if page.len() >= ADDED_AT_ONCE {
            add(store, &mut page).await?;
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            is_complete = false;
            break;
        }
    }
    walk.end().await?;
    add(store, &mut page).await?;
    if is_complete {
        let counts: Vec<(String, i16)> = counts.into_iter().collect();
        store.letters_counted(&counts).await?;
        let ids: Vec<String> = counts.into_iter().map(|(id, _)| id).collect();
        store.letters_missed(kind, Missed::AllBut(&ids), began.elapsed()).await?;
    }
    Ok(())
}

async fn add(store: &Store, page: &mut Vec<Letter>) -> Result<(), LettersError> {
    if page.is_empty() {
        return Ok(());
    }
    let added = store.letters_found(page).await?;
    if added > 0 {
        tracing::info!(added, "found dead letters that the ledger did not know");
    }
    page.clear();
    Ok(())
}
