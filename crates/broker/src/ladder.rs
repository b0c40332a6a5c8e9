//! The delay ladder: lets a message wait in the broker for any time between a second and three days.
//!
//! Level `NN` of the ladder is a queue in which a message waits 2^NN seconds. The routing key
//! names the levels whose sum is its delay, from the highest down, and then the destination. The
//! bindings (see [`crate::topology`]) route a message from each level straight to the next level that
//! is named. Every queue has one fixed time to live, so the message at its head is always due first,
//! and no message waits behind one that is due later.

use std::time::Duration;

/// How many levels the ladder has. Level 17 waits 2^17 seconds, about 36 hours.
pub const LEVELS: u32 = 18;

/// The most one bits of a delay, and so the most queues that a message passes.
pub(crate) const BITS: u32 = 4;

/// The longest delay in seconds: the four highest levels one after the other, about 68 hours.
const LONGEST: u64 = 0b1111 << (LEVELS - BITS);

/// Events that come back to `fanfare.events` don't take the ladder but wait in one of two queues, for
/// 2^0 or 2^5 seconds: they are in no ledger, and so must not be in a queue that may be deleted.
pub(crate) const HELD_LEVELS: [u32; 2] = [0, 5];

/// The names of these queues.
pub(crate) const HELD_NAMES: [&str; 2] = ["fanfare.held.00", "fanfare.held.05"];

/// The exchange that the lowest level leads to: the wait is over.
pub(crate) const DUE: &str = "fanfare.due";

/// A delay that the ladder can make: whole seconds with at most four significant bits, hence at most
/// four queues on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delay {
    seconds: u64,
}

/// The destination of a message after its delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackTo {
    /// To `fanfare.retries`.
    Retries,
    /// To `fanfare.events`, by a queue for waiting events: after 1 s or 32 s, whichever is not shorter
    /// than the delay, and at most 32 s.
    Events,
}

impl Delay {
    /// The shortest delay of the ladder that is not shorter than `wait`.
    ///
    /// `wait` is rounded up to a whole second (at least one), then to four significant
    /// bits: 1, 2, … 16, 18, 20, … 32, 36, … seconds, by an eighth at most. A longer wait is cut to the
    /// longest delay of the ladder, about 68 hours.
    #[must_use]
    pub fn at_least(wait: Duration) -> Self {
        let whole = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        let wanted = whole.clamp(1, LONGEST);
        let step = 1_u64 << wanted.ilog2().saturating_sub(BITS - 1);
        Self { seconds: wanted.next_multiple_of(step).min(LONGEST) }
    }

    /// The shortest level that is not shorter than `wait`, for a wait that need not be exact. It costs
    /// the broker one queue, and many messages share the level.
    #[must_use]
    pub fn one_level(wait: Duration) -> Self {
        let seconds = Self::at_least(wait).seconds.next_power_of_two();
        Self { seconds: seconds.min(1 << (LEVELS - 1)) }
    }

    /// The time that a message with this delay waits.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The routing key: the levels of the delay from the highest down, then the way back.
    #[must_use]
    pub fn routing_key(self, back_to: BackTo) -> String {
        let levels = (0..LEVELS).rev().filter(|level| self.seconds >> level & 1 == 1);
        let mut words: Vec<String> = levels.map(level_word).collect();
        words.push(back_to.word().to_owned());
        words.join(".")
    }

    /// The queue in which a job waits first, which has the same name as the exchange to publish to.
    #[must_use]
    pub fn first_queue(self) -> &'static str {
        LEVEL_NAMES[self.seconds.ilog2() as usize]
    }

    /// The queue in which an event waits.
    pub(crate) fn held_queue(self) -> String {
        let [short, long] = HELD_LEVELS;
        held_name(if self.seconds <= 1 << short { short } else { long })
    }

    /// The exchange to publish to: that of the highest level.
    pub(crate) fn exchange(self) -> String {
        self.first_queue().to_owned()
    }
}

impl BackTo {
    pub(crate) const ALL: [Self; 2] = [Self::Retries, Self::Events];

    /// The last word of the routing key.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Retries => "retries",
            Self::Events => "events",
        }
    }
}

