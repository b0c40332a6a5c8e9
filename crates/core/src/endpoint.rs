//! One endpoint as a worker sees it: how many requests it gets at a time, and when it gets none.
//!
//! An endpoint that is slow, hangs or fails must cost the others nothing. So each has a limit on
//! requests in flight, which grows while it is used and shrinks while it wastes time; a circuit
//! breaker, which opens after consecutive failures and then lets one probe through at a time. An
//! endpoint that has stopped answering gets nothing new, long before its requests time out. What may not go now either waits for a slot
//! that will be free at once, or is deferred.
//!
//! `group` limits what the webhooks of one host or one owner use together; `pace` is how fast a
//! receiver and an owner want it, whatever worker sends.

use std::time::{Duration, Instant};

use crate::backlog::Backlog;

/// The limit on requests in flight of an endpoint of which nothing is known. It doubles with each round
/// of answers while it is used; a receiver that takes one at a time refuses few of them at first.
const FIRST_LIMIT: u32 = 6;
/// What is taken for the duration of a request before the first one is over.
pub(crate) const FIRST_AVERAGE: Duration = Duration::from_millis(10);
/// An endpoint is silent when at least this many of its requests are unanswered …
const SILENT_REQUESTS: u32 = 4;
/// … and none has ended for this long, …
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// … which is also this many times its usual duration.
const SILENT_FACTOR: u32 = 8;
/// A request that takes longer than this wastes time when it fails.
const SLOW: Duration = Duration::from_secs(1);
/// The breaker opens after so many slow failures without a success, if together they wasted …
const SLOW_FAILURES: u32 = 3;
/// … this much time, or
const MOST_WASTED: Duration = Duration::from_secs(5);
/// after so many however quick.
const FAILURES: u32 = 1000;
/// It stays open for so many times the duration of the failure: less than a tenth of one slot is
/// then spent on an endpoint that fails.
const COOLDOWN_FACTOR: u32 = 10;
/// The shortest and the longest time for which it stays open.
const COOLDOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The longest expected wait for a slot for which a delivery is not deferred.
pub const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// Deferred deliveries come back spread over this much time each, so that a large backlog of one
/// endpoint asks not more than five hundred times a second …
pub const SPREAD_EACH: Duration = Duration::from_millis(2);

/// While the breaker is open, deferred deliveries come back no sooner than after this part of the time
/// that it has been, so that one that is down for long is not asked about every few seconds …
const OUTAGE_PART: u32 = 8;
/// … but never later than this for that reason.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Trouble with an endpoint of which nothing is heard for so long may be forgotten.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// Why a delivery is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The endpoint failed so often that it is only probed for now.
    Failing,
    /// It, its host or its owner has as many requests in flight as it may.
    Busy,
    /// It or its host has stopped answering.
    Silent,
    /// Its owner's limit on requests a minute is used up.
    RateLimit,
    /// Its receiver asked to wait.
    Held,
    /// Its receiver takes no more than it got, as far as is known from what it refused.
    Paced,
    /// The webhook can't be read, for example because the key of its secrets is missing.
    Unreadable,
    /// The directory can't be decided by: it is incomplete, or a snapshot of it was refused.
    DirectoryHeld,
}

impl Cause {
    /// A stable code, for metrics and logs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Busy => "busy",
            Self::Silent => "silent",
            Self::RateLimit => "rate-limit",
            Self::Held => "held",
            Self::Paced => "paced",
            Self::Unreadable => "unreadable",
            Self::DirectoryHeld => "directory-held",
        }
    }
}

/// What a delivery may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Go now. A probe decides whether the breaker closes.
    Go {
        /// Whether it is a probe.
        probe: bool,
    },
    /// Wait: a slot will be free at once.
    Wait,
    /// Come back after this time.
    Defer {
        /// Why.
        cause: Cause,
        /// How long.
        wait: Duration,
    },
}

/// An endpoint's state.
#[derive(Debug, Clone)]
pub struct Endpoint {
    most: u32,
    limit: u32,
    in_flight: u32,
    /// The usual duration of a request, the newest counting a tenth.
    average: Duration,
    /// When a request last ended, or the first of those in flight began.
    moved: Option<Instant>,
    failures: u32,
    slow_failures: u32,
    /// What the slow ones took together.
    wasted: Duration,
    open: Option<Open>,
    backlog: Backlog,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Instant,
    until: Instant,
    probing: bool,
}

