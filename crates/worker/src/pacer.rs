//! The pace of webhooks whose receiver or owner limits it, whatever worker attempts.
//!
//! `fanfare_core::pace` decides, and the ledger keeps what it decided. A webhook without a hold, a
//! pace or a limit costs nothing here: whether it has one is known with the webhook itself. Of the
//! others an attempt reserves its slot in the ledger first. One whose slot comes soon is waited for;
//! all others are deferred, without an attempt and, while the next slot is known to be far away,
//! without asking the ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::answer::Answer;
use fanfare_core::chain::chain;
use fanfare_core::endpoint::{Cause, SPREAD_EACH};
use fanfare_core::ids::WebhookId;
use fanfare_core::pace::{Feedback, Pace, Turn as Reserved, last_chance, longest_hold};
use fanfare_core::webhook::Webhook;
use tokio::sync::Semaphore;

use crate::context::{Context, chance};
use crate::error::WorkerError;
use crate::gate::Deferred;

/// A slot that comes no later than this is waited for: deferred deliveries come back by the second.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What is still to be done when the wait is over, before the POST can begin at its slot.
const LEAD: Duration = Duration::from_millis(150);

/// How many deliveries of one webhook wait for a slot at a time, so that others keep their part of the
/// concurrency.
const MOST_WAITING: u32 = 32;

/// How many ask the ledger at a time, so that others keep their part of its connections.
const ASKING: usize = 3;

/// The part of the concurrency that all that wait for slots may hold.
const WAITING_PART: u32 = 8;

/// For how long this worker relies on what it has seen itself: until then it has heard of the change
/// to the webhook.
const FRESH: Duration = Duration::from_secs(5);

/// The longest time over which the deliveries that wait for a webhook come back.
const LONGEST_SPREAD: Duration = Duration::from_hours(1);

/// Webhooks remembered; beyond this those of which nothing waits are forgotten.
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

/// What this worker knows of the paces of webhooks.
pub(crate) struct Pacer {
    most_waiting: u32,
    asking: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<WebhookId, Known>,
    waiting: u32,
}

/// What a worker has seen of a pace.
struct Known {
    /// When it was seen.
    seen: Instant,
    /// There is no slot before this time, for this reason.
    not_before: Option<(DateTime<Utc>, Cause)>,
    hold_until: Option<DateTime<Utc>>,
    /// The time between slots.
    interval: Duration,
    /// Whether a success tells anything.
    learns: bool,
    /// Deliveries that wait for their slot.
    waiting: u32,
    /// An estimate of the deliveries that were deferred and have not come back yet.
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
    pub(crate) fn new(concurrency: u32) -> Arc<Self> {
        let most_waiting = (concurrency / WAITING_PART).max(1);
        Arc::new(Self { most_waiting, asking: Semaphore::new(ASKING), state: Mutex::default() })
    }

