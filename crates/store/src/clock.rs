//! The database's clock, which a process reads without a query.
//!
//! Retries, leases and deadlines are compared with times that the database wrote, so all processes
//! use its clock instead of their own. A sample is the answer to `clock_timestamp()`, with the time
//! that the answer took. Between samples the operating system's monotonic clock counts on, so a
//! local clock that is wrong, or is set, changes nothing.

mod sampling;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};

/// The time for which a sample is used. Monotonic clocks drift apart by some milliseconds in it.
const KEPT: Duration = Duration::from_mins(1);

/// The difference between two samples from which on one of the clocks must have been set.
const TOLERANCE: TimeDelta = TimeDelta::milliseconds(50);

/// The difference between a process's own clock and the database's from which on it is logged.
const REPORTED: TimeDelta = TimeDelta::seconds(5);

/// The database's clock. It is cheap to clone, and all clones share their samples.
#[derive(Debug, Clone, Default)]
pub struct DatabaseClock(Arc<Mutex<Samples>>);

impl DatabaseClock {
    /// The database's time now. Before the first sample it is the process's own time, so a process
    /// must take a sample before it decides anything; see
    /// [`Store::sample_clock`](crate::Store::sample_clock).
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.lock().best().map_or_else(own_time, |sample| sample.time_at(Instant::now()))
    }

    /// The time by which the database's clock is ahead of the process's own; `None` before the
    /// first sample.
    #[must_use]
    pub fn offset(&self) -> Option<TimeDelta> {
        let database = self.lock().best()?.time_at(Instant::now());
        Some(database - own_time())
    }

    /// Adds a sample: the database's time was `time` at some instant from `asked` to `answered`.
    pub(crate) fn note(&self, asked: Instant, answered: Instant, time: DateTime<Utc>) {
        let mut samples = self.lock();
        samples.add(Sample { asked, answered, time });
        let Some(database) = samples.best().map(|best| best.time_at(Instant::now())) else {
            return;
        };
        let offset = database - own_time();
        let is_off = offset.abs() > REPORTED;
        if std::mem::replace(&mut samples.is_off, is_off) == is_off {
            return;
        }
        let offset_s = offset.as_seconds_f64();
        if is_off {
            tracing::warn!(
                offset_s,
                "this machine's clock differs from the database's by more than 5 s; the database's \
                 is used, but the times of these log lines are wrong: see to the time service"
            );
        } else {
            tracing::info!(offset_s, "this machine's clock agrees with the database's again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn own_time() -> DateTime<Utc> {
    SystemTime::now().into()
}

#[derive(Debug, Default)]
struct Samples {
    /// The newest is the last one.
    taken: VecDeque<Sample>,
    /// Whether the log says that the process's own clock is wrong.
    is_off: bool,
}

impl Samples {
    fn add(&mut self, new: Sample) {
        self.taken.retain(|old| new.answered.saturating_duration_since(old.answered) < KEPT);
        // A clock was set, the machine was asleep, or another server answers: the older samples are
        // worth nothing.
        if self.best().is_some_and(|best| best.contradicts(&new)) {
            self.taken.clear();
        }
        self.taken.push_back(new);
    }

    /// The most exact sample: the one whose answer took the shortest time.
    fn best(&self) -> Option<&Sample> {
        self.taken.iter().min_by_key(|sample| sample.took())
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    asked: Instant,
    answered: Instant,
    /// The database's time, somewhere between the two.
    time: DateTime<Utc>,
}

impl Sample {
    fn took(&self) -> Duration {
        self.answered.saturating_duration_since(self.asked)
    }

    /// The most probable time of the database at an instant. It assumes that the way there takes as
    /// long as the way back.
    fn time_at(&self, instant: Instant) -> DateTime<Utc> {
        let middle = self.asked + self.took() / 2;
        let ahead = delta(instant.saturating_duration_since(middle));
        self.time + ahead - delta(middle.saturating_duration_since(instant))
    }

    /// Whether the two samples can't both be true.
    fn contradicts(&self, other: &Self) -> bool {
        let apart = (self.time_at(other.answered) - other.time_at(other.answered)).abs();
        apart > delta(self.took() / 2) + delta(other.took() / 2) + TOLERANCE
    }
}

fn delta(time: Duration) -> TimeDelta {
    TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn time(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + second, 0).unwrap()
    }

    fn sample(asked: Instant, took: Duration, time: DateTime<Utc>) -> Sample {
        Sample { asked, answered: asked + took, time }
    }

    #[test]
    fn time_counts_on_from_the_middle_of_a_sample() {
        let start = Instant::now();
        let sample = sample(start, 2 * SECOND, time(0));
        assert_eq!(sample.time_at(start + SECOND), time(0));
        assert_eq!(sample.time_at(start + 6 * SECOND), time(5));
        assert_eq!(sample.time_at(start), time(-1));
    }

    #[test]
    fn sample_with_the_shortest_answer_is_used_for_a_minute() {
        let start = Instant::now();
        let mut samples = Samples::default();
        samples.add(sample(start, SECOND, time(0)));
        samples.add(sample(start + 10 * SECOND, SECOND / 100, time(10)));
        samples.add(sample(start + 20 * SECOND, SECOND, time(20)));
        assert_eq!(samples.best().unwrap().time, time(10));
        samples.add(sample(start + 75 * SECOND, SECOND, time(75)));
        assert_eq!(samples.best().unwrap().time, time(20));
    }

    #[test]
    fn clock_that_was_set_voids_older_samples() {
        let start = Instant::now();
        let mut samples = Samples::default();
        samples.add(sample(start, SECOND / 100, time(0)));
        samples.add(sample(start + SECOND, SECOND / 10, time(100)));
        assert_eq!(samples.best().unwrap().time, time(100));
        assert_eq!(samples.taken.len(), 1);
    }

    #[test]
    fn slow_answer_contradicts_nothing_that_it_may_agree_with() {
        let start = Instant::now();
        let quick = sample(start, SECOND / 100, time(0));
        // The database read its clock at the very beginning, or the very end.
        for time in [time(1), time(9)] {
            assert!(!quick.contradicts(&sample(start + SECOND, 8 * SECOND, time)));
        }
        assert!(quick.contradicts(&sample(start + SECOND, 8 * SECOND, time(10))));
    }
}
