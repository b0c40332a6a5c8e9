//! Which delivery ends its workers: decided from attempts that began and were never recorded.
//!
//! A worker that is killed leaves such attempts of everything that it had under way. One of them may
//! be to blame, or none. So a delivery of which this is true again and again is attempted alone; what
//! ends workers even then is given up.

/// Attempts of one entry that began and were never recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unrecorded {
    /// All of them.
    pub tries: i32,
    /// Those that were made while their worker did nothing else.
    pub alone: i32,
}

/// How to attempt a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Side by side with others.
    None,
    /// While the worker does nothing else.
    Alone,
    /// Not any more: it ended workers that did nothing else.
    Poison,
}

/// A delivery whose attempts were not recorded so often is attempted alone.
pub const TRIES: i32 = 3;

/// A delivery whose attempts alone were not recorded so often is given up. More than one or two, since
/// a worker can be killed for any reason.
pub const TRIES_ALONE: i32 = 3;

impl Unrecorded {
    /// How to make the next attempt.
    #[must_use]
    pub fn suspicion(self) -> Suspicion {
        if self.alone >= TRIES_ALONE {
            Suspicion::Poison
        } else if self.tries >= TRIES {
            Suspicion::Alone
        } else {
            Suspicion::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspicion(tries: i32, alone: i32) -> Suspicion {
        Unrecorded { tries, alone }.suspicion()
    }

    #[test]
    fn only_what_ended_workers_alone_is_poison() {
        assert_eq!(suspicion(0, 0), Suspicion::None);
        assert_eq!(suspicion(2, 0), Suspicion::None);
        assert_eq!(suspicion(3, 0), Suspicion::Alone);
        assert_eq!(suspicion(1_000, 2), Suspicion::Alone);
        assert_eq!(suspicion(6, 3), Suspicion::Poison);
    }
}
