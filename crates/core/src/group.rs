//! What the webhooks of one host, or of one owner, may use of a worker together.
//!
//! A limit for each webhook does not stop a host with fifty webhooks that hangs, nor an owner who
//! registers a hundred. So the webhooks of a host, and those of an owner, also share a part of the
//! worker's requests in flight. They may use more than their share only while the worker is half
//! idle. A host that has stopped answering gets nothing new, whichever of its webhooks asks.

use std::time::{Duration, Instant};

use crate::backlog::Backlog;
use crate::endpoint::{Cause, FIRST_AVERAGE, SPREAD_EACH, is_silent, next_average};

/// The shortest time for which a delivery is deferred.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// Which webhooks form a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Those whose URLs name the same host and port. It is one server, or one gateway, which fails
    /// as a whole: its silence counts.
    Host,
    /// Those of one owner. They may be anywhere: the silence of some says nothing about the others.
    Owner,
}

impl Kind {
    /// The part of a worker's requests in flight that a group may use while others want them too.
    fn share(self, concurrency: u32) -> u32 {
        let part = match self {
            Self::Host => 2,
            Self::Owner => 4,
        };
        (concurrency / part).max(1)
    }
}

/// A group's requests in flight.
#[derive(Debug, Clone)]
pub struct Group {
    kind: Kind,
    in_flight: u32,
    /// The usual duration of a request.
    average: Duration,
    /// When a request last ended, or the first of those in flight began.
    moved: Option<Instant>,
    backlog: Backlog,
}

/// Why a delivery may not go now, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub cause: Cause,
    /// How long to wait.
    pub wait: Duration,
}

impl Group {
    /// A group with nothing in flight.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            in_flight: 0,
            average: FIRST_AVERAGE,
            moved: None,
            backlog: Backlog::default(),
        }
    }

    /// Why the group may have no further request now; `None` when it may. `all` is the number of
    /// requests in flight of the whole worker, `concurrency` the most that it may have, and
    /// `chance` a number from 0 up to 1 that spreads deferrals.
    #[must_use]
    pub fn refusal(
        &self,
        now: Instant,
        all: u32,
        concurrency: u32,
        chance: f64,
    ) -> Option<Refusal> {
        let silent =
            self.kind == Kind::Host && is_silent(now, self.in_flight, self.moved, self.average);
        let (cause, left) = if silent {
            (Cause::Silent, now.saturating_duration_since(self.moved.unwrap_or(now)))
        } else if !self.has_room(all, concurrency) {
            (Cause::Busy, Duration::ZERO)
        } else {
            return None;
        };
        let wait = left.max(SHORTEST_WAIT) + self.backlog.spread(SPREAD_EACH, chance);
        Some(Refusal { cause, wait })
    }

    /// Whether the group's share, or an idle worker, has room for another request.
    #[must_use]
    pub fn has_room(&self, all: u32, concurrency: u32) -> bool {
        self.in_flight < self.kind.share(concurrency) || all < concurrency / 2
    }

    /// A request begins.
    pub fn begin(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.moved = Some(now);
        }
        self.in_flight += 1;
    }

    /// A request ended after this time.
    pub fn end(&mut self, now: Instant, duration: Duration) {
        self.abandon();
        self.moved = Some(now);
        self.average = next_average(self.average, duration);
    }

    /// A request did not take place after all.
    pub fn abandon(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A delivery of the group was deferred, for whatever reason.
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
    const QUICK: Duration = Duration::from_millis(2);

    fn with(kind: Kind, in_flight: u32, now: Instant) -> Group {
        let mut group = Group::new(kind);
        (0..in_flight).for_each(|_| group.begin(now));
        group
    }

    fn cause(group: &Group, now: Instant, all: u32) -> Option<Cause> {
        group.refusal(now, all, CONCURRENCY, 0.5).map(|refusal| refusal.cause)
    }

    #[test]
    fn a_group_may_use_more_than_its_share_only_of_an_idle_worker() {
        let now = Instant::now();
        let owner = with(Kind::Owner, 7, now);
        assert_eq!(cause(&owner, now, 7), None);
        assert_eq!(cause(&owner, now, 8), Some(Cause::Busy));
        let small = with(Kind::Owner, 3, now);
        assert_eq!(cause(&small, now, 15), None);
    }

    #[test]
    fn a_host_that_stops_answering_gets_nothing_new_until_it_answers() {
        let start = Instant::now();
        let mut host = with(Kind::Host, 4, start);
        assert_eq!(cause(&host, start + Duration::from_millis(900), 4), None);
        let later = start + Duration::from_secs(2);
        assert_eq!(cause(&host, later, 4), Some(Cause::Silent));
        host.end(later, QUICK);
        host.begin(later);
        assert_eq!(cause(&host, later, 4), None);
    }

    #[test]
    fn a_host_that_is_always_slow_is_not_silent() {
        let mut now = Instant::now();
        let mut host = with(Kind::Host, 4, now);
        for _ in 0..20 {
            now += Duration::from_secs(2);
            host.end(now, Duration::from_secs(2));
            host.begin(now);
        }
        assert_eq!(cause(&host, now + Duration::from_secs(3), 4), None);
    }

    #[test]
    fn an_owner_is_not_silent() {
        let now = Instant::now();
        let owner = with(Kind::Owner, 4, now);
        assert_eq!(cause(&owner, now + Duration::from_mins(1), 4), None);
    }

    proptest! {
        /// Whatever the groups do, one of several leaves room for the others.
        #[test]
        fn no_group_fills_a_worker(asks in prop::collection::vec(0usize..3, 0..200)) {
            let now = Instant::now();
            let mut groups = [Kind::Owner; 3].map(Group::new);
            let mut all = 0;
            for which in asks {
                let group = &mut groups[which];
                if all < CONCURRENCY && group.refusal(now, all, CONCURRENCY, 0.0).is_none() {
                    group.begin(now);
                    all += 1;
                }
            }
            prop_assert!(groups.iter().all(|it| it.in_flight <= CONCURRENCY / 2));
        }
    }
}
