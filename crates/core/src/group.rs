//! The limits of a group: all webhooks of one host, or of one owner, in a worker.
//!
//! A limit for each webhook does not protect against a host with fifty webhooks that hangs, nor
//! against an owner who registers a hundred. So a host that has stopped answering gets no new
//! request for any of its webhooks.
//!
//! A request that takes longer than is usual for its host is slow. Slow requests have slots of
//! their own, as many as the fast ones, so that they don't use up those of the fast ones. A group
//! whose requests are all fast may use the whole worker, since its slots are free again within
//! milliseconds. All of its requests may turn slow at once. Each that does moves to a slow slot, as
//! long as one is free; and the group gets no new request while it has more than its share of the
//! slow slots.
//!
//! Once half of the slow slots are in use, groups have shares of the fast slots too. The next
//! requests that turn slow may find no slow slot. They are then stuck in fast slots, and without
//! shares they could fill them all.

use std::time::{Duration, Instant};

use crate::backlog::Backlog;
use crate::endpoint::{Cause, FIRST_AVERAGE, SPREAD_EACH, is_silent, next_average};

/// The shortest time for which a delivery is deferred.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// A request is slow when it has taken this many times the usual duration, …
const SLOW_FACTOR: u32 = 8;
/// … but not before the first of these times, and in any case after the second one.
const SLOW_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// All requests to a host with at least this average duration count as slow from the start:
/// otherwise they would fill the fast slots before they count as slow.
const SLOW_HOST: Duration = Duration::from_millis(250);

/// A host is suspect if a request failed after at least this time and none succeeded meanwhile. …
const WASTED: Duration = Duration::from_secs(1);
/// … Until a request succeeds, a suspect host has at most this many in flight.
const SUSPECT_REQUESTS: u32 = 4;

/// The webhooks that form a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The webhooks whose URLs have the same host and port. It is one server or gateway, which
    /// fails as a whole, so its silence counts for all of them.
    Host,
    /// The webhooks of one owner. Their endpoints are independent, so silence does not count.
    Owner,
}

impl Kind {
    /// The share of a group, of `room` slots.
    fn share(self, room: u32) -> u32 {
        let part = match self {
            Self::Host => 2,
            Self::Owner => 4,
        };
        (room / part).max(1)
    }
}

/// The requests in flight of a worker, over all groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests in fast slots.
    pub fast: u32,
    /// The number of fast slots.
    pub concurrency: u32,
    /// Requests in slow slots.
    pub slow: u32,
    /// The number of slow slots.
    pub slow_room: u32,
}

impl Load {
    /// Whether enough fast slots are free that no shares are needed.
    fn is_half_idle(self) -> bool {
        self.fast < self.concurrency / 2
    }

    /// Whether requests that turn slow may soon find no slow slot.
    fn is_crowded(self) -> bool {
        self.slow >= self.slow_room / 2
    }

    /// The speed of a request that turns slow now.
    #[must_use]
    pub fn slowed(self) -> Speed {
        if self.slow < self.slow_room { Speed::Slow } else { Speed::Stuck }
    }
}

/// A group's requests in flight.
#[derive(Debug, Clone)]
pub struct Group {
    kind: Kind,
    in_flight: u32,
    /// The requests in slow slots.
    slow: u32,
    /// The slow requests in fast slots.
    stuck: u32,
    /// The moving average of the duration of requests.
    average: Duration,
    /// When a request last ended, or when the first of those in flight began.
    moved: Option<Instant>,
    /// When a request last succeeded.
    succeeded: Option<Instant>,
    /// Whether a long request failed, and none has succeeded since it began.
    suspect: bool,
    backlog: Backlog,
}

/// The speed of a request in flight, and the kind of slot that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// It has not taken longer than usual. It uses a fast slot.
    Fast,
    /// It is slow, but no slow slot was free. It uses a fast slot.
    Stuck,
    /// It is slow, and uses a slow slot.
    Slow,
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub duration: Duration,
    /// Whether the endpoint accepted the request.
    pub success: bool,
}

/// Why a delivery may not be attempted now, and how long it is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub cause: Cause,
    pub wait: Duration,
}

