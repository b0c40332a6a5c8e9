//! The pace of webhooks that their receiver or owner limits, over all workers.
//!
//! `fanfare_core::pace` decides, and the ledger keeps the decisions. A webhook without a hold, a pace
//! or a limit costs nothing here, because the webhook itself shows whether it has one. An attempt for
//! any other webhook reserves a slot in the ledger first. It waits for a slot that comes soon, and is
//! deferred otherwise. While the next slot is known to be far away, the ledger is not asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::answer::Answer;
use fanfare_core::chain::chain;
use fanfare_core::delivery::Deferred;
use fanfare_core::endpoint::{Cause, SPREAD_EACH};
use fanfare_core::ids::WebhookId;
use fanfare_core::pace::{Feedback, Pace, Turn as Reserved, last_chance, longest_hold};
use fanfare_core::webhook::Webhook;
use tokio::sync::Semaphore;

use crate::database::Database;
use crate::endpoint_limiter::Arrival;
use crate::error::WorkerError;

/// The longest wait for a slot. Deferrals have a resolution of a second.
const MAX_SLOT_WAIT: Duration = Duration::from_millis(1500);

/// The time that an attempt needs between the end of its wait and its POST.
const LEAD: Duration = Duration::from_millis(150);

/// The most deliveries of one webhook that wait for a slot at a time, so that others keep their part
/// of the concurrency.
const MAX_WAITING: u32 = 32;

/// The most statements of the pacer at a time, so that others keep their part of the connections.
const MAX_STATEMENTS: usize = 3;

/// The part of the concurrency that deliveries which wait for slots may use: one in this number.
const WAITING_PART: u32 = 8;

/// How long this worker relies on its own view of a pace. Within this time it is notified of the change
/// to the webhook.
const RELIANCE: Duration = Duration::from_secs(5);

/// The longest time over which the deferred deliveries of a webhook are spread.
const LONGEST_SPREAD: Duration = Duration::from_hours(1);

/// The most webhooks that are remembered. Beyond this number, webhooks without a waiting delivery are
/// forgotten.
const MOST: usize = 10_000;

/// Whether a delivery may go.
pub(crate) enum Turn {
    /// Nothing limits its webhook.
    Free,
    /// It has a slot, which comes soon.
    Soon(Waiting),
    /// It may not go now.
    Defer(Deferred),
}

/// A reserved slot: when the POST may begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot(Instant);

impl Slot {
    /// Waits until the slot has come.
    pub(crate) async fn wait(self) {
        tokio::time::sleep_until(self.0.into()).await;
    }
}

/// This worker's view of the paces of webhooks.
pub(crate) struct Pacer {
    database: Database,
    /// The age of a series after which there is no further attempt.
    deadline: Duration,
    max_waiting: u32,
    statements: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<WebhookId, Known>,
    waiting: u32,
}

/// A worker's view of a pace.
struct Known {
    /// When it was seen.
    seen: Instant,
    /// There is no slot before this time, for this reason.
    not_before: Option<(DateTime<Utc>, Cause)>,
    hold_until: Option<DateTime<Utc>>,
    /// The time between slots.
    interval: Duration,
    /// Whether the pace learns from a success.
    learns: bool,
    /// Deliveries that wait for their slot.
    waiting: u32,
    /// An estimate of the number of deliveries that were deferred and have not come back yet.
    deferred: u32,
}

/// A delivery that waits for its slot.
pub(crate) struct Waiting {
    pacer: Arc<Pacer>,
    webhook: WebhookId,
    slot: Slot,
}

impl Waiting {
    /// Waits until the slot is near.
    pub(crate) async fn wait(self) -> Slot {
        let near = self.slot.0.checked_sub(LEAD).unwrap_or(self.slot.0);
        tokio::time::sleep_until(near.into()).await;
        self.slot
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.pacer.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if let Some(known) = state.known.get_mut(&self.webhook) {
            known.waiting = known.waiting.saturating_sub(1);
        }
    }
}

impl Pacer {
    pub(crate) fn new(database: Database, concurrency: u32, deadline: Duration) -> Arc<Self> {
        let max_waiting = (concurrency / WAITING_PART).max(1);
        Arc::new(Self {
            database,
            deadline,
            max_waiting,
            statements: Semaphore::new(MAX_STATEMENTS),
            state: Mutex::default(),
        })
    }

