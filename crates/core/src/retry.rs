//! Retry delays: exponential, with jitter.
//!
//! Only this module uses the `backoff` crate, and only its exponential policy.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// How often and for how long a delivery is attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The delay before the second attempt.
    pub first: Duration,
    /// No delay is longer than this.
    pub max_delay: Duration,
    /// The number of attempts after which the delivery is dead.
    pub attempts: u32,
    /// The age of a series after which no retry is planned. A retry that its endpoint's limits
    /// defer beyond it is given up soon afterwards.
    pub deadline: Duration,
}

/// 12 attempts over 2.7 days: 5 s, 25 s, 2 min, 10 min, 52 min, 4.3 h, then every 12 h.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            max_delay: Duration::from_hours(12),
            attempts: 12,
            deadline: Duration::from_hours(72),
        }
    }
}

/// The factor between two delays. With it, twelve attempts with the default first delay and cap
/// span about three days, the time for which a receiver may be down.
const MULTIPLIER: f64 = 5.0;

/// The part by which a delay varies to either side, so that deliveries that fail together are not
/// retried together.
const JITTER: f64 = 0.2;

impl RetryPolicy {
    /// The delay after `tries` attempts (from 1). `chance` is a random number from 0 up to 1.
    #[must_use]
    pub fn delay(&self, tries: u32, chance: f64) -> Duration {
        let factor = 1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
        self.nominal(tries).mul_f64(factor).min(self.max_delay)
    }

    /// The delay after `tries` attempts without jitter.
    #[must_use]
    pub fn nominal(&self, tries: u32) -> Duration {
        let first = self.first.min(self.max_delay);
        let mut policy = ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            randomization_factor: 0.0,
            multiplier: MULTIPLIER,
            max_interval: self.max_delay,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        // The delays are constant once they reach the cap, long before 64 steps.
        let delay = (0..tries.clamp(1, 64)).filter_map(|_| policy.next_backoff()).last();
        // The crate may add a nanosecond, and the result must not depend on chance.
        delay.map_or(self.max_delay, whole_millis)
    }
}

/// Rounds to the nearest millisecond.
fn whole_millis(delay: Duration) -> Duration {
    let half = Duration::from_micros(500);
    Duration::from_millis(u64::try_from((delay + half).as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_schedule_spans_about_three_days() {
        let policy = RetryPolicy::default();
        let delays: Vec<u64> = (1..policy.attempts).map(|n| policy.nominal(n).as_secs()).collect();
        assert_eq!(delays[..7], [5, 25, 125, 625, 3125, 15625, 43200]);
        let hours = delays.iter().sum::<u64>() / 3600;
        assert!((60..72).contains(&hours), "{hours} hours");
    }

    proptest! {
        #[test]
        fn delays_stay_near_the_schedule_and_below_the_cap(
            first in 1u64..100_000, cap in 1u64..10_000_000, tries in 0u32..100, chance in 0.0f64..1.0,
        ) {
            let policy = RetryPolicy {
                first: Duration::from_millis(first),
                max_delay: Duration::from_millis(cap),
                ..RetryPolicy::default()
            };
            let (nominal, delay) = (policy.nominal(tries), policy.delay(tries, chance));
            prop_assert!(delay <= policy.max_delay && delay >= nominal.mul_f64(0.79));
            prop_assert!(policy.nominal(tries + 1) >= nominal);
        }
    }
}
