//! The pace of a webhook: when the next attempt may begin, and what the answers teach about that.
//!
//! A receiver that gets too many requests answers 429, 503 with `Retry-After`, or sends `RateLimit`
//! headers. Then the webhook is *held*: no attempt begins before the time that the receiver asked
//! for. Refusals also teach an *interval* between attempts. The interval begins long and shrinks
//! with each success, until it is close to the interval that was refused last. It stays there for a
//! quiet time; then shorter intervals are tried again. So a steady limit causes few refusals, and a
//! limit that is lifted is forgotten within minutes.
//!
//! The state of a webhook is one value, which all workers share through the ledger. [`Pace::take`]
//! reserves a slot in it. The owner's limit is part of it too, by the generic cell rate algorithm
//! (ITU-T I.371).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::endpoint::Cause;
use crate::outcome::retry_after;

/// The shortest and the longest first interval after a refusal, in seconds. Within these bounds it
/// is the wait that the receiver asked for.
const FIRST: (f64, f64) = (0.04, 2.0);
/// The factor by which a success shortens the interval while no refused interval is near.
const CLIMB: f64 = 0.75;
/// The factor by which a success shortens the interval near the refused one.
const APPROACH: f64 = 0.96;
/// If the interval is below this part of the refused one, the receiver has raised its limit.
const RAISED: f64 = 0.7;
/// Below this interval, in seconds, a webhook has no pace any more: the endpoint's limiter allows
/// no more than fifty attempts a second anyway.
const UNPACED: f64 = 0.02;
/// The longest interval, in seconds, so that attempts never cease.
const LONGEST: f64 = 600.0;
/// The quiet time after a refusal, in seconds, during which no shorter interval is tried: the first
/// one, and the longest. It doubles with each refusal at about the same interval.
const QUIET: (f64, f64) = (20.0, 180.0);
/// The hold after a 429 without `Retry-After`, in seconds: the first one, and the longest. It
/// doubles with each refusal without a success in between.
const PLAIN_HOLD: (f64, f64) = (1.0, 60.0);
/// After more than this many poor runs the interval is measured instead of bisected.
const POOR_RUNS: u32 = 2;
/// A run with fewer successes than this is poor.
const POOR: u32 = 4;
/// The interval after the first sign of an overloaded gateway, and the longest for that reason, in
/// seconds.
const HINTED: (f64, f64) = (0.1, 5.0);
/// How long an interval is valid without another such answer, in seconds: after the last sign of an
/// overloaded gateway, and at least after the last refusal.
const STALE: (f64, f64) = (60.0, 600.0);
/// The longest hold, whatever the receiver asks for.
const LONGEST_HOLD: Duration = Duration::from_hours(24 * 365);

/// The pace of a webhook: the limits that its receiver and its owner set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// The time before which no attempt begins, because the receiver asked for that.
    #[serde(skip)]
    pub hold_until: Option<DateTime<Utc>>,
    /// The seconds between attempts, as learned from refusals; `None` if there is no such interval.
    #[serde(skip)]
    pub interval: Option<f64>,
    /// The next slot at that interval.
    next_slot: Option<DateTime<Utc>>,
    /// When the next attempt is due at the owner's rate (the "theoretical arrival time").
    owner_next: Option<DateTime<Utc>>,
    /// The shortest interval that succeeded lately, and the one that was refused.
    good: Option<f64>,
    refused: Option<f64>,
    /// No shorter interval is tried before `quiet_until`; `quiet` is the length of that time, in
    /// seconds.
    quiet: f64,
    quiet_until: Option<DateTime<Utc>>,
    /// The run of successes since the last refusal: when it began, how many there are, and when the
    /// attempt of the newest began.
    since: Option<DateTime<Utc>>,
    successes: u32,
    newest: Option<DateTime<Utc>>,
    /// Refusals without a success in between, and consecutive poor runs.
    refusals: u32,
    poor_runs: u32,
    /// When the interval was last made longer.
    slowed_at: Option<DateTime<Utc>>,
}

/// The information in an answer about the pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The receiver accepted the request, or refused it for a reason other than its rate.
    Accepted,
    /// The receiver gets too many requests. The wait is what it asks for, if it does.
    Refused(Option<Duration>),
    /// A gateway has no working server behind it. The cause may be too many requests.
    Overloaded,
    /// The answer says nothing about the pace.
    Silent,
}

/// The feedback of an answer about the pace.
#[derive(Debug, Clone, Copy)]
pub struct Feedback {
    /// When the attempt began.
    pub began: DateTime<Utc>,
    /// When its answer arrived.
    pub now: DateTime<Utc>,
    pub signal: Signal,
    /// How long the receiver accepts no further request, by its `RateLimit` headers.
    pub exhausted: Option<Duration>,
}

/// When an attempt may begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// A slot is reserved at this time.
    At(DateTime<Utc>),
    /// No slot is reserved, because the next one is too far in the future.
    NotBefore {
        /// The time of the next slot.
        at: DateTime<Utc>,
        /// The limit that is the latest.
        cause: Cause,
        /// The time between two slots.
        interval: Duration,
    },
}

impl Feedback {
    /// The feedback of an answer. Waits are limited to `longest`.
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