    /// Asks for a slot of a webhook.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        webhook: &Webhook,
        arrival: Arrival,
    ) -> Result<Turn, WorkerError> {
        let now = self.database.now();
        match self.lock().admit(webhook, now, arrival, self.max_waiting) {
            Admission::Free => return Ok(Turn::Free),
            Admission::Defer(deferred) => return Ok(Turn::Defer(deferred)),
            Admission::Reserve => {}
        }
        let slot = Slot(Instant::now());
        let waiting = Waiting { pacer: Arc::clone(self), webhook: webhook.id, slot };
        // Boxed because it is rare: the futures of thousands of attempts stay small.
        Box::pin(self.reserve(webhook, waiting)).await
    }

    /// Reserves a slot in the ledger.
    async fn reserve(&self, webhook: &Webhook, mut waiting: Waiting) -> Result<Turn, WorkerError> {
        let _permit = self.statements.acquire().await;
        // Earlier statements may have reserved all slots that come soon.
        let far = self.lock().entry(webhook.id).defer_if_far(self.database.now());
        if let Some(deferred) = far {
            return Ok(Turn::Defer(deferred));
        }
        let store = self.database.store();
        let take = || {
            store.pace_change(webhook.id, &webhook.uri, |pace| {
                let now = self.database.now();
                let reserved = pace.take(now, webhook.rate_limit, MAX_SLOT_WAIT);
                let next = pace.clone().take(now, webhook.rate_limit, Duration::ZERO);
                (reserved, next, Seen::of(pace, now))
            })
        };
        let changed = self.database.retry_until_available(take).await?;
        let now = self.database.now();
        let mut state = self.lock();
        let Some((reserved, next, seen)) = changed else {
            return Ok(Turn::Defer(state.entry(webhook.id).defer(now, Cause::Paced, now)));
        };
        let known = state.see(webhook.id, seen, now);
        known.interval = Duration::ZERO;
        if let Reserved::NotBefore { at, cause, interval } = next {
            (known.not_before, known.interval) = (Some((at, cause)), interval);
        }
        let turn = match reserved {
            Reserved::At(at) => {
                // No delivery has waited for this slot, so the estimate is too high.
                if at <= now {
                    known.deferred /= 2;
                }
                waiting.slot = Slot(Instant::now() + until(at, now));
                Turn::Soon(waiting)
            }
            Reserved::NotBefore { at, cause, .. } => Turn::Defer(known.defer(at, cause, now)),
        };
        drop(state);
        Ok(turn)
    }

    /// The deferral of an attempt that was admitted before its webhook was held; `None` if it may begin.
    /// `started_at` is when its series began.
    pub(crate) fn held(&self, webhook: &Webhook, started_at: DateTime<Utc>) -> Option<Deferred> {
        let now = self.database.now();
        let deferred = {
            let mut state = self.lock();
            let seen = state.known.get(&webhook.id).and_then(|known| known.held(now));
            let hold = webhook.pacing.held_until(now).max(seen)?;
            let known = state.entry(webhook.id);
            known.hold_until = Some(hold);
            known.defer(hold, Cause::Held, now)
        };
        self.but_for_deadline(webhook.id, deferred, started_at)
    }

    /// Shortens a deferral by a hold that ends after the delivery's deadline, so that one more attempt
    /// is made before the deadline. `None` when it is time for that attempt. `started_at` is when the
    /// series began.
    pub(crate) fn but_for_deadline(
        &self,
        webhook: WebhookId,
        deferred: Deferred,
        started_at: DateTime<Utc>,
    ) -> Option<Deferred> {
        let now = self.database.now();
        let state = self.lock();
        let hold = state.known.get(&webhook).and_then(|known| known.hold_until);
        let hold = hold.filter(|_| deferred.cause == Cause::Held);
        drop(state);
        let chance = hold.and_then(|hold| last_chance(hold, started_at, self.deadline));
        match chance {
            None => Some(deferred),
            Some(chance) if chance <= now => None,
            Some(chance) => {
                Some(Deferred { wait: deferred.wait.min(until(chance, now)), ..deferred })
            }
        }
    }

    /// What an answer says about the pace of a webhook; `None` when it changes nothing. A hold begins in
    /// this worker at once.
    pub(crate) fn feedback(
        &self,
        webhook: &Webhook,
        answer: &Answer,
        began: DateTime<Utc>,
    ) -> Option<Feedback> {
        let now = self.database.now();
        let longest = longest_hold(self.deadline);
        let feedback = Feedback::of(answer, began, now, longest);
        if !feedback.matters() && !self.learns(webhook) {
            return None;
        }
        self.hold_at_once(webhook.id, &feedback);
        Some(feedback)
    }

    /// Learns from an answer. All workers learn from it as soon as the ledger has it. The attempt is
    /// recorded even if this fails.
    pub(crate) async fn learn(&self, webhook: &Webhook, feedback: Feedback) {
        let _permit = self.statements.acquire().await;
        let store = self.database.store();
        let learn = || {
            store.pace_change(webhook.id, &webhook.uri, |pace| {
                pace.learn(&feedback);
                Seen::of(pace, feedback.now)
            })
        };
        match self.database.retry_until_available(learn).await {
            Ok(Some(seen)) => {
                self.lock().see(webhook.id, seen, self.database.now());
            }
            // Other workers have learnt the same, or the webhook's address has changed.
            Ok(None) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(webhook.id = %webhook.id, error, "failed to store a webhook's pace");
            }
        }
    }

    /// Whether a pace learns from a success.
    fn learns(&self, webhook: &Webhook) -> bool {
        webhook.pacing.interval.is_some()
            || self.lock().known.get(&webhook.id).is_some_and(|known| known.learns)
    }

    /// Holds a webhook in this worker, before the ledger has it.
    fn hold_at_once(&self, webhook: WebhookId, feedback: &Feedback) {
        let mut pace = Pace::default();
        pace.learn(feedback);
        if let Some(until) = pace.held_until(feedback.now) {
            self.lock().entry(webhook).hold(until);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decision about a delivery from the local state.
enum Admission {
    Free,
    Reserve,
    Defer(Deferred),
}

/// What was read about a pace.
#[derive(Clone, Copy)]
struct Seen {
    hold_until: Option<DateTime<Utc>>,
    learns: bool,
}

impl Seen {
    fn of(pace: &Pace, now: DateTime<Utc>) -> Self {
        Self { hold_until: pace.held_until(now), learns: pace.interval.is_some() }
    }
}

impl State {
    fn admit(
        &mut self,
        webhook: &Webhook,
        now: DateTime<Utc>,
        arrival: Arrival,
        max_waiting: u32,
    ) -> Admission {
        let is_known = self.known.contains_key(&webhook.id);
        if !webhook.is_paced() && !is_known {
            return Admission::Free;
        }
        let all_waiting = self.waiting;
        let known = self.entry(webhook.id);
        if arrival == Arrival::Returning {
            known.deferred = known.deferred.saturating_sub(1);
        }
        if !webhook.is_paced() && known.is_over(now) {
            self.known.remove(&webhook.id);
            return Admission::Free;
        }
        if let Some(hold) = webhook.pacing.held_until(now + MAX_SLOT_WAIT) {
            known.hold_until = Some(hold);
            return Admission::Defer(known.defer(hold, Cause::Held, now));
        }
        if let Some(deferred) = known.defer_if_far(now) {
            return Admission::Defer(deferred);
        }
        if known.waiting >= MAX_WAITING || all_waiting >= max_waiting {
            let soon = now + known.interval.max(MAX_SLOT_WAIT);
            return Admission::Defer(known.defer(soon, Cause::Paced, now));
        }
        known.waiting += 1;
        self.waiting += 1;
        Admission::Reserve
    }

    /// Takes over the ledger's view. A later hold that this worker has just received stays, because it
    /// is about to be in the ledger.
    fn see(&mut self, webhook: WebhookId, seen: Seen, now: DateTime<Utc>) -> &mut Known {
        let known = self.entry(webhook);
        known.hold_until = seen.hold_until.max(known.held(now));
        (known.seen, known.learns) = (Instant::now(), seen.learns);
        known.not_before = known.hold_until.map(|until| (until, Cause::Held));
        known
    }

    fn entry(&mut self, webhook: WebhookId) -> &mut Known {
        if self.known.len() >= MOST && self.known.len() == self.known.capacity() {
            self.known.retain(|_, known| known.waiting > 0 || known.is_fresh());
        }
        self.known.entry(webhook).or_insert_with(|| Known {
            seen: Instant::now(),
            not_before: None,
            hold_until: None,
            interval: Duration::ZERO,
            learns: false,
            waiting: 0,
            deferred: 0,
        })
    }
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.seen.elapsed() < RELIANCE
    }

    /// Whether this entry can be removed: no delivery waits, and nothing limits the webhook or the view
    /// is too old to rely on.
    fn is_over(&self, now: DateTime<Utc>) -> bool {
        let limits = self.learns || self.hold_until.is_some_and(|until| until > now);
        self.waiting == 0 && !(limits && self.is_fresh())
    }

    /// Holds the webhook until this time.
    fn hold(&mut self, until: DateTime<Utc>) {
        let until = Some(until).max(self.hold_until.filter(|_| self.is_fresh()));
        (self.seen, self.hold_until) = (Instant::now(), until);
        self.not_before = until.map(|until| (until, Cause::Held));
    }

    /// Defers a delivery if the next slot is known to be far away.
    fn defer_if_far(&mut self, now: DateTime<Utc>) -> Option<Deferred> {
        let far = self.not_before.filter(|(at, _)| self.is_fresh() && *at > now + MAX_SLOT_WAIT);
        far.map(|(at, cause)| self.defer(at, cause, now))
    }

    fn held(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.hold_until.filter(|until| self.is_fresh() && *until > now)
    }

    /// Defers a delivery. Deferred deliveries come back four times as often as there are slots, so that
    /// no slot is unused when the slots come sooner than expected.
    fn defer(&mut self, at: DateTime<Utc>, cause: Cause, now: DateTime<Utc>) -> Deferred {
        let each = (self.interval / 4).max(SPREAD_EACH);
        let spread = each.saturating_mul(self.deferred).min(LONGEST_SPREAD);
        self.deferred = self.deferred.saturating_add(1);
        Deferred { cause, wait: until(at, now) + spread.mul_f64(fastrand::f64()) }
    }
}

fn until(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (at - now).to_std().unwrap_or_default()
}
