//! Which revisions of the directory have been seen, and which are missing.
//!
//! The report server counts its changes without leaving a number out, so a number that is passed
//! over is a document that is late or lost. A snapshot says everything, so it fills all gaps below.
//! Nobody can be judged by a directory of which the beginning is missing: it is complete with the
//! first snapshot, or with every document from revision 1 on.

/// The furthest that a document of one user or role may be ahead of the newest revision.
pub const MAX_JUMP: i64 = 1_000_000;

/// Why every event is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The directory's beginning is missing.
    Incomplete,
    /// A snapshot was refused: what it took from anybody is not known.
    SnapshotRefused,
}

impl Hold {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Incomplete, Self::SnapshotRefused];

    /// The code that is stored and measured.
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
    /// Whether the beginning is there too; once it is, it stays so.
    pub complete: bool,
}

impl<T> Default for Revisions<T> {
    fn default() -> Self {
        Self { newest: 0, gaps: Vec::new(), complete: false }
    }
}

impl<T: Copy> Revisions<T> {
    /// Whether a document may have this revision. One mistaken revision would make every later one
    /// an old one, so a user's or role's must not jump by more than [`MAX_JUMP`], and a snapshot's
    /// must not be beyond `now` in milliseconds since 1970, which a counter may have begun with. An
    /// administrator has `accepted` revisions up to some number.
    #[must_use]
    pub fn is_credible(&self, revision: i64, is_single: bool, now: i64, accepted: i64) -> bool {
        let most = if is_single { self.newest.saturating_add(MAX_JUMP) } else { now };
        revision <= most.max(accepted)
    }

    /// Notes a document of a user or role.
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

    /// Notes a snapshot.
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
    fn the_beginning_is_there_with_a_snapshot_or_with_all_from_the_first_on() {
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
        assert!(later.complete, "what is missing in between does not undo it");
        later = seen(&[413]);
        later.see_snapshot(400);
        assert!(later.complete);
    }

    #[test]
    fn a_revision_that_is_too_far_ahead_is_not_believed() {
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
