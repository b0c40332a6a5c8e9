//! The counts of the sink, by group.

use std::collections::HashMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::event::Stamp;
use crate::number;

/// The kind of answers of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Manner {
    /// 200.
    Good,
    /// 200 after 50 ms.
    Late,
    /// No answer.
    Hang,
    /// The port refuses connections.
    Refuse,
    /// The connection is reset.
    Reset,
    /// The head arrives byte by byte, without end.
    Trickle,
    /// 500.
    Error,
    /// 503 during a storm, otherwise 200.
    Storm,
    /// 400 during a storm, otherwise 200.
    Reject,
    /// 200 after five seconds.
    Slow,
    /// 200 until the gateway of the group fails; then as the gateway does. The hooks of one group
    /// share a port.
    Gateway,
}

impl Manner {
    /// The bad manners, in the order in which they are measured.
    pub(crate) const BAD: [Self; 5] =
        [Self::Hang, Self::Refuse, Self::Reset, Self::Trickle, Self::Error];

    /// The name in paths and reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Late => "late",
            Self::Hang => "hang",
            Self::Refuse => "refuse",
            Self::Reset => "reset",
            Self::Trickle => "trickle",
            Self::Error => "error",
            Self::Storm => "storm",
            Self::Reject => "reject",
            Self::Slow => "slow",
            Self::Gateway => "gateway",
        }
    }

    fn of(name: &str) -> Option<Self> {
        let others = [Self::Good, Self::Late, Self::Storm, Self::Reject, Self::Slow, Self::Gateway];
        let mut all = Self::BAD.into_iter().chain(others);
        all.find(|manner| manner.name() == name)
    }
}

/// The counts and times of a group.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// POSTs answered with 200.
    pub(crate) accepted: u64,
    /// Different (hook, event) pairs among them.
    pub(crate) distinct: u64,
    /// POSTs with any other answer, or none.
    pub(crate) refused: u64,
    /// POSTs answered with 200 since the mark. The following fields are about these.
    pub(crate) since_mark: u64,
    /// The arrival of the first one, in nanoseconds since 1970.
    pub(crate) first: u64,
    /// The arrival of the last one, in nanoseconds since 1970.
    pub(crate) last: u64,
    /// Percentiles of the time from publish to arrival, in microseconds.
    pub(crate) p50: u64,
    pub(crate) p95: u64,
    pub(crate) p99: u64,
    /// The longest time from publish to arrival, in microseconds.
    pub(crate) most: u64,
}

impl Seen {
    /// POSTs of an event to a hook that had accepted the same event before.
    pub(crate) fn duplicates(&self) -> u64 {
        self.accepted - self.distinct
    }

    /// Arrivals a second, from the first to the last one since the mark.
    pub(crate) fn rate(&self) -> f64 {
        let seconds = number::float(self.last.saturating_sub(self.first)) / 1e9;
        number::float(self.since_mark.saturating_sub(1)) / seconds.max(1e-9)
    }
}

/// The counts of all groups.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) is_stormy: bool,
    /// The gateways that have failed, by group.
    pub(crate) failed: HashMap<String, Manner>,
    hooks: HashMap<Vec<u8>, Hook>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Hook {
    manner: Manner,
    group: usize,
    /// A bit for the number of each event.
    seen: Vec<u64>,
}

#[derive(Debug)]
struct Group {
    name: String,
    accepted: u64,
    distinct: u64,
    refused: u64,
    since_mark: u64,
    first: u64,
    last: u64,
    /// In microseconds.
    times: Histogram<u64>,
    /// The longest of them, to the microsecond.
    most: u64,
}

/// Events with larger numbers are not checked for duplicates. The benchmark publishes none.
const MOST_NUMBERS: u64 = 1 << 28;

impl Tally {
    /// Counts a POST, and returns the manner of its answer; `None` for an unknown path.
    pub(crate) fn count(&mut self, path: &[u8], stamp: Option<Stamp>, now: u64) -> Option<Manner> {
        if !self.hooks.contains_key(path) {
            let hook = self.hook(path)?;
            self.hooks.insert(path.to_vec(), hook);
        }
        let hook = self.hooks.get_mut(path)?;
        let group = self.groups.get_mut(hook.group)?;
        let manner = match hook.manner {
            Manner::Storm | Manner::Reject if !self.is_stormy => Manner::Good,
            Manner::Gateway => self.failed.get(&group.name).copied().unwrap_or(Manner::Good),
            manner => manner,
        };
        if !matches!(manner, Manner::Good | Manner::Late | Manner::Slow) {
            group.refused += 1;
            return Some(manner);
        }
        group.accepted += 1;
        group.since_mark += 1;
        group.first = if group.first == 0 { now } else { group.first };
        group.last = now;
        if let Some(stamp) = stamp {
            group.distinct += u64::from(hook.is_new(stamp.number));
            let micros = now.saturating_sub(stamp.sent) / 1000;
            group.times.saturating_record(micros);
            group.most = group.most.max(micros);
        }
        Some(manner)
    }

