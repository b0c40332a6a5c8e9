//! How deferred deliveries are spread over time, so that a large backlog does not come back at
//! once.

use std::time::Duration;

/// The longest time over which a backlog is spread.
const LONGEST_SPREAD: Duration = Duration::from_hours(1);

/// Deliveries that were deferred and have not come back yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backlog {
    deferred: u32,
}

impl Backlog {
    /// A delivery was deferred.
    pub(crate) fn add(&mut self) {
        self.deferred = self.deferred.saturating_add(1);
    }

    /// A deferred delivery came back.
    pub(crate) fn came_back(&mut self) {
        self.deferred = self.deferred.saturating_sub(1);
    }

    /// Whether nothing is deferred.
    pub(crate) fn is_empty(self) -> bool {
        self.deferred == 0
    }

    /// How much longer than the shortest wait the next deferral takes: `each` for every delivery
    /// that is deferred already, times `chance`, a random number from 0 up to 1.
    pub(crate) fn spread(self, each: Duration, chance: f64) -> Duration {
        let spread = each.saturating_mul(self.deferred).min(LONGEST_SPREAD);
        spread.mul_f64(chance.clamp(0.0, 1.0))
    }
}
