//! How fast a receiver wants its notifications: when the next attempt may go, and what its answers
//! say about that.
//!
//! A receiver that is sent too much says so: 429, 503 with `Retry-After`, or `RateLimit` headers. Then
//! the webhook is *held*: no attempt goes to it before the time that was asked for. What was refused
//! also teaches an *interval* between attempts, which is approached from the slow side: it shrinks
//! with each success, up to the interval that was refused; it stays just above that for a quiet
//! time, and is then tried again. So a steady limit costs few refusals, and a limit that is lifted
//! is forgotten within minutes.
//!
//! The state of a webhook is one value that all workers share through the ledger, and so are its
//! slots: [`Pace::take`] reserves one. Its owner's limit counts there too, by the generic cell rate
//! algorithm (ITU-T I.371).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::endpoint::Cause;
use crate::outcome::retry_after;

/// The interval that is tried first after a refusal: what was asked for, between these.
const FIRST: (f64, f64) = (0.04, 2.0);
/// A success takes this part of the interval, while no interval is known to be too short.
const CLIMB: f64 = 0.75;
/// Near the interval that was refused, it takes this part.
const APPROACH: f64 = 0.96;
/// Beyond this part of the refused interval, the limit has been raised.
const RAISED: f64 = 0.7;
/// Below this a receiver has no pace any more: fifty a second are what its limiter gives it anyway.
const UNPACED: f64 = 0.02;
/// The longest interval: something is always tried.
const LONGEST: f64 = 600.0;
/// For so long nothing shorter is tried after a refusal; twice as long after each at the same pace.
const QUIET: (f64, f64) = (20.0, 180.0);
/// The hold after a 429 that asks for none; twice as long after each without a success.
const PLAIN_HOLD: (f64, f64) = (1.0, 60.0);
/// After so many runs with next to no success the interval is measured instead of bisected.
const POOR_RUNS: u32 = 2;
/// A run with fewer successes is poor.
const POOR: u32 = 4;
/// The interval after the first hint of an overloaded gateway, and the longest for that reason.
const HINTED: (f64, f64) = (0.1, 5.0);
/// How many seconds a pace counts after the last hint of an overloaded gateway, and at least after the
/// last refusal, if nothing says so again.
const STALE: (f64, f64) = (60.0, 600.0);
/// No hold is longer, whatever is asked for.
const LONGEST_HOLD: Duration = Duration::from_hours(24 * 365);

/// What is known of how fast a webhook's receiver and owner want its notifications.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// No attempt goes before this time: the receiver asked for that.
    #[serde(skip)]
    pub hold_until: Option<DateTime<Utc>>,
    /// The seconds between attempts, as far as learned from refusals; `None` without such a pace.
    #[serde(skip)]
    pub interval: Option<f64>,
    /// When the next slot at that interval is.
    next_slot: Option<DateTime<Utc>>,
    /// When the next attempt is due at the owner's rate (the "theoretical arrival time").
    owner_next: Option<DateTime<Utc>>,
    /// The shortest interval that went well lately, and the one that was refused.
    good: Option<f64>,
    refused: Option<f64>,
    /// Nothing shorter is tried before `quiet_until`; `quiet` is how long that is, in seconds.
    quiet: f64,
    quiet_until: Option<DateTime<Utc>>,
    /// When the successes after the last refusal began, how many they are, and when the attempt of
    /// the newest began.
    since: Option<DateTime<Utc>>,
    successes: u32,
    newest: Option<DateTime<Utc>>,
    /// Refusals without a success in between, and runs that ended with next to no success.
    refusals: u32,
    poor_runs: u32,
    /// When the interval was last made longer.
    slowed_at: Option<DateTime<Utc>>,
}

/// What an answer says about the pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The request was taken.
    Accepted,
    /// There are too many requests; how long the receiver asks to wait, if it says so.
    Refused(Option<Duration>),
    /// A gateway had no working server behind it, which may be for too many requests.
    Overloaded,
    /// Nothing.
    Silent,
}

