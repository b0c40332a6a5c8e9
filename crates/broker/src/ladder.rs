//! The delay ladder: how a message waits in the broker for any time between a second and three days.
//!
//! Level `NN` of the ladder is a queue in which a message waits 2^NN seconds. The routing key
//! spells the delay in binary, and the bindings (see [`crate::topology`]) lead a message through
//! the queues of its one bits, from the highest down, and past those of its zero bits. Every queue
//! has one fixed time, so the message at its head is always the next one due: no message waits
//! behind a later one.

use std::time::Duration;

/// How many levels the ladder has. Level 17 waits 2^17 seconds, about 36 hours.
pub const LEVELS: u32 = 18;

/// The one bits that a delay may have, and so the most queues on its way.
const BITS: u32 = 4;

/// The longest delay in seconds: the four highest levels one after the other, about 68 hours.
const LONGEST: u64 = 0b1111 << (LEVELS - BITS);

/// The exchange that the lowest level leads to: the wait is over.
pub(crate) const DUE: &str = "fanfare.due";

/// A delay that the ladder can make: whole seconds with at most four significant bits, hence at most
/// four queues on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delay {
    seconds: u64,
}

/// Where a message comes back when its delay is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackTo {
    /// To `fanfare.retries`.
    Retries,
    /// To `fanfare.events`.
    Events,
}

impl Delay {
    /// The shortest delay of the ladder that is not shorter than `wait`.
    ///
    /// `wait` is rounded up to a whole second (at least one), then to four significant
    /// bits: 1, 2, … 16, 18, 20, … 32, 36, … seconds, by an eighth at most. What is longer than the
    /// ladder is cut to its longest delay, about 68 hours.
    #[must_use]
    pub fn at_least(wait: Duration) -> Self {
        let whole = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        let wanted = whole.clamp(1, LONGEST);
        let step = 1_u64 << wanted.ilog2().saturating_sub(BITS - 1);
        Self { seconds: wanted.next_multiple_of(step).min(LONGEST) }
    }

    /// The time that a message with this delay waits.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The routing key: the delay's bits from the highest level down, then the way back.
    #[must_use]
    pub fn routing_key(self, back_to: BackTo) -> String {
        let mut key = String::with_capacity(2 * LEVELS as usize + 8);
        for level in (0..LEVELS).rev() {
            key.push_str(if self.seconds >> level & 1 == 1 { "1." } else { "0." });
        }
        key.push_str(back_to.word());
        key
    }

    /// The exchange to publish to: that of the highest one bit, so that no zero bits are walked.
    pub(crate) fn exchange(self) -> String {
        level_name(self.seconds.ilog2())
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

/// The name of a level's queue and of its exchange.
pub(crate) fn level_name(level: u32) -> String {
    format!("fanfare.delay.{level:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn the_key_spells_the_bits_and_the_way_back() {
        let six = Delay::at_least(Duration::from_secs(6));
        assert_eq!(six.routing_key(BackTo::Retries), "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.1.0.retries");
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
            let bits: String = key.trim_end_matches("events").replace('.', "");
            prop_assert_eq!(bits.len(), LEVELS as usize);
            prop_assert_eq!(u64::from_str_radix(&bits, 2), Ok(delay.seconds));
        }
    }
}