impl Endpoint {
    /// An endpoint of which nothing is known, with the most requests that it may ever have in
    /// flight.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            limit: FIRST_LIMIT.min(most),
            in_flight: 0,
            average: FIRST_AVERAGE,
            moved: None,
            failures: 0,
            slow_failures: 0,
            wasted: Duration::ZERO,
            open: None,
            backlog: Backlog::default(),
        }
    }

    /// Asks for a request. `waiting` are those that wait for a slot already, and `chance` a
    /// number from 0 up to 1 that spreads deferrals.
    pub fn admit(&mut self, now: Instant, waiting: usize, chance: f64) -> Admission {
        if let Some(open) = &mut self.open {
            if now < open.until || open.probing {
                let outage = now.saturating_duration_since(open.since);
                let left = open
                    .until
                    .saturating_duration_since(now)
                    .max((outage / OUTAGE_PART).min(LONGEST_PAUSE));
                return self.defer(Cause::Failing, left, SPREAD_EACH, chance);
            }
            open.probing = true;
            self.begin(now);
            return Admission::Go { probe: true };
        }
        if is_silent(now, self.in_flight, self.moved, self.average) {
            return self.defer(Cause::Silent, self.silence(now), SPREAD_EACH, chance);
        }
        if self.has_room() && waiting == 0 {
            self.begin(now);
            Admission::Go { probe: false }
        } else if self.expected_wait(now, waiting) <= LONGEST_WAIT {
            Admission::Wait
        } else {
            // Of one that has been silent for a while nothing is expected sooner than that.
            self.defer(Cause::Busy, self.silence(now), SPREAD_EACH, chance)
        }
    }

    /// Whether one that waits may go.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight < self.limit
    }

    /// A request begins. [`Endpoint::admit`] has done it for those that go at once.
    pub fn begin(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.moved = Some(now);
        }
        self.in_flight += 1;
    }

    /// A request did not take place after all.
    pub fn abandon(&mut self, probe: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if probe && let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// A request ended.
    pub fn end(&mut self, now: Instant, success: bool, duration: Duration, probe: bool) {
        let used = self.in_flight;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.moved = Some(now);
        self.average = next_average(self.average, duration);
        if success {
            if self.open.is_some() {
                self.backlog = Backlog::default();
            }
            (self.failures, self.slow_failures) = (0, 0);
            (self.wasted, self.open) = (Duration::ZERO, None);
            // A limit that is not used says nothing about how much the endpoint can take.
            if used >= self.limit / 2 {
                self.limit = (self.limit + 1).min(self.most);
            }
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if duration >= SLOW {
            self.slow_failures = self.slow_failures.saturating_add(1);
            self.wasted = self.wasted.saturating_add(duration);
            self.limit = (self.limit / 2).max(1);
        }
        let slow = self.slow_failures >= SLOW_FAILURES && self.wasted >= MOST_WASTED;
        // What began before the breaker opened says nothing new, and a probe may be under way.
        let opens = match self.open {
            Some(_) => probe,
            None => slow || self.failures >= FAILURES,
        };
        if opens {
            let cooldown = (duration * COOLDOWN_FACTOR).clamp(COOLDOWN.0, COOLDOWN.1);
            let since = self.open.map_or(now, |open| open.since);
            self.open = Some(Open { since, until: now + cooldown, probing: false });
        }
    }

    /// A deferred delivery came back.
    pub fn came_back(&mut self) {
        self.backlog.came_back();
    }

    /// A delivery was deferred because of its host or its owner.
    pub fn deferred_by_group(&mut self) {
        self.backlog.add();
    }

    /// Whether the breaker is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether nothing is to be remembered of it: nothing is in flight, and it is in no trouble or
    /// nothing was heard of it for long.
    #[must_use]
    pub fn is_idle(&self, now: Instant) -> bool {
        let silent = self.moved.is_none_or(|moved| now.duration_since(moved) > FORGET_AFTER);
        let well = self.open.is_none() && self.failures == 0 && self.backlog.is_empty();
        self.in_flight == 0 && (well || silent)
    }

    fn defer(&mut self, cause: Cause, left: Duration, each: Duration, chance: f64) -> Admission {
        let wait = left.max(COOLDOWN.0) + self.backlog.spread(each, chance);
        self.backlog.add();
        Admission::Defer { cause, wait }
    }

    /// How long the next one would wait for a slot: from an endpoint that was silent for a while
    /// nothing is expected sooner than that.
    fn expected_wait(&self, now: Instant, waiting: usize) -> Duration {
        let ahead = u32::try_from(waiting + 1).unwrap_or(u32::MAX);
        let usual = self.average.saturating_mul(ahead) / self.limit.max(1);
        usual.max(self.silence(now))
    }

    /// How long nothing has ended.
    fn silence(&self, now: Instant) -> Duration {
        self.moved.map(|moved| now.saturating_duration_since(moved)).unwrap_or_default()
    }
}

/// Whether requests have been unanswered for longer than is usual, so that they probably hang.
pub(crate) fn is_silent(
    now: Instant,
    in_flight: u32,
    moved: Option<Instant>,
    average: Duration,
) -> bool {
    let silence = moved.map(|moved| now.saturating_duration_since(moved)).unwrap_or_default();
    in_flight >= SILENT_REQUESTS
        && silence >= SILENT_AFTER.max(average.saturating_mul(SILENT_FACTOR))
}

/// The usual duration after another request: the newest counts a tenth.
pub(crate) fn next_average(average: Duration, duration: Duration) -> Duration {
    (average * 9 + duration) / 10
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
