//! A lane: the requests of first attempts, or of later ones, counted for each host and each owner.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_core::group::{Group, Kind, Load, Refusal};

use super::MOST;

/// The slow requests of all lanes. They no longer count in their lanes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slow {
    pub(super) requests: u32,
    /// The maximum number of slow requests.
    pub(super) room: u32,
}

/// The requests of first attempts, or of later ones.
pub(super) struct Lane {
    hosts: HashMap<Arc<str>, Group>,
    owners: HashMap<Arc<str>, Group>,
    /// Requests in flight that are not slow.
    pub(super) all: u32,
    /// The maximum number of requests in flight.
    concurrency: u32,
}

impl Lane {
    pub(super) fn new(concurrency: u32) -> Self {
        Self { hosts: HashMap::new(), owners: HashMap::new(), all: 0, concurrency }
    }

    pub(super) fn groups(&mut self, host: &Arc<str>, owner: &Arc<str>) -> [&mut Group; 2] {
        let host = group(&mut self.hosts, host, Kind::Host);
        [host, group(&mut self.owners, owner, Kind::Owner)]
    }

    /// How long a host has been silent.
    pub(super) fn silence(&self, host: &str, now: Instant) -> Option<Duration> {
        self.hosts.get(host).and_then(|group| group.silence(now))
    }

    /// The requests in flight in this lane, and the slow ones of all lanes.
    pub(super) fn load(&self, slow: Slow) -> Load {
        let Slow { requests: slow, room: slow_room } = slow;
        Load { fast: self.all, concurrency: self.concurrency, slow, slow_room }
    }

    /// Why a host or an owner may have no further request; `None` if it may. `silence` is how long the
    /// host has been silent in the other lane.
    pub(super) fn refusal(
        &mut self,
        (host, owner): (&Arc<str>, &Arc<str>),
        slow: Slow,
        now: Instant,
        silence: Option<Duration>,
    ) -> Option<Refusal> {
        let load = self.load(slow);
        let [host, owner] = self.groups(host, owner);
        if let Some(silence) = silence {
            return Some(host.silent_for(silence, fastrand::f64()));
        }
        let refusal = |group: &Group| group.refusal(now, load, fastrand::f64());
        refusal(host).or_else(|| refusal(owner))
    }

    pub(super) fn has_room(&mut self, host: &Arc<str>, owner: &Arc<str>, slow: Slow) -> bool {
        let load = self.load(slow);
        self.groups(host, owner).iter().all(|group| group.has_room(load))
    }

    /// Begins a request; returns how long it may take until it counts as slow.
    pub(super) fn begin(&mut self, host: &Arc<str>, owner: &Arc<str>, now: Instant) -> Duration {
        self.all += 1;
        let [host, owner] = self.groups(host, owner);
        host.begin(now);
        owner.begin(now);
        host.slow_after()
    }
}

fn group<'a>(
    groups: &'a mut HashMap<Arc<str>, Group>,
    key: &Arc<str>,
    kind: Kind,
) -> &'a mut Group {
    if groups.len() >= MOST && groups.len() == groups.capacity() {
        groups.retain(|_, group| !group.is_idle());
    }
    groups.entry(Arc::clone(key)).or_insert_with(|| Group::new(kind))
}