    /// Whether the feedback has an effect on a webhook without a pace.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.exhausted.is_some() || matches!(self.signal, Signal::Refused(_) | Signal::Overloaded)
    }
}

impl Pace {
    /// Reserves the next slot, if it is no later than `longest_wait` from now. `limit` is the
    /// owner's, in requests a minute.
    pub fn take(&mut self, now: DateTime<Utc>, limit: Option<u32>, longest_wait: Duration) -> Turn {
        let by_owner = limit.map(|limit| Duration::from_mins(1) / limit.max(1));
        let (mut at, mut cause, mut interval) = (now, Cause::Paced, Duration::ZERO);
        let learned = self.interval.map(seconds);
        self.forget_far_slots(now, longest_wait, [learned, by_owner]);
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
        if at > later(now, longest_wait) {
            return Turn::NotBefore { at, cause, interval };
        }
        self.next_slot = learned.map(|every| later(at, every));
        self.owner_next =
            by_owner.map(|every| later(self.owner_next.map_or(at, |next| next.max(at)), every));
        Turn::At(at)
    }

    /// Forgets slots that are later than any slot that the current intervals could reserve. They
    /// are left from a longer interval or a lower limit, or the clock was set back.
    fn forget_far_slots(
        &mut self,
        now: DateTime<Utc>,
        longest_wait: Duration,
        [learned, by_owner]: [Option<Duration>; 2],
    ) {
        let latest =
            |every: Option<Duration>| later(later(now, longest_wait), every.unwrap_or_default());
        let latest_learned = latest(learned).max(self.hold_until.unwrap_or(now));
        self.next_slot = self.next_slot.filter(|slot| *slot <= latest_learned);
        self.owner_next = self.owner_next.filter(|next| {
            by_owner.is_none_or(|every| earlier(*next, burst(every)) <= latest(by_owner))
        });
    }

    /// When the owner's limit allows the next attempt: the attempts of one second may begin at
    /// once.
    fn owner_slot(&self, every: Duration) -> Option<DateTime<Utc>> {
        self.owner_next.map(|next| earlier(next, burst(every)))
    }

    /// Learns from an answer.
    pub fn learn(&mut self, feedback: &Feedback) {
        let Feedback { began, now, signal, exhausted } = *feedback;
        // The attempt began before an earlier refusal was known, which covers this answer too.
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

    /// Whether the state can be deleted: no hold, no interval, and no use of the owner's limit.
    #[must_use]
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        let past = |time: Option<DateTime<Utc>>| time.is_none_or(|time| time <= now);
        self.interval.is_none() && past(self.hold_until) && past(self.owner_next)
    }

    /// The end of the hold; `None` if there is no hold at `now`.
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
            // The first refusal after a success means that the interval is too short. A further one
            // means that the hold was too short.
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
            // Between the refused interval and the good one, unless they are close.
            if good / interval > 1.15 { (interval * good).sqrt() } else { good }
        } else {
            self.measured(self.hold_until).clamp(interval * 1.3, interval * 4.0)
        };
        self.interval = Some(next.min(LONGEST));
    }

    /// The average time of one success since the refusal before this one, in seconds.
    fn measured(&self, end: Option<DateTime<Utc>>) -> f64 {
        let time = self.since.zip(end).map(|(since, end)| between(since, end));
        time.unwrap_or_default() / f64::from(self.successes.max(1))
    }

    fn slow_down(&mut self, began: DateTime<Utc>, now: DateTime<Utc>) {
        // An attempt that began before the pace was slowed down says nothing about the new pace.
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
        // If attempts are rarer than the pace allows, success says nothing about the pace.
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

    /// The time without a refusal after which the interval is out of date, even if attempts were
    /// too rare to shorten it.
    fn stale_after(&self, interval: f64) -> Duration {
        match self.refused {
            None if self.refusals == 0 && interval <= HINTED.1 => seconds(STALE.0),
            _ => seconds(STALE.1.max(10.0 * self.quiet).max(30.0 * interval)),
        }
    }

    /// Forgets the interval.
    fn unpace(&mut self) {
        let (hold_until, owner_next) = (self.hold_until, self.owner_next);
        *self = Self { hold_until, owner_next, ..Self::default() };
    }

    /// The interval after the first success that follows refusals. After several refusals, the time
    /// that has passed shows how much the receiver accepts.
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

/// When an attempt may begin although its webhook is held. If the hold ends after the delivery's
/// deadline, one attempt is made before it, when seven eighths of the time have passed. Returns
/// `None` if the hold ends before the deadline.
#[must_use]
pub fn last_chance(
    hold_until: DateTime<Utc>,
    since: DateTime<Utc>,
    deadline: Duration,
) -> Option<DateTime<Utc>> {
    let end = later(since, deadline);
    (hold_until > end).then(|| earlier(end, deadline / 8))
}

/// The longest hold, so that a delivery that has just begun still gets a last attempt.
#[must_use]
pub fn longest_hold(deadline: Duration) -> Duration {
    deadline.saturating_sub(deadline / 8).min(LONGEST_HOLD)
}

/// How far ahead of the owner's rate attempts may begin.
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
