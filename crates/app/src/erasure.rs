//! The use case of erasure: removes the payloads of one user's or one resource's events everywhere.
//!
//! The places are in the order in which an event passes through them, so that one that moves on
//! meanwhile is found in the next place: events that no router has taken, the ledger, the answers of a
//! user's webhooks, jobs, dead letters, and the ledger's rows of dead and waiting events. A place that is added to the service gets its step in
//! `survey` and in `erase_everywhere`.
//!
//! Every step can be repeated. An erasure that was interrupted is run again, and finds what is left.

use std::collections::{HashSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_broker::BrokerError;
use fanfare_broker::dead_letters::Kind;
use fanfare_broker::erasure::{Place, Search, strip};
use fanfare_core::audit::Entry;
use fanfare_core::erasure::{ErasureTarget, Stripped};
use fanfare_store::erasure::ErasurePosition;
use fanfare_store::kept::{self, Kept};
use fanfare_store::{Store, StoreError};
use serde::Serialize;
use uuid::Uuid;

use crate::dead_letters::{Stores, discard_message, restore};
use crate::{Actor, NotAdministrator, clock};

/// A request for an erasure.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose payloads.
    pub target: ErasureTarget,
    /// Whether to count only.
    pub dry_run: bool,
    /// Whether to drop what is still owed: deliveries that have not ended, and events that no router
    /// has taken.
    pub drop_pending: bool,
}

/// What was erased, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Events in the ledger whose data was removed.
    pub events: u64,
    /// Answers whose bodies, headers and errors were removed. A dry run counts only those of the
    /// user's own webhooks.
    pub answers: u64,
    /// Dead letters that were discarded, or lost some of their events.
    pub dead_letters: u64,
    /// Jobs in the broker that lost the data that they carried.
    pub jobs: u64,
    /// Messages with events that no router has taken, which were removed or lost some events.
    pub waiting: u64,
    /// Deliveries that had not ended.
    pub pending: u64,
}

impl Counts {
    /// Whether something is still owed.
    fn is_owed(self) -> bool {
        self.pending > 0 || self.waiting > 0
    }
}

/// What an erasure has done, and when.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub target: ErasureTarget,
    pub dry_run: bool,
    pub begun_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    pub counts: Counts,
}

/// Why nothing was erased, or the erasure stopped. What was erased before stays so.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The actor is neither an operator nor a System Administrator.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// Something is still owed, and the request does not drop it. Nothing was erased.
    #[error("{} deliveries are not settled, and {} messages with events wait for a router", .0.pending, .0.waiting)]
    Owed(Counts),
    /// The broker did not answer, or refused the operation.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Erases the payloads of a user's or a resource's events, and keeps the facts.
///
/// # Errors
///
/// [`ErasureError`]
pub async fn erase(
    stores: Stores<'_>,
    actor: &Actor,
    request: Request,
) -> Result<Receipt, ErasureError> {
    actor.administrator()?;
    let Request { target, dry_run, drop_pending } = request;
    let begun_at = clock::now();
    let receipt = |counts| {
        let (target, ended_at) = (target.clone(), clock::now());
        Receipt { target, dry_run, begun_at, ended_at, counts }
    };
    if dry_run || !drop_pending {
        let found = survey(stores, &target).await?;
        if dry_run {
            return Ok(receipt(found));
        }
        if found.is_owed() {
            return Err(ErasureError::Owed(found));
        }
    }
    let (store, author) = (stores.store, actor.author());
    store.audit_add(&author, &Entry::erasure_begun(&target, drop_pending)).await?;
    let counts = erase_everywhere(stores, actor, &target, drop_pending).await?;
    let noted = serde_json::to_value(counts).unwrap_or_default();
    store.audit_add(&author, &Entry::erasure_done(&target, noted)).await?;
    tracing::info!(?counts, by = %actor, "erased payloads");
    Ok(receipt(counts))
}

