//! Lists and selections of dead letters, from the index of the ledger.

use std::time::Instant;

use fanfare_core::dead_letter::{Choice, Kind, Letter, Position};
use fanfare_letters::{PATIENCE, has_unknown, take_census};
use fanfare_store::letters::Order;
use fanfare_store::{Store, StoreError};

use super::{Stopped, Stores};
use crate::{Actor, clock};

/// The letters that one statement reads.
const PAGE: i64 = 1000;

/// Which dead letters to list, and within which limits.
pub struct Listing {
    /// The letters that are chosen.
    pub choice: Choice,
    /// The position at which to continue; `None` for the beginning.
    pub from: Option<Position>,
    /// The time at which to stop looking for letters that the ledger does not know.
    pub until: Option<Instant>,
    /// The maximum number of letters; `None` for all.
    pub limit: Option<usize>,
}

/// A page of letters.
#[derive(Debug)]
pub struct Page {
    pub letters: Vec<Letter>,
    /// The position of the next page; `None` at the end.
    pub next: Option<Position>,
}

/// The newest letters of a choice.
#[derive(Debug)]
pub struct Newest {
    pub letters: Vec<Letter>,
    /// The position of the next page; `None` at the end.
    pub next: Option<Position>,
    /// The number of all letters of the choice.
    pub count: i64,
}

/// Lists at most `most` letters behind the position `after`, the newest first. It reads the ledger alone.
///
/// # Errors
///
/// [`Stopped`]
pub async fn newest(
    store: &Store,
    actor: &Actor,
    choice: &Choice,
    after: Option<&Position>,
    most: i64,
) -> Result<Newest, Stopped> {
    actor.administrator()?;
    // One more says whether there is another page.
    let mut letters =
        store.letters_list(choice, after, Order::NewestFirst, most.saturating_add(1)).await?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let is_more = letters.len() > most;
    letters.truncate(most);
    let next = letters.last().filter(|_| is_more).map(Letter::position);
    Ok(Newest { letters, next, count: store.letters_count(choice).await? })
}

/// Lists dead letters, the oldest of each queue first. `on_letter` gets one letter at a time. Returns the
/// position at which to continue, or `None` at the end.
///
/// # Errors
///
/// [`Stopped`]
pub async fn list(
    stores: Stores<'_>,
    actor: &Actor,
    listing: Listing,
    mut on_letter: impl FnMut(Letter),
) -> Result<Option<Position>, Stopped> {
    actor.administrator()?;
    let Listing { choice, mut from, until, limit } = listing;
    take_in(stores, choice.kind, until).await?;
    let mut left = limit.unwrap_or(usize::MAX);
    loop {
        let most = i64::try_from(left).map_or(PAGE, |left| left.min(PAGE));
        let page = select(stores.store, &choice, from, most).await?;
        left = left.saturating_sub(page.letters.len());
        page.letters.into_iter().for_each(&mut on_letter);
        match page.next {
            Some(next) if left > 0 => from = Some(next),
            next => return Ok(next),
        }
    }
}

/// Selects a page of at most `most` letters, the oldest of each queue first. It reads the ledger alone.
///
/// # Errors
///
/// [`StoreError`]
pub async fn select(
    store: &Store,
    choice: &Choice,
    from: Option<Position>,
    most: i64,
) -> Result<Page, StoreError> {
    let mut letters = Vec::new();
    let mut after = from;
    for kind in kinds(choice.kind) {
        if after.as_ref().is_some_and(|after| after.kind != kind && kind == Kind::Events) {
            continue;
        }
        let of_kind = Choice { kind: Some(kind), ..choice.clone() };
        let begin = after.take_if(|after| after.kind == kind);
        let left = most - i64::try_from(letters.len()).unwrap_or(most);
        // One more says whether there is another page.
        let found =
            store.letters_list(&of_kind, begin.as_ref(), Order::OldestFirst, left + 1).await?;
        letters.extend(found);
        if i64::try_from(letters.len()).is_ok_and(|count| count > most) {
            break;
        }
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let is_more = letters.len() > most;
    letters.truncate(most);
    let next = letters.last().filter(|_| is_more).map(Letter::position);
    Ok(Page { letters, next })
}

/// Adds to the index what queues have and the ledger does not know: nothing is read from a queue that has
/// no more messages than the ledger knows.
///
/// # Errors
///
/// [`Stopped`]
pub async fn take_in(
    stores: Stores<'_>,
    only: Option<Kind>,
    until: Option<Instant>,
) -> Result<(), Stopped> {
    let Stores { session, store } = stores;
    for kind in kinds(only) {
        if has_unknown(session, store, kind).await? {
            take_census((session, store), kind, clock::now(), until, PATIENCE).await?;
        }
    }
    Ok(())
}

/// The kinds of a choice, in the order of lists.
pub(super) fn kinds(only: Option<Kind>) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(move |kind| only.is_none_or(|only| only == *kind))
}
