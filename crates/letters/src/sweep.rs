//! The messages of settled letters leave their queue.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanfare_broker::Session;
use fanfare_broker::dead_letters::{DeadLetter, Kind, Walk, queue_of};
use fanfare_store::Store;
use fanfare_store::letters::{Leaving, Missed};

use crate::LettersError;
use crate::census::begin_alone;

/// The most letters that one walk removes.
const AT_ONCE: i64 = 20_000;
/// The messages whose leaving one statement notes.
const NOTED_AT_ONCE: usize = 1000;

/// Removes the messages of settled letters from a queue, and returns how many. `on_left` gets the number
/// that has left it so far, from time to time: a long queue takes minutes.
///
/// While another process reads through a queue for longer than `patience`, nothing is removed.
///
/// A message is removed after its letter was settled in the ledger. If the process ends in between, the
/// next sweep removes it.
///
/// # Errors
///
/// [`LettersError`]
pub async fn sweep(
    session: &Session,
    store: &Store,
    kind: Kind,
    patience: Duration,
    mut on_left: impl FnMut(u64),
) -> Result<u64, LettersError> {
    let mut swept = 0;
    loop {
        let leaving = store.letters_leaving(kind, AT_ONCE).await?;
        if leaving.is_empty() {
            return Ok(swept);
        }
        let is_last = i64::try_from(leaving.len()).is_ok_and(|count| count < AT_ONCE);
        if !begin_alone(store, patience).await? {
            return Ok(swept);
        }
        let taken = walk(session, store, kind, leaving, |taken| on_left(swept + taken)).await;
        store.letters_walk_end().await?;
        let taken = taken?;
        swept += taken;
        if is_last || taken == 0 {
            return Ok(swept);
        }
    }
}

/// Walks over the queue until all of these letters are found.
async fn walk(
    session: &Session,
    store: &Store,
    kind: Kind,
    leaving: Vec<Leaving>,
    mut on_left: impl FnMut(u64),
) -> Result<u64, LettersError> {
    let began = Instant::now();
    let mut open: HashMap<String, Leaving> =
        leaving.into_iter().map(|letter| (letter.id.clone(), letter)).collect();
    let mut walk = Walk::begin(session, queue_of(kind)).await?;
    let (mut left, mut taken) = (Vec::new(), 0);
    while !open.is_empty()
        && let Some(letter) = walk.next().await?
    {
        let Some(known) = open.get(&letter.id) else { continue };
        let died = letter.dead_at.clone().unwrap_or_default();
        if !leaves(store, known, &letter, &died).await? {
            continue;
        }
        walk.take().await?;
        taken += 1;
        let is_done = known.gone.iter().all(|gone| *gone == died);
        left.push((letter.id.clone(), died.clone()));
        if is_done {
            open.remove(&letter.id);
        } else if let Some(known) = open.get_mut(&letter.id) {
            known.gone.retain(|gone| *gone != died);
        }
        if left.len() >= NOTED_AT_ONCE {
            store.letters_left(&std::mem::take(&mut left)).await?;
            on_left(taken);
        }
    }
    walk.end().await?;
    if !left.is_empty() {
        store.letters_left(&left).await?;
    }
    if !open.is_empty() {
        // Others have taken them, hold them at this moment, or they are still on their way.
        let ids: Vec<String> = open.into_keys().collect();
        store.letters_missed(kind, Missed::Only(&ids), began.elapsed()).await?;
    }
    Ok(taken)
}

/// Whether a message leaves. A letter that was opened again has a new message with the same id, which
/// stays: it has another time of death, and the letter was opened before it was published.
async fn leaves(
    store: &Store,
    known: &Leaving,
    letter: &DeadLetter,
    died: &String,
) -> Result<bool, LettersError> {
    if known.is_final || known.gone.contains(died) {
        return Ok(true);
    }
    Ok(store.letter_is_settled(&letter.id).await?)
}