/// An answer, as far as it is about the pace.
#[derive(Debug, Clone, Copy)]
pub struct Feedback {
    /// When the attempt began.
    pub began: DateTime<Utc>,
    /// When its answer came.
    pub now: DateTime<Utc>,
    /// What the answer says.
    pub signal: Signal,
    /// For how long the receiver takes nothing more, by its `RateLimit` headers.
    pub exhausted: Option<Duration>,
}

/// When an attempt may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// A slot is reserved at this time.
    At(DateTime<Utc>),
    /// No slot is reserved, since the next one is at this time, which is too far away.
    NotBefore {
        /// The time.
        at: DateTime<Utc>,
        /// Who wants it so.
        cause: Cause,
        /// The time between two slots.
        interval: Duration,
    },
}

impl Feedback {
    /// What an answer says. No wait counts for longer than `longest`.
    #[must_use]
    pub fn of(
        answer: &Answer,
        began: DateTime<Utc>,
        now: DateTime<Utc>,
        longest: Duration,
    ) -> Self {
        let longest = longest.min(LONGEST_HOLD);
        let asked = retry_after(answer, now).map(|asked| asked.min(longest));
        let Answer::Response { status, exhausted, .. } = answer else {
            return Self { began, now, signal: Signal::Silent, exhausted: None };
        };
        let exhausted = exhausted.map(|wait| wait.min(longest));
        let signal = match status {
            429 => Signal::Refused(asked.or(exhausted)),
            503 if asked.is_some() => Signal::Refused(asked),
            502 | 504 => Signal::Overloaded,
            200..=499 => Signal::Accepted,
            _ => Signal::Silent,
        };
        Self { began, now, signal, exhausted }
    }

    /// Whether it changes something about a webhook without a pace.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.exhausted.is_some() || matches!(self.signal, Signal::Refused(_) | Signal::Overloaded)
    }
}

impl Pace {
    /// Reserves the next slot, if it is no later than `patience` from now. `limit` is the owner's,
    /// in requests a minute.
    pub fn take(&mut self, now: DateTime<Utc>, limit: Option<u32>, patience: Duration) -> Turn {
        let by_owner = limit.map(|limit| Duration::from_mins(1) / limit.max(1));
        let (mut at, mut cause, mut interval) = (now, Cause::Paced, Duration::ZERO);
        let learned = self.interval.map(seconds);
        self.forget_far_slots(now, patience, [learned, by_owner]);
        let owner_at = by_owner.and_then(|every| self.owner_slot(every));
        let wishes = [
            (self.next_slot.filter(|_| learned.is_some()), Cause::Paced, learned),
            (owner_at, Cause::RateLimit, by_owner),
            (self.hold_until, Cause::Held, learned.or(by_owner)),
        ];
        for (wish, why, every) in wishes {
            if let Some(wish) = wish.filter(|wish| *wish > at) {
                (at, cause) = (wish, why);
            }
            interval = interval.max(every.unwrap_or_default());
        }
        if at > later(now, patience) {
            return Turn::NotBefore { at, cause, interval };
        }
        self.next_slot = learned.map(|every| later(at, every));
        self.owner_next =
            by_owner.map(|every| later(self.owner_next.map_or(at, |next| next.max(at)), every));
        Turn::At(at)
    }

    /// Forgets slots that are farther away than any that is reserved at the intervals of now: they are
    /// left from a longer interval or a lower limit, or the clock was set back.
    fn forget_far_slots(
        &mut self,
        now: DateTime<Utc>,
        patience: Duration,
        [learned, by_owner]: [Option<Duration>; 2],
    ) {
        let latest =
            |every: Option<Duration>| later(later(now, patience), every.unwrap_or_default());
        let latest_learned = latest(learned).max(self.hold_until.unwrap_or(now));
        self.next_slot = self.next_slot.filter(|slot| *slot <= latest_learned);
        self.owner_next = self.owner_next.filter(|next| {
            by_owner.is_none_or(|every| earlier(*next, burst(every)) <= latest(by_owner))
        });
    }

