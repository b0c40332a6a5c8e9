//! When the database's disk will be full, by what it holds and what is added each day.
//!
//! What retention drops stops growing once its oldest day has the age up to which it is kept: then as
//! much goes as comes.

/// What one kind of data adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Bytes that a day adds.
    pub per_day: u64,
    /// The number of days until as much is dropped as is added; `None` if nothing is dropped.
    pub days: Option<u64>,
}

/// The number of days after which a disk is "never" full: no installation runs for so long.
const NEVER: u64 = 36_500;

/// The number of whole days until `disk` bytes are used up; `None` when they never are, or not within
/// a hundred years.
#[must_use]
pub fn full_in_days(used: u64, disk: u64, growth: &[Growth]) -> Option<u64> {
    let mut growth = growth.to_vec();
    growth.sort_by_key(|one| one.days.unwrap_or(u64::MAX));
    let (mut free, mut passed) = (disk.checked_sub(used).filter(|free| *free > 0), 0);
    // In each stretch of days, the same kinds grow.
    for stretch in 0..growth.len() {
        let Some(left) = free else { break };
        let per_day: u64 = growth.iter().skip(stretch).map(|one| one.per_day).sum();
        let end = growth.get(stretch).and_then(|one| one.days).unwrap_or(u64::MAX);
        let days = end.saturating_sub(passed);
        match left.checked_div(per_day) {
            Some(lasts) if lasts < days => return Some(passed + lasts).filter(|day| *day < NEVER),
            _ => {}
        }
        free = Some(left.saturating_sub(per_day.saturating_mul(days)));
        passed = passed.max(end);
    }
    free.is_none().then_some(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grows(per_day: u64, days: Option<u64>) -> Growth {
        Growth { per_day, days }
    }

    #[test]
    fn disk_is_full_when_growth_has_used_what_is_free() {
        assert_eq!(full_in_days(100, 200, &[grows(10, None)]), Some(10));
        assert_eq!(full_in_days(100, 209, &[grows(10, None)]), Some(10));
        assert_eq!(full_in_days(200, 200, &[grows(10, None)]), Some(0));
        assert_eq!(full_in_days(300, 200, &[]), Some(0));
    }

    #[test]
    fn disk_is_never_full_when_retention_drops_as_much_before() {
        assert_eq!(full_in_days(100, 200, &[grows(10, Some(9))]), None);
        assert_eq!(full_in_days(100, 200, &[grows(10, Some(11))]), Some(10));
        assert_eq!(full_in_days(100, 200, &[grows(10, Some(0)), grows(0, None)]), None);
        // The keys go on growing after the events have stopped.
        assert_eq!(full_in_days(0, 100, &[grows(1, None), grows(9, Some(5))]), Some(55));
        assert_eq!(full_in_days(0, u64::MAX, &[grows(1, None)]), None);
    }

    proptest! {
        /// It is the day on which a simulation day by day is full.
        #[test]
        fn day_is_that_of_a_simulation(
            disk in 1_u64..5000,
            kinds in prop::collection::vec((0_u64..50, prop::option::of(0_u64..200)), 0..5),
        ) {
            let growth: Vec<Growth> = kinds.iter().map(|(n, days)| grows(*n, *days)).collect();
            let mut used = 0;
            let full = (0..6000).find(|day| {
                used += growth.iter()
                    .filter(|one| one.days.is_none_or(|end| *day < end))
                    .map(|one| one.per_day).sum::<u64>();
                used > disk
            });
            prop_assert_eq!(full_in_days(0, disk, &growth), full);
        }
    }
}