impl Group {
    /// A group with nothing in flight.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            in_flight: 0,
            slow: 0,
            stuck: 0,
            average: FIRST_AVERAGE,
            moved: None,
            succeeded: None,
            suspect: false,
            backlog: Backlog::default(),
        }
    }

    /// Why the group may have no further request now; `None` if it may. `chance` is a random number
    /// from 0 up to 1 that spreads deferrals.
    #[must_use]
    pub fn refusal(&self, now: Instant, load: Load, chance: f64) -> Option<Refusal> {
        if let Some(silence) = self.silence(now) {
            return Some(self.silent_for(silence, chance));
        }
        let wait = SHORTEST_WAIT + self.backlog.spread(SPREAD_EACH, chance);
        (!self.has_room(load)).then_some(Refusal { cause: Cause::Busy, wait })
    }

    /// How long the host has been silent; `None` if it has not stopped answering. A silent host
    /// gets no requests, whatever slots are free.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        let silent = is_silent(now, self.in_flight, self.moved, self.average);
        let since = self.moved.filter(|_| self.kind == Kind::Host && silent)?;
        Some(now.saturating_duration_since(since))
    }

    /// The refusal for a host that has been silent for this time.
    #[must_use]
    pub fn silent_for(&self, silence: Duration, chance: f64) -> Refusal {
        let wait = silence.max(SHORTEST_WAIT) + self.backlog.spread(SPREAD_EACH, chance);
        Refusal { cause: Cause::Silent, wait }
    }

    /// Whether the group may have another request.
    #[must_use]
    pub fn has_room(&self, load: Load) -> bool {
        let share = self.kind.share(load.concurrency);
        if self.kind == Kind::Host {
            if self.suspect {
                return self.in_flight < SUSPECT_REQUESTS.min(share);
            }
            // Each slow request holds a connection.
            if self.slow + self.stuck > 0 && self.in_flight >= (share / 2).max(1) {
                return false;
            }
        }
        let crowded = load.is_crowded();
        if crowded && self.slow >= self.kind.share(load.slow_room) {
            return false;
        }
        let bounded = crowded || self.stuck > 0;
        !bounded || self.fast() < share || load.is_half_idle()
    }

    /// How long a request may take until it counts as slow.
    #[must_use]
    pub fn slow_after(&self) -> Duration {
        if self.average >= SLOW_HOST {
            return Duration::ZERO;
        }
        self.average.saturating_mul(SLOW_FACTOR).clamp(SLOW_AFTER.0, SLOW_AFTER.1)
    }

    /// The speed of a request has changed.
    pub fn change(&mut self, from: Speed, to: Speed) {
        self.leave(from);
        match to {
            Speed::Fast => {}
            Speed::Stuck => self.stuck += 1,
            Speed::Slow => self.slow += 1,
        }
    }

    fn leave(&mut self, speed: Speed) {
        match speed {
            Speed::Fast => {}
            Speed::Stuck => self.stuck = self.stuck.saturating_sub(1),
            Speed::Slow => self.slow = self.slow.saturating_sub(1),
        }
    }

    /// The requests in fast slots.
    fn fast(&self) -> u32 {
        self.in_flight.saturating_sub(self.slow)
    }

    /// A request begins.
    pub fn begin(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.moved = Some(now);
        }
        self.in_flight += 1;
    }

    /// A request of this speed ended.
    pub fn end(&mut self, now: Instant, ended: Ended, speed: Speed) {
        self.abandon(speed);
        self.moved = Some(now);
        self.average = next_average(self.average, ended.duration);
        if ended.success {
            (self.succeeded, self.suspect) = (Some(now), false);
            return;
        }
        // If others were answered meanwhile, one webhook is at fault and not the host.
        let began = now.checked_sub(ended.duration);
        let answers = self.succeeded.is_some_and(|at| began.is_none_or(|began| at > began));
        self.suspect |= ended.duration >= WASTED && !answers;
    }

    /// A request that had begun was not sent.
    pub fn abandon(&mut self, speed: Speed) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.leave(speed);
    }

    /// A delivery of the group was deferred, for any reason.
    pub fn deferred(&mut self) {
        self.backlog.add();
    }

    /// A deferred delivery of the group came back.
    pub fn came_back(&mut self) {
        self.backlog.came_back();
    }

    /// Whether nothing of the group is in flight or deferred.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.backlog.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONCURRENCY: u32 = 16;
    const QUICK: Ended = Ended { duration: Duration::from_millis(2), success: true };

    fn with(kind: Kind, in_flight: u32, now: Instant) -> Group {
        let mut group = Group::new(kind);
        (0..in_flight).for_each(|_| group.begin(now));
        group
    }

    fn load(fast: u32, slow: u32) -> Load {
        Load { fast, concurrency: CONCURRENCY, slow, slow_room: CONCURRENCY }
    }

    fn cause(group: &Group, now: Instant, fast: u32) -> Option<Cause> {
        group.refusal(now, load(fast, 0), 0.5).map(|refusal| refusal.cause)
    }

    #[test]
    fn groups_whose_requests_are_fast_may_use_the_whole_worker() {
        let now = Instant::now();
        for kind in [Kind::Host, Kind::Owner] {
            assert_eq!(cause(&with(kind, 15, now), now, 15), None);
        }
    }

    #[test]
    fn a_group_with_stuck_requests_may_use_more_than_its_share_only_of_an_idle_worker() {
        let now = Instant::now();
        let mut owner = with(Kind::Owner, 7, now);
        owner.change(Speed::Fast, Speed::Stuck);
        assert_eq!(cause(&owner, now, 7), None);
        assert_eq!(cause(&owner, now, 8), Some(Cause::Busy));
        let mut small = with(Kind::Owner, 3, now);
        small.change(Speed::Fast, Speed::Stuck);
        assert_eq!(cause(&small, now, 15), None);
        let mut host = with(Kind::Host, 4, now);
        host.change(Speed::Fast, Speed::Stuck);
        assert_eq!(cause(&host, now, 0), Some(Cause::Busy));
    }

    #[test]
    fn groups_have_shares_of_the_fast_requests_while_many_are_slow() {
        let now = Instant::now();
        for (kind, share) in [(Kind::Host, 8), (Kind::Owner, 4)] {
            let busy = |in_flight| !with(kind, in_flight, now).has_room(load(8, 8));
            assert!(!busy(share - 1) && busy(share), "{kind:?}");
            assert!(with(kind, 15, now).has_room(load(15, 7)), "{kind:?}: few are slow");
            assert!(with(kind, 7, now).has_room(load(7, 8)), "{kind:?}: half of it is idle");
        }
    }

    #[test]
    fn an_owner_with_many_slow_requests_gets_no_request_while_many_are_slow() {
        let now = Instant::now();
        let mut owner = with(Kind::Owner, 5, now);
        (0..4).for_each(|_| owner.change(Speed::Fast, Speed::Slow));
        assert!(owner.has_room(load(1, 7)));
        assert!(!owner.has_room(load(1, 8)));
        owner.end(now, QUICK, Speed::Slow);
        assert!(owner.has_room(load(1, 8)));
    }

    #[test]
    fn a_host_that_stops_answering_gets_no_request_until_it_answers() {
        let start = Instant::now();
        let mut host = with(Kind::Host, 4, start);
        assert_eq!(cause(&host, start + Duration::from_millis(900), 4), None);
        let later = start + Duration::from_secs(2);
        assert_eq!(cause(&host, later, 4), Some(Cause::Silent));
        host.end(later, QUICK, Speed::Fast);
        host.begin(later);
        assert_eq!(cause(&host, later, 4), None);
    }

    #[test]
    fn a_host_that_is_always_slow_is_not_silent() {
        let mut now = Instant::now();
        let mut host = with(Kind::Host, 4, now);
        for _ in 0..20 {
            now += Duration::from_secs(2);
            host.end(now, Ended { duration: Duration::from_secs(2), success: true }, Speed::Fast);
            host.begin(now);
        }
        assert_eq!(cause(&host, now + Duration::from_secs(3), 4), None);
    }

    #[test]
    fn slow_requests_count_for_their_host_and_not_for_their_owner() {
        let now = Instant::now();
        let (mut host, mut owner) = (with(Kind::Host, 4, now), with(Kind::Owner, 5, now));
        owner.change(Speed::Fast, Speed::Stuck);
        assert_eq!(cause(&host, now, 15), None);
        assert_eq!(cause(&owner, now, 15), Some(Cause::Busy));
        host.change(Speed::Fast, Speed::Slow);
        owner.change(Speed::Stuck, Speed::Slow);
        assert_eq!(cause(&host, now, 0), Some(Cause::Busy));
        assert_eq!(cause(&owner, now, 15), None);
        host.end(now, QUICK, Speed::Slow);
        assert_eq!(cause(&host, now, 15), None);
    }

    #[test]
    fn a_request_is_slow_after_several_times_the_usual_duration() {
        let now = Instant::now();
        let mut host = with(Kind::Host, 100, now);
        assert_eq!(host.slow_after(), SLOW_AFTER.0);
        let end = |host: &mut Group, duration, count| {
            let ended = Ended { duration, success: true };
            (0..count).for_each(|_| host.end(now, ended, Speed::Fast));
        };
        end(&mut host, Duration::from_millis(50), 50);
        assert!(host.slow_after() > Duration::from_millis(350), "{:?}", host.slow_after());
        end(&mut host, Duration::from_millis(200), 50);
        assert_eq!(host.slow_after(), SLOW_AFTER.1);
        end(&mut host, Duration::from_secs(2), 50);
        assert_eq!(host.slow_after(), Duration::ZERO, "they would be slow anyway");
    }

    #[test]
    fn a_host_whose_requests_time_out_gets_few_until_one_succeeds() {
        let now = Instant::now();
        let mut host = with(Kind::Host, 5, now);
        let late = Ended { duration: Duration::from_secs(15), success: false };
        host.end(now, late, Speed::Fast);
        assert_eq!(cause(&host, now, 0), Some(Cause::Busy));
        host.end(now, late, Speed::Fast);
        assert_eq!(cause(&host, now, 0), None);
        host.begin(now);
        host.end(now, Ended { success: false, ..QUICK }, Speed::Fast);
        host.begin(now);
        assert_eq!(cause(&host, now, 0), Some(Cause::Busy), "a quick failure proves nothing");
        host.end(now, QUICK, Speed::Fast);
        host.begin(now);
        assert_eq!(cause(&host, now, 0), None);
        host.end(now + Duration::from_secs(14), late, Speed::Fast);
        host.begin(now);
        assert_eq!(cause(&host, now, 0), None, "others were answered meanwhile");
    }

    #[test]
    fn an_owner_without_answers_does_not_count_as_silent() {
        let now = Instant::now();
        let owner = with(Kind::Owner, 4, now);
        assert_eq!(cause(&owner, now + Duration::from_mins(1), 4), None);
    }

    /// A step of three groups: one of them begins a request, or all requests of one turn slow.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Begin(usize),
        TurnSlow(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..3).prop_map(Step::Begin),
            1 => (0usize..3).prop_map(Step::TurnSlow),
        ]
    }

    proptest! {
        /// A fourth group has room even if no request of the other three ever ends.
        #[test]
        fn three_groups_never_fill_a_worker(kind in prop::sample::select(vec![Kind::Host, Kind::Owner]), steps in prop::collection::vec(step(), 0..400)) {
            let now = Instant::now();
            let mut groups = [kind; 3].map(Group::new);
            let mut all = load(0, 0);
            let turn_slow = |group: &mut Group, all: &mut Load| {
                for _ in 0..group.fast() - group.stuck {
                    let to = all.slowed();
                    group.change(Speed::Fast, to);
                    if to == Speed::Slow {
                        (all.fast, all.slow) = (all.fast - 1, all.slow + 1);
                    }
                }
            };
            for step in steps {
                match step {
                    Step::Begin(which) if all.fast < CONCURRENCY && groups[which].has_room(all) => {
                        groups[which].begin(now);
                        all.fast += 1;
                    }
                    Step::Begin(_) => {}
                    Step::TurnSlow(which) => turn_slow(&mut groups[which], &mut all),
                }
            }
            for group in &mut groups {
                turn_slow(group, &mut all);
            }
            prop_assert!(all.fast < CONCURRENCY && Group::new(kind).has_room(all), "{all:?}");
        }
    }
}