    /// Asks for a slot of a webhook. `came_back` says that the delivery was deferred before.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        context: &Context,
        webhook: &Webhook,
        came_back: bool,
    ) -> Result<Turn, WorkerError> {
        let now = context.now();
        match self.lock().admit(webhook, now, came_back, self.most_waiting) {
            Admission::Free => return Ok(Turn::Free),
            Admission::Defer(deferred) => return Ok(Turn::Defer(deferred)),
            Admission::Ask => {}
        }
        let slot = Slot(Instant::now());
        let waiting = Waiting { pacer: Arc::clone(self), webhook: webhook.id, slot };
        // Boxed, as what is rare, so that thousands of attempts under way have small futures.
        Box::pin(self.reserve(context, webhook, waiting)).await
    }

    /// Reserves a slot in the ledger.
    async fn reserve(
        &self,
        context: &Context,
        webhook: &Webhook,
        mut waiting: Waiting,
    ) -> Result<Turn, WorkerError> {
        let _asking = self.asking.acquire().await;
        // Those that asked before may have taken all slots that come soon.
        let far = self.lock().entry(webhook.id).far(context.now());
        if let Some(deferred) = far {
            return Ok(Turn::Defer(deferred));
        }
        let store = &context.config.store;
        let take = || {
            store.pace_change(webhook.id, &webhook.uri, |pace| {
                let now = context.now();
                let reserved = pace.take(now, webhook.rate_limit, PATIENCE);
                let next = pace.clone().take(now, webhook.rate_limit, Duration::ZERO);
                (reserved, next, Seen::of(pace, now))
            })
        };
        let taken = context.patiently(take).await?;
        let now = context.now();
        let mut state = self.lock();
        let Some((reserved, next, seen)) = taken else {
            return Ok(Turn::Defer(state.entry(webhook.id).defer(now, Cause::Paced, now)));
        };
        let known = state.see(webhook.id, seen, now);
        known.interval = Duration::ZERO;
        if let Reserved::NotBefore { at, cause, interval } = next {
            (known.not_before, known.interval) = (Some((at, cause)), interval);
        }
        let turn = match reserved {
            Reserved::At(at) => {
                // Nothing has waited for this slot: fewer are deferred than was thought.
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

    /// Whether an attempt must not begin although it was let through, because its webhook is held
    /// since. `since` is when its delivery began.
    pub(crate) fn held(
        &self,
        context: &Context,
        webhook: &Webhook,
        since: DateTime<Utc>,
    ) -> Option<Deferred> {
        let now = context.now();
        let deferred = {
            let mut state = self.lock();
            let seen = state.known.get(&webhook.id).and_then(|known| known.held(now));
            let hold = webhook.pacing.held_until(now).max(seen)?;
            let known = state.entry(webhook.id);
            known.hold_until = Some(hold);
            known.defer(hold, Cause::Held, now)
        };
        self.but_for_deadline(context, webhook.id, deferred, since)
    }

    /// What becomes of a deferral, given when the delivery began: a hold beyond its deadline is
    /// shortened so that one attempt is made before that. `None` when it is time for that attempt.
    pub(crate) fn but_for_deadline(
        &self,
        context: &Context,
        webhook: WebhookId,
        deferred: Deferred,
        since: DateTime<Utc>,
    ) -> Option<Deferred> {
        let now = context.now();
        let state = self.lock();
        let hold = state.known.get(&webhook).and_then(|known| known.hold_until);
        let hold = hold.filter(|_| deferred.cause == Cause::Held);
        drop(state);
        let chance = hold.and_then(|hold| last_chance(hold, since, context.config.policy.deadline));
        match chance {
            None => Some(deferred),
            Some(chance) if chance <= now => None,
            Some(chance) => {
                Some(Deferred { wait: deferred.wait.min(until(chance, now)), ..deferred })
            }
        }
    }

    /// What an answer says about the pace of a webhook; `None` when that changes nothing. What a
    /// receiver asks to wait for counts in this worker at once.
    pub(crate) fn heed(
        &self,
        context: &Context,
        webhook: &Webhook,
        answer: &Answer,
        began: DateTime<Utc>,
    ) -> Option<Feedback> {
        let now = context.now();
        let longest = longest_hold(context.config.policy.deadline);
        let feedback = Feedback::of(answer, began, now, longest);
        if !feedback.matters() && !self.learns(webhook) {
            return None;
        }
        self.hold_at_once(webhook.id, &feedback);
        Some(feedback)
    }

    /// Learns from an answer, with all workers as soon as the ledger has it. The attempt is recorded
    /// whatever becomes of this.
    pub(crate) async fn learn(&self, context: &Context, webhook: &Webhook, feedback: Feedback) {
        let _asking = self.asking.acquire().await;
        let store = &context.config.store;
        let learn = || {
            store.pace_change(webhook.id, &webhook.uri, |pace| {
                pace.learn(&feedback);
                Seen::of(pace, feedback.now)
            })
        };
        match context.patiently(learn).await {
            Ok(Some(seen)) => {
                self.lock().see(webhook.id, seen, context.now());
            }
            // Others learn from it as well, or it is about an address that is no longer used.
            Ok(None) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(webhook.id = %webhook.id, error, "failed to note a webhook's pace");
            }
        }
    }

    /// Whether a success says something about a pace.
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

/// What the local state says of a delivery.
enum Admission {
    Free,
    Ask,
    Defer(Deferred),
}

/// What was read of a pace.
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
        came_back: bool,
        most_waiting: u32,
    ) -> Admission {
        let is_known = self.known.contains_key(&webhook.id);
        if !webhook.is_paced() && !is_known {
            return Admission::Free;
        }
        let all_waiting = self.waiting;
        let known = self.entry(webhook.id);
        if came_back {
            known.deferred = known.deferred.saturating_sub(1);
        }
        if !webhook.is_paced() && known.is_over(now) {
            self.known.remove(&webhook.id);
            return Admission::Free;
        }
        if let Some(hold) = webhook.pacing.held_until(now + PATIENCE) {
            known.hold_until = Some(hold);
            return Admission::Defer(known.defer(hold, Cause::Held, now));
        }
        if let Some(deferred) = known.far(now) {
            return Admission::Defer(deferred);
        }
        if known.waiting >= MOST_WAITING || all_waiting >= most_waiting {
            let soon = now + known.interval.max(PATIENCE);
            return Admission::Defer(known.defer(soon, Cause::Paced, now));
        }
        known.waiting += 1;
        self.waiting += 1;
        Admission::Ask
    }

    /// Notes what the ledger has. A later hold that this worker has just heard of counts on: it is
    /// about to be in the ledger.
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
        self.seen.elapsed() < FRESH
    }

    /// Whether nothing waits, and nothing limits a webhook that has no pace of its own and no limit; or
    /// what was seen is too old to be relied upon.
    fn is_over(&self, now: DateTime<Utc>) -> bool {
        let limits = self.learns || self.hold_until.is_some_and(|until| until > now);
        self.waiting == 0 && !(limits && self.is_fresh())
    }

    /// The receiver asked to wait until then.
    fn hold(&mut self, until: DateTime<Utc>) {
        let until = Some(until).max(self.hold_until.filter(|_| self.is_fresh()));
        (self.seen, self.hold_until) = (Instant::now(), until);
        self.not_before = until.map(|until| (until, Cause::Held));
    }

    /// Defers a delivery if the next slot is known to be far away.
    fn far(&mut self, now: DateTime<Utc>) -> Option<Deferred> {
        let far = self.not_before.filter(|(at, _)| self.is_fresh() && *at > now + PATIENCE);
        far.map(|(at, cause)| self.defer(at, cause, now))
    }

    fn held(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.hold_until.filter(|until| self.is_fresh() && *until > now)
    }

    /// Deferred deliveries come back four times as often as there are slots, so that none is left unused
    /// when the slots come sooner than was thought.
    fn defer(&mut self, at: DateTime<Utc>, cause: Cause, now: DateTime<Utc>) -> Deferred {
        let each = (self.interval / 4).max(SPREAD_EACH);
        let spread = each.saturating_mul(self.deferred).min(LONGEST_SPREAD);
        self.deferred = self.deferred.saturating_add(1);
        Deferred { cause, wait: until(at, now) + spread.mul_f64(chance()) }
    }
}

fn until(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (at - now).to_std().unwrap_or_default()
}