/// Counts what would be erased, and what is still owed.
async fn survey(stores: Stores<'_>, target: &ErasureTarget) -> Result<Counts, ErasureError> {
    let Stores { session, store } = stores;
    let mut counts = Counts::default();
    let mut search = Search::begin(session, target, Place::Waiting);
    // A message that waits goes to the queue of events meanwhile, and is found there again.
    let mut seen = HashSet::new();
    while let Some(found) = search.next().await? {
        let is_new = found.letter.message.kept_id().is_none_or(|id| seen.insert(id));
        counts.waiting += u64::from(is_new);
    }
    // What is in a queue may be recognised by its batch alone.
    let mut batches = HashSet::new();
    let mut ledger = Ledger::begin(store, target).await?;
    while let Some(found) = ledger.next().await? {
        batches.extend(found.events.iter().map(|event| event.batch.0));
        counts.events += u64::try_from(found.events.len()).unwrap_or_default();
        counts.pending += found.owed;
    }
    if let ErasureTarget::User(name) = target {
        for webhook in store.erasure_webhooks(name).await? {
            counts.answers += store.erasure_answers(webhook).await?;
        }
    }
    for place in [Place::Jobs, Place::Dead(Kind::Events), Place::Dead(Kind::Deliveries)] {
        let mut search = Search::begin(session, target, place);
        while let Some(found) = search.next().await? {
            let is_chosen = found.batches.iter().any(|batch| batches.contains(&batch.0));
            if found.is_target || is_chosen || store.has_erased(&found.batches).await? {
                *place_count(&mut counts, place) += 1;
            }
        }
    }
    let mut kept = KeptMessages::begin(store, target);
    let (mut dead, mut held) = (0, 0);
    while let Some((message, _)) = kept.next().await? {
        match message.kind {
            kept::Kind::Dead => dead += 1,
            kept::Kind::Held => held += 1,
        }
    }
    // Most of them are in their queues as well, which were counted.
    counts.dead_letters = counts.dead_letters.max(dead);
    counts.waiting = counts.waiting.max(held);
    Ok(counts)
}

async fn erase_everywhere(
    stores: Stores<'_>,
    actor: &Actor,
    target: &ErasureTarget,
    drop_pending: bool,
) -> Result<Counts, ErasureError> {
    let store = stores.store;
    let mut counts = Counts::default();
    let mut counted = HashSet::new();
    if drop_pending {
        counted = erase_messages(stores, actor, (target, Place::Waiting), &mut counts).await?;
    }
    let mut ledger = Ledger::begin(store, target).await?;
    while let Some(found) = ledger.next().await? {
        let erased = store.erase_events(&found.events, drop_pending).await?;
        counts.events += erased.events;
        counts.answers += erased.answers;
        counts.pending += erased.dropped;
    }
    if let ErasureTarget::User(name) = target {
        for webhook in store.erasure_webhooks(name).await? {
            counts.answers += store.erase_answers(webhook).await?;
        }
    }
    for place in [Place::Jobs, Place::Dead(Kind::Events), Place::Dead(Kind::Deliveries)] {
        erase_messages(stores, actor, (target, place), &mut counts).await?;
    }
    let mut kept = KeptMessages::begin(store, target);
    while let Some((message, rest)) = kept.next().await? {
        let is_dead = message.kind == kept::Kind::Dead;
        if is_dead || drop_pending {
            store.kept_erase(message.id, rest.as_deref().map(str::as_bytes)).await?;
            // The others were in their queues, too.
            let is_lost = rest.is_none() && !counted.contains(&message.id);
            let count = if is_dead { &mut counts.dead_letters } else { &mut counts.waiting };
            *count += u64::from(is_lost);
        }
    }
    Ok(counts)
}