/// What stands for a level in a routing key.
pub(crate) fn level_word(level: u32) -> String {
    format!("{level:02}")
}

/// The names of the levels' queues, and of the exchanges that lead into them.
const LEVEL_NAMES: [&str; LEVELS as usize] = [
    "fanfare.delay.00",
    "fanfare.delay.01",
    "fanfare.delay.02",
    "fanfare.delay.03",
    "fanfare.delay.04",
    "fanfare.delay.05",
    "fanfare.delay.06",
    "fanfare.delay.07",
    "fanfare.delay.08",
    "fanfare.delay.09",
    "fanfare.delay.10",
    "fanfare.delay.11",
    "fanfare.delay.12",
    "fanfare.delay.13",
    "fanfare.delay.14",
    "fanfare.delay.15",
    "fanfare.delay.16",
    "fanfare.delay.17",
];

/// The name of a level's queue, and of the exchange that leads into it.
pub(crate) fn level_name(level: u32) -> String {
    LEVEL_NAMES[level as usize].to_owned()
}

/// The name of a queue for waiting events.
pub(crate) fn held_name(level: u32) -> String {
    format!("fanfare.held.{level:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waiting_events_have_a_queue_for_each_of_their_levels() {
        assert_eq!(HELD_LEVELS.map(held_name), HELD_NAMES);
    }

    #[test]
    fn delays_have_four_significant_bits() {
        let steps: Vec<u64> = (1..=41)
            .map(|wait| Delay::at_least(Duration::from_secs(wait)).duration().as_secs())
            .collect();
        let mut distinct = steps.clone();
        distinct.dedup();
        let exact: Vec<u64> = (1..=16).collect();
        assert_eq!(distinct[..16], exact);
        assert_eq!(distinct[16..], [18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44]);
    }

    #[test]
    fn the_ends_of_the_ladder() {
        let longest = Duration::from_secs(LONGEST);
        assert_eq!(Delay::at_least(Duration::ZERO).duration(), Duration::from_secs(1));
        assert_eq!(Delay::at_least(Duration::from_millis(1001)).duration().as_secs(), 2);
        assert_eq!(Delay::at_least(longest).duration(), longest);
        assert_eq!(Delay::at_least(Duration::MAX).duration(), longest);
    }

    #[test]
    fn a_wait_that_need_not_be_exact_has_one_level() {
        let level = |seconds| Delay::one_level(Duration::from_secs(seconds)).duration().as_secs();
        assert_eq!([0, 1, 2, 3, 5, 8, 9].map(level), [1, 1, 2, 4, 8, 8, 16]);
        assert_eq!(level(LONGEST), 1 << (LEVELS - 1));
    }

    #[test]
    fn the_key_names_the_levels_and_the_way_back() {
        let six = Delay::at_least(Duration::from_secs(6));
        assert_eq!(six.routing_key(BackTo::Retries), "02.01.retries");
        assert_eq!(six.exchange(), "fanfare.delay.02");
    }

    proptest! {
        #[test]
        fn never_sooner_and_at_most_an_eighth_later(millis in 0_u64..=LONGEST * 1000) {
            let wait = Duration::from_millis(millis);
            let delay = Delay::at_least(wait);
            let whole = millis.div_ceil(1000).max(1);
            prop_assert!(delay.duration() >= wait);
            prop_assert!(8 * delay.seconds <= 9 * whole);
            prop_assert!(delay.seconds.count_ones() <= BITS);
        }

        #[test]
        fn the_key_reads_back_as_the_delay(seconds in 1_u64..=LONGEST) {
            let delay = Delay::at_least(Duration::from_secs(seconds));
            let key = delay.routing_key(BackTo::Events);
            let levels: Vec<u32> = key.split('.').filter_map(|word| word.parse().ok()).collect();
            prop_assert!(levels.is_sorted_by(|higher, lower| higher > lower));
            // As far apart as the bindings lead.
            prop_assert!(levels.windows(2).all(|pair| pair[0] - pair[1] < BITS));
            prop_assert_eq!(levels.iter().map(|level| 1 << level).sum::<u64>(), delay.seconds);
        }
    }
}
