//! The limits of one endpoint in one worker: how many requests it may have in flight, and when
//! none.
//!
//! An endpoint that is slow, hangs or fails must not delay the others. So each endpoint has a limit
//! on requests in flight, which grows while it is used and shrinks when slow requests fail. It also
//! has a circuit breaker, which opens after consecutive failures and then lets one probe through at
//! a time. An endpoint that has stopped answering gets no new requests, long before its requests
//! time out. A delivery that may not be attempted now waits for a slot if one is about to be free;
//! otherwise it is deferred.
//!
//! `group` limits the webhooks of one host or one owner together. `pace` is the rate that a
//! receiver and an owner want, over all workers.

use std::time::{Duration, Instant};

use crate::backlog::Backlog;

/// The limit on requests in flight of a new endpoint. It doubles with each round of answers while
/// it is used. It is small, so that a receiver which accepts one request at a time refuses only a
/// few.
const FIRST_LIMIT: u32 = 6;
/// The assumed average duration of a request before the first one has ended.
pub(crate) const FIRST_AVERAGE: Duration = Duration::from_millis(10);
/// An endpoint is silent when at least this many of its requests are unanswered …
const SILENT_REQUESTS: u32 = 4;
/// … and none has ended for this long, …
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// … which is also this many times its usual duration.
const SILENT_FACTOR: u32 = 8;
/// A failure that took at least this long counts as slow.
const SLOW: Duration = Duration::from_secs(1);
/// The breaker opens after this many slow failures without a success, if together they took …
const SLOW_FAILURES: u32 = 3;
/// … at least this long. It also opens …
const MOST_WASTED: Duration = Duration::from_secs(5);
/// … after this many failures without a success, however quick.
const FAILURES: u32 = 1000;
/// The breaker stays open for this many times the duration of the failure, so that less than a
/// tenth of one slot is spent on an endpoint that fails.
const COOLDOWN_FACTOR: u32 = 10;
/// The shortest and the longest time for which the breaker stays open.
const COOLDOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The longest expected wait for a slot for which a delivery is not deferred.
pub const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// How much the spread of a backlog grows with each deferred delivery. So the deliveries of one
/// endpoint come back at most five hundred times a second.
pub const SPREAD_EACH: Duration = Duration::from_millis(2);

/// While the breaker is open, a deferral lasts at least the outage so far divided by this, so that
/// the deliveries of an endpoint that is down for long don't come back every few seconds …
const OUTAGE_PART: u32 = 8;
/// … but a long outage extends a deferral to no more than this.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The state of an endpoint without requests may be evicted after this time, failures included.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// Why a delivery is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The endpoint's circuit breaker is open.
    Failing,
    /// The endpoint, its host or its owner is at its limit on requests in flight.
    Busy,
    /// The endpoint or its host has stopped answering.
    Silent,
    /// The owner's limit on requests a minute is used up.
    RateLimit,
    /// The receiver asked to wait.
    Held,
    /// The receiver accepts no faster rate, as learned from the requests that it refused.
    Paced,
    /// The webhook can't be read, for example because the key of its secrets is missing.
    Unreadable,
    /// The directory can't decide about access: it is incomplete, or a snapshot was refused.
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

/// Whether a delivery may be attempted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Attempt it now.
    Go {
        /// Whether it is a probe, which decides whether the breaker closes.
        probe: bool,
    },
    /// Wait for a slot: one is about to be free.
    Wait,
    /// Defer it.
    Defer {
        /// Why it is deferred.
        cause: Cause,
        /// The time after which it comes back.
        wait: Duration,
    },
}

/// An endpoint's state.
#[derive(Debug, Clone)]
pub struct Endpoint {
    most: u32,
    limit: u32,
    in_flight: u32,
    /// The moving average of the duration of requests: the newest counts a tenth.
    average: Duration,
    /// When a request last ended, or when the first of those in flight began.
    moved: Option<Instant>,
    failures: u32,
    slow_failures: u32,
    /// The total duration of the slow failures.
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
    /// A new endpoint. `most` is the upper bound of its limit on requests in flight.
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

    /// Decides about one delivery. `waiting` is the number of deliveries that wait for a slot, and
    /// `chance` a random number from 0 up to 1 that spreads deferrals.
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
            // An endpoint that has been silent for a while is expected to stay so for as long
            // again.
            self.defer(Cause::Busy, self.silence(now), SPREAD_EACH, chance)
        }
    }

    /// Whether a delivery that waits for a slot may be attempted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight < self.limit
    }

    /// A request begins. [`Endpoint::admit`] calls this itself when it returns [`Admission::Go`].
    pub fn begin(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.moved = Some(now);
        }
        self.in_flight += 1;
    }

    /// A request that had begun was not sent.
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
            // The limit grows only if it was used: otherwise success says nothing about it.
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
        // While the breaker is open, only the result of a probe counts: other requests began
        // before.
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

    /// Whether this state can be evicted: nothing is in flight, and the endpoint is healthy or no
    /// request has ended for ten minutes.
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

    /// How long the next delivery would wait for a slot: no less than the endpoint has been silent.
    fn expected_wait(&self, now: Instant, waiting: usize) -> Duration {
        let ahead = u32::try_from(waiting + 1).unwrap_or(u32::MAX);
        let usual = self.average.saturating_mul(ahead) / self.limit.max(1);
        usual.max(self.silence(now))
    }

    /// The time since a request last ended.
    fn silence(&self, now: Instant) -> Duration {
        self.moved.map(|moved| now.saturating_duration_since(moved)).unwrap_or_default()
    }
}

/// Whether no request has ended for so long that those in flight probably hang.
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

/// The moving average after another request, which counts a tenth.
pub(crate) fn next_average(average: Duration, duration: Duration) -> Duration {
    (average * 9 + duration) / 10
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