/// Erases what the queues of a place have. A dead letter that goes is discarded. Returns the rows that
/// messages name which waited.
async fn erase_messages(
    stores: Stores<'_>,
    actor: &Actor,
    (target, place): (&ErasureTarget, Place),
    counts: &mut Counts,
) -> Result<HashSet<Uuid>, ErasureError> {
    let Stores { session, store } = stores;
    let mut rows = HashSet::new();
    let author = actor.author();
    let mut search = Search::begin(session, target, place);
    while let Some(found) = search.next().await? {
        if !found.is_target && !store.has_erased(&found.batches).await? {
            continue;
        }
        let gone = matches!(place, Place::Dead(_)).then(|| found.letter.id.clone());
        let gone = gone.filter(|_| found.goes());
        if let (Place::Dead(kind), true) = (place, found.goes()) {
            discard_message(store, &author, kind, &found.letter).await?;
        }
        rows.extend(found.letter.message.kept_id());
        search.erase(found).await?;
        if let Some(id) = gone {
            store.letter_taken(&id, "erased").await?;
        }
        *place_count(counts, place) += 1;
    }
    Ok(rows)
}

fn place_count(counts: &mut Counts, place: Place) -> &mut u64 {
    match place {
        Place::Waiting => &mut counts.waiting,
        Place::Jobs => &mut counts.jobs,
        Place::Dead(_) => &mut counts.dead_letters,
    }
}

/// Reads the messages that routers keep in the ledger, and finds those to be erased.
struct KeptMessages<'a> {
    store: &'a Store,
    target: &'a ErasureTarget,
    page: VecDeque<Kept>,
    after: Uuid,
}

impl<'a> KeptMessages<'a> {
    fn begin(store: &'a Store, target: &'a ErasureTarget) -> Self {
        Self { store, target, page: VecDeque::new(), after: Uuid::nil() }
    }

    /// The next message to be erased, and what is left of it.
    async fn next(&mut self) -> Result<Option<(Kept, Option<String>)>, StoreError> {
        loop {
            let Some(message) = self.page.pop_front() else {
                self.page = self.store.kept_open(self.after).await?.into();
                if self.page.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            self.after = message.id;
            match strip(self.target, restore::encoded(message.clone())) {
                Stripped::Untouched => {}
                Stripped::Nothing => return Ok(Some((message, None))),
                Stripped::Rest(rest) => return Ok(Some((message, Some(rest)))),
            }
        }
    }
}

/// Reads the events of the ledger that are to be erased, day by day, so that each statement opens few
/// partitions.
struct Ledger<'a> {
    store: &'a Store,
    target: &'a ErasureTarget,
    after: ErasurePosition,
    /// The end of the day that is read, and of all.
    until: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// Some events of the ledger.
struct Events {
    events: Vec<ErasurePosition>,
    /// The deliveries that have not ended.
    owed: u64,
}

impl<'a> Ledger<'a> {
    async fn begin(store: &'a Store, target: &'a ErasureTarget) -> Result<Self, StoreError> {
        let range = store.erasure_range().await?;
        let (begin, newest) = range.unwrap_or((DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH));
        // What is routed meanwhile is behind the newest.
        let end = newest.max(clock::now()) + TimeDelta::minutes(1);
        let end = if range.is_some() { end } else { begin };
        Ok(Self { store, target, after: ErasurePosition::before(begin), until: begin, end })
    }

    async fn next(&mut self) -> Result<Option<Events>, StoreError> {
        loop {
            let Self { store, target, after, until, .. } = *self;
            let found = store.erasure_candidates(target, after, until).await?;
            let Some(last) = found.last() else {
                if self.until >= self.end {
                    return Ok(None);
                }
                self.after = ErasurePosition::before(self.until);
                self.until = (self.until + TimeDelta::days(1)).min(self.end);
                continue;
            };
            self.after = last.at;
            let is_target = |notification: &Option<String>| {
                notification.as_deref().is_none_or(|text| self.target.is_named_in(text))
            };
            let chosen: Vec<_> = found.iter().filter(|it| is_target(&it.notification)).collect();
            if !chosen.is_empty() {
                let owed = chosen.iter().map(|it| u64::try_from(it.owed).unwrap_or_default()).sum();
                return Ok(Some(Events { events: chosen.iter().map(|it| it.at).collect(), owed }));
            }
        }
    }
}