    /// Forgets times, but not the events that have arrived.
    pub(crate) fn mark(&mut self) {
        for group in &mut self.groups {
            (group.since_mark, group.first, group.last, group.most) = (0, 0, 0, 0);
            group.times.reset();
        }
    }

    /// The counts of a group; zero for an unknown group.
    pub(crate) fn report(&self, name: &str) -> Seen {
        let group = self.groups.iter().find(|group| group.name == name);
        group.map(Group::seen).unwrap_or_default()
    }

    fn hook(&mut self, path: &[u8]) -> Option<Hook> {
        let mut words = std::str::from_utf8(path).ok()?.strip_prefix('/')?.split('/');
        let (manner, name) = (Manner::of(words.next()?)?, words.next()?);
        let known = self.groups.iter().position(|group| group.name == name);
        let group = known.unwrap_or(self.groups.len());
        if known.is_none() {
            self.groups.push(Group::new(name)?);
        }
        Some(Hook { manner, group, seen: Vec::new() })
    }
}

impl Hook {
    fn is_new(&mut self, number: u64) -> bool {
        let index = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if number >= MOST_NUMBERS {
            return true;
        }
        if self.seen.len() <= index {
            self.seen.resize(index + 1, 0);
        }
        let bit = 1 << (number % 64);
        self.seen.get_mut(index).is_some_and(|bits| {
            let is_new = *bits & bit == 0;
            *bits |= bit;
            is_new
        })
    }
}

impl Group {
    /// Times are recorded with a precision of one percent, and limited to an hour.
    fn new(name: &str) -> Option<Self> {
        let times = Histogram::new_with_bounds(1, 3_600_000_000, 2).ok()?;
        let (accepted, distinct, refused) = (0, 0, 0);
        let (since_mark, first, last, most) = (0, 0, 0, 0);
        let name = name.to_owned();
        Some(Self { name, accepted, distinct, refused, since_mark, first, last, times, most })
    }

    fn seen(&self) -> Seen {
        Seen {
            accepted: self.accepted,
            distinct: self.distinct,
            refused: self.refused,
            since_mark: self.since_mark,
            first: self.first,
            last: self.last,
            p50: self.times.value_at_quantile(0.5),
            p95: self.times.value_at_quantile(0.95),
            p99: self.times.value_at_quantile(0.99),
            most: self.most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_are_counted_by_group_with_their_duplicates() {
        let mut tally = Tally::default();
        let stamp = |number| Some(Stamp { number, sent: 1_000_000 });
        assert_eq!(tally.count(b"/good/a/0", stamp(70), 3_000_000), Some(Manner::Good));
        tally.count(b"/good/a/1", stamp(70), 5_000_000);
        tally.count(b"/good/a/1", stamp(70), 6_000_000);
        tally.count(b"/error/a/2", stamp(70), 6_000_000);
        assert_eq!(tally.count(b"/other", stamp(1), 1), None);
        let seen = tally.report("a");
        assert_eq!((seen.accepted, seen.distinct, seen.duplicates(), seen.refused), (3, 2, 1, 1));
        assert!((4000..4100).contains(&seen.p50) && seen.most == 5000, "{seen:?}");
        assert!((seen.rate() - 2.0 / 0.003).abs() < 1e-3);
        tally.mark();
        tally.count(b"/good/a/0", stamp(70), 9_000_000);
        let seen = tally.report("a");
        assert_eq!((seen.since_mark, seen.first, seen.duplicates()), (1, 9_000_000, 2));
    }

    #[test]
    fn a_failed_gateway_affects_all_hooks_of_its_group_only() {
        let mut tally = Tally::default();
        assert_eq!(tally.count(b"/gateway/a/0", None, 1), Some(Manner::Good));
        tally.failed.insert("a".to_owned(), Manner::Hang);
        assert_eq!(tally.count(b"/gateway/a/0", None, 1), Some(Manner::Hang));
        assert_eq!(tally.count(b"/gateway/b/1", None, 1), Some(Manner::Good));
    }

    #[test]
    fn a_storm_hook_accepts_again_after_the_storm() {
        let mut tally = Tally { is_stormy: true, ..Tally::default() };
        assert_eq!(tally.count(b"/storm/s/0", None, 1), Some(Manner::Storm));
        assert_eq!(tally.count(b"/reject/s/0", None, 1), Some(Manner::Reject));
        tally.is_stormy = false;
        assert_eq!(tally.count(b"/storm/s/0", None, 1), Some(Manner::Good));
    }
}