    /// When the owner's limit allows the next attempt: a second's worth may go at once.
    fn owner_slot(&self, every: Duration) -> Option<DateTime<Utc>> {
        self.owner_next.map(|next| earlier(next, burst(every)))
    }

    /// Learns from an answer.
    pub fn learn(&mut self, feedback: &Feedback) {
        let Feedback { began, now, signal, exhausted } = *feedback;
        // It began before a refusal was known, which speaks for it as well.
        let is_late = self.hold_until.is_some_and(|until| began < until);
        match signal {
            Signal::Refused(asked) if is_late => self.hold(asked.map(|asked| later(now, asked))),
            Signal::Refused(asked) => self.refuse(now, asked),
            Signal::Overloaded if !is_late => self.slow_down(began, now),
            Signal::Accepted if !is_late => self.accept(began),
            _ => {}
        }
        self.hold(exhausted.map(|wait| later(now, wait)));
    }

    /// Whether there is nothing to remember: no hold, no pace, and no use of the owner's limit.
    #[must_use]
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        let past = |time: Option<DateTime<Utc>>| time.is_none_or(|time| time <= now);
        self.interval.is_none() && past(self.hold_until) && past(self.owner_next)
    }

    /// Until when the receiver wants nothing; `None` when that is over.
    #[must_use]
    pub fn held_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.hold_until.filter(|until| *until > now)
    }

    fn hold(&mut self, until: Option<DateTime<Utc>>) {
        self.hold_until = self.hold_until.max(until);
    }

    fn refuse(&mut self, now: DateTime<Utc>, asked: Option<Duration>) {
        self.refusals = self.refusals.saturating_add(1);
        let again = 2f64.powi(self.refusals.min(16).cast_signed() - 1);
        let plain = self.interval.unwrap_or_default().max(PLAIN_HOLD.0) * again;
        let wait = asked.unwrap_or_else(|| seconds(plain.min(PLAIN_HOLD.1)));
        self.hold(Some(later(now, wait)));
        match self.interval {
            None => {
                let first = wait.as_secs_f64().clamp(FIRST.0, FIRST.1);
                *self = Self {
                    interval: Some(first),
                    refusals: self.refusals,
                    since: Some(now),
                    quiet: QUIET.0,
                    hold_until: self.hold_until,
                    owner_next: self.owner_next,
                    ..Self::default()
                };
            }
            // The first refusal after a success says that the interval is too short; another one
            // that the hold was.
            Some(interval) if self.refusals == 1 => self.refuse_interval(interval),
            Some(_) => {}
        }
        (self.newest, self.slowed_at) = (None, Some(now));
        self.next_slot = self.next_slot.max(self.hold_until);
    }

    fn refuse_interval(&mut self, interval: f64) {
        let is_known = self.refused.is_some_and(|at| (at / 1.25..=at * 1.25).contains(&interval));
        self.quiet = if is_known { (self.quiet * 2.0).min(QUIET.1) } else { QUIET.0 };
        self.refused = Some(interval);
        self.poor_runs = if self.successes < POOR { self.poor_runs + 1 } else { 0 };
        self.good = self.good.filter(|_| self.poor_runs <= POOR_RUNS);
        let next = if let Some(good) = self.good {
            let good = good.clamp(interval * 1.05, interval * 2.0);
            self.good = Some(good);
            // Between what was refused and what went well, unless they are close.
            if good / interval > 1.15 { (interval * good).sqrt() } else { good }
        } else {
            self.measured(self.hold_until).clamp(interval * 1.3, interval * 4.0)
        };
        self.interval = Some(next.min(LONGEST));
    }

    /// What one success took on average since the last refusal but this one.
    fn measured(&self, end: Option<DateTime<Utc>>) -> f64 {
        let time = self.since.zip(end).map(|(since, end)| between(since, end));
        time.unwrap_or_default() / f64::from(self.successes.max(1))
    }

    fn slow_down(&mut self, began: DateTime<Utc>, now: DateTime<Utc>) {
        // What began before the pace was slowed down says nothing about the new one.
        if self.slowed_at.is_some_and(|at| began < at) {
            return;
        }
        let slower = match self.interval {
            None => HINTED.0,
            Some(interval) => interval.max((interval * 1.5).min(HINTED.1)),
        };
        (self.interval, self.slowed_at) = (Some(slower), Some(now));
    }

    fn accept(&mut self, began: DateTime<Utc>) {
        let Some(mut interval) = self.interval else { return };
        let slowed = self.slowed_at.max(self.hold_until);
        if slowed.is_some_and(|at| began > later(at, self.stale_after(interval))) {
            return self.unpace();
        }
        if self.refusals > 0 {
            interval = self.resume(interval, began);
        }
        self.successes = self.successes.saturating_add(1);
        let spacing = self.newest.map(|newest| between(newest, began));
        self.newest = self.newest.max(Some(began));
        self.interval = Some(interval);
        // A pace that is not used says nothing about how much the receiver takes.
        if spacing.is_none_or(|spacing| spacing > interval * 1.25 + 0.05) {
            return;
        }
        self.good = Some(interval);
        if self.refused.is_some() && self.quiet_until.is_some_and(|until| began < until) {
            return;
        }
        let is_near = self.refused.is_some_and(|refused| interval > refused * RAISED);
        let faster = interval * if is_near { APPROACH } else { CLIMB };
        self.interval = Some(faster).filter(|faster| *faster >= UNPACED);
        if self.interval.is_none() {
            self.unpace();
        }
    }

    /// After how long without a refusal a pace is out of date, although it was never used so much that
    /// it could become faster.
    fn stale_after(&self, interval: f64) -> Duration {
        match self.refused {
            None if self.refusals == 0 && interval <= HINTED.1 => seconds(STALE.0),
            _ => seconds(STALE.1.max(10.0 * self.quiet).max(30.0 * interval)),
        }
    }

    /// Forgets the pace.
    fn unpace(&mut self) {
        let (hold_until, owner_next) = (self.hold_until, self.owner_next);
        *self = Self { hold_until, owner_next, ..Self::default() };
    }

    /// The first success after refusals: when there were several, the time that has passed says
    /// what the receiver takes.
    fn resume(&mut self, interval: f64, began: DateTime<Utc>) -> f64 {
        let mut resumed = interval;
        if self.refusals > 1 {
            self.good = self.good.filter(|_| self.refusals == 2);
            let slower = if self.good.is_some() {
                interval * 1.05
            } else {
                self.measured(Some(began)).clamp(interval, interval * 4.0)
            };
            resumed = slower.min(LONGEST);
            self.refused = Some(resumed / 1.05);
        }
        let quiet = self.quiet.max(8.0 * resumed);
        self.quiet_until = self.refused.map(|_| later(began, seconds(quiet)));
        (self.refusals, self.successes, self.since) = (0, 0, Some(began));
        resumed
    }
}

/// When an attempt may go although its webhook is held: one that would otherwise come after the
/// delivery's deadline goes once in the last eighth of the time before that. `None` when the hold ends
/// early enough.
#[must_use]
pub fn last_chance(
    hold_until: DateTime<Utc>,
    since: DateTime<Utc>,
    deadline: Duration,
) -> Option<DateTime<Utc>> {
    let end = later(since, deadline);
    (hold_until > end).then(|| earlier(end, deadline / 8))
}

/// The longest hold that counts: then a delivery that has just begun still gets its last attempt.
#[must_use]
pub fn longest_hold(deadline: Duration) -> Duration {
    deadline.saturating_sub(deadline / 8).min(LONGEST_HOLD)
}

/// How far ahead of its rate an owner's limit lets attempts go.
fn burst(every: Duration) -> Duration {
    Duration::from_secs(1).saturating_sub(every)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).as_seconds_f64().max(0.0)
}

fn later(time: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    time.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn earlier(time: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    time.checked_sub_signed(by).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
