//! The revisions of the directory that have arrived, and the gaps between them.
//!
//! The report server numbers its changes without gaps, so a missing number is a document that is
//! late or lost. A snapshot replaces the whole directory, so it fills all gaps below. Access can't
//! be decided by a directory whose beginning is missing: it is complete after the first snapshot,
//! or after every document from revision 1 on.

/// The most by which the revision of a user or role may be ahead of the newest revision.
pub const MAX_JUMP: i64 = 1_000_000;

/// Why every event is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The directory's beginning is missing.
    Incomplete,
    /// A snapshot was refused. It may have revoked any grant.
    SnapshotRefused,
}

impl Hold {
    /// All causes of a hold.
    pub const ALL: [Self; 2] = [Self::Incomplete, Self::SnapshotRefused];

    /// The code in the database and in metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::SnapshotRefused => "snapshot-refused",
        }
    }

    /// The hold with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.code() == code)
    }
}

/// Consecutive revisions that are missing, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap<T> {
    pub first: i64,
    pub last: i64,
    /// When the gap was noticed.
    pub noticed: T,
}

/// The revisions that have arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revisions<T> {
    /// The newest revision that has arrived; 0 before the first.
    pub newest: i64,
    /// The gaps below it, in order, without overlaps.
    pub gaps: Vec<Gap<T>>,
    /// Whether the directory has been complete once. It stays so despite later gaps.
    pub complete: bool,
}

impl<T> Default for Revisions<T> {
    fn default() -> Self {
        Self { newest: 0, gaps: Vec::new(), complete: false }
    }
}

impl<T: Copy> Revisions<T> {
    /// Whether a document may have this revision. A mistaken revision that is too large would make
    /// all later documents look old. So the revision of a user or role must not jump by more than
    /// [`MAX_JUMP`], and that of a snapshot must not exceed `now`, in milliseconds since 1970,
    /// since a counter may be based on the clock. Revisions up to `accepted` were confirmed by an
    /// administrator.
    #[must_use]
    pub fn is_credible(&self, revision: i64, is_single: bool, now: i64, accepted: i64) -> bool {
        let most = if is_single { self.newest.saturating_add(MAX_JUMP) } else { now };
        revision <= most.max(accepted)
    }

    /// Records the arrival of a document of a user or role.
    pub fn see(&mut self, revision: i64, now: T) {
        if revision > self.newest {
            if revision > self.newest + 1 {
                let (first, last) = (self.newest + 1, revision - 1);
                self.gaps.push(Gap { first, last, noticed: now });
            }
            self.newest = revision;
            self.complete |= self.gaps.is_empty();
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
        self.complete |= self.newest > 0 && self.gaps.is_empty();
    }

    /// Records the arrival of a snapshot.
    pub fn see_snapshot(&mut self, revision: i64) {
        self.newest = self.newest.max(revision);
        self.complete = true;
        self.gaps.retain_mut(|gap| {
            gap.first = gap.first.max(revision.saturating_add(1));
            gap.first <= gap.last
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The missing revisions, by counting: all up to the newest, except those that arrived and
    /// those up to a snapshot.
    fn missing(seen: &[(bool, i64)]) -> Vec<i64> {
        let newest = seen.iter().map(|(_, revision)| *revision).max().unwrap_or(0);
        let base = seen.iter().filter(|(snapshot, _)| *snapshot).map(|(_, r)| *r).max();
        let seen: BTreeSet<i64> = seen.iter().map(|(_, revision)| *revision).collect();
        (base.unwrap_or(0) + 1..=newest).filter(|revision| !seen.contains(revision)).collect()
    }

    proptest! {
        #[test]
        fn gaps_are_the_revisions_that_did_not_arrive(
            seen in prop::collection::vec((prop::bool::weighted(0.1), 1i64..30), 0..40)
        ) {
            let mut revisions = Revisions::default();
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
        let mut revisions = Revisions::default();
        revisions.see(5, 1);
        revisions.see(3, 2);
        let gap = |first, last| Gap { first, last, noticed: 1 };
        assert_eq!(revisions.gaps, [gap(1, 2), gap(4, 4)]);
        revisions.see_snapshot(9);
        assert_eq!(revisions, Revisions { newest: 9, gaps: Vec::new(), complete: true });
    }

    #[test]
    fn a_directory_is_complete_after_a_snapshot_or_all_revisions_from_the_first() {
        let seen = |documents: &[i64]| {
            let mut revisions = Revisions::default();
            for revision in documents {
                revisions.see(*revision, ());
            }
            revisions
        };
        assert!(!seen(&[]).complete);
        assert!(!seen(&[0]).complete);
        assert!(!seen(&[413]).complete);
        assert!(!seen(&[3, 1]).complete);
        assert!(seen(&[1]).complete);
        assert!(seen(&[3, 1, 2]).complete);
        let mut later = seen(&[1, 4]);
        assert!(later.complete, "a later gap does not make it incomplete");
        later = seen(&[413]);
        later.see_snapshot(400);
        assert!(later.complete);
    }

    #[test]
    fn a_revision_that_is_too_far_ahead_is_not_credible() {
        let mut revisions: Revisions<()> = Revisions::default();
        let now = 1_800_000_000_000;
        assert!(revisions.is_credible(MAX_JUMP, true, now, 0));
        assert!(!revisions.is_credible(MAX_JUMP + 1, true, now, 0));
        assert!(revisions.is_credible(MAX_JUMP + 1, true, now, MAX_JUMP + 1));
        assert!(revisions.is_credible(now, false, now, 0));
        assert!(!revisions.is_credible(now + 1, false, now, 0));
        assert!(!revisions.is_credible(i64::MAX, true, now, now));
        revisions.see_snapshot(i64::MAX);
        assert!(revisions.is_credible(i64::MAX, true, now, 0));
    }
}
