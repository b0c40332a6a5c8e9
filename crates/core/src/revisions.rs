//! Which revisions of the directory have been seen, and which are missing.
//!
//! The report server counts its changes without leaving a number out, so a number that is passed
//! over is a document that is late or lost. A snapshot says everything, so it fills all gaps below.

/// Revisions that are missing, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap<T> {
    /// The first one.
    pub first: i64,
    /// The last one.
    pub last: i64,
    /// When the gap was noticed.
    pub noticed: T,
}

/// What has been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revisions<T> {
    /// The newest revision seen; 0 before the first.
    pub newest: i64,
    /// What is missing below it, in order, without overlaps.
    pub gaps: Vec<Gap<T>>,
}

impl<T: Copy> Revisions<T> {
    /// Notes a document of a user or role.
    pub fn see(&mut self, revision: i64, now: T) {
        if revision > self.newest {
            if revision > self.newest + 1 {
                let (first, last) = (self.newest + 1, revision - 1);
                self.gaps.push(Gap { first, last, noticed: now });
            }
            self.newest = revision;
            return;
        }
        let around = |gap: Gap<T>| {
            if !(gap.first..=gap.last).contains(&revision) {
                return vec![gap];
            }
            let parts = [Gap { last: revision - 1, ..gap }, Gap { first: revision + 1, ..gap }];
            parts.into_iter().filter(|part| part.first <= part.last).collect()
        };
        self.gaps = std::mem::take(&mut self.gaps).into_iter().flat_map(around).collect();
    }

    /// Notes a snapshot.
    pub fn see_snapshot(&mut self, revision: i64) {
        self.newest = self.newest.max(revision);
        self.gaps.retain_mut(|gap| {
            gap.first = gap.first.max(revision + 1);
            gap.first <= gap.last
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What is missing, counted out: everything up to the newest, but what was seen and what is
    /// below a snapshot.
    fn missing(seen: &[(bool, i64)]) -> Vec<i64> {
        let newest = seen.iter().map(|(_, revision)| *revision).max().unwrap_or(0);
        let base = seen.iter().filter(|(snapshot, _)| *snapshot).map(|(_, r)| *r).max();
        let seen: BTreeSet<i64> = seen.iter().map(|(_, revision)| *revision).collect();
        (base.unwrap_or(0) + 1..=newest).filter(|revision| !seen.contains(revision)).collect()
    }

    proptest! {
        #[test]
        fn what_is_missing_is_what_was_passed_over(
            seen in prop::collection::vec((prop::bool::weighted(0.1), 1i64..30), 0..40)
        ) {
            let mut revisions = Revisions { newest: 0, gaps: Vec::new() };
            for (index, (snapshot, revision)) in seen.iter().enumerate() {
                if *snapshot {
                    revisions.see_snapshot(*revision);
                } else {
                    revisions.see(*revision, index);
                }
                let gaps: Vec<i64> =
                    revisions.gaps.iter().flat_map(|gap| gap.first..=gap.last).collect();
                prop_assert_eq!(gaps, missing(&seen[..=index]));
            }
        }
    }

    #[test]
    fn a_gap_keeps_the_time_at_which_it_was_noticed() {
        let mut revisions = Revisions { newest: 0, gaps: Vec::new() };
        revisions.see(5, 1);
        revisions.see(3, 2);
        let gap = |first, last| Gap { first, last, noticed: 1 };
        assert_eq!(revisions.gaps, [gap(1, 2), gap(4, 4)]);
        revisions.see_snapshot(9);
        assert_eq!(revisions, Revisions { newest: 9, gaps: Vec::new() });
    }
}
