//! Poison: detecting a delivery that ends its workers, by attempts that began and were never
//! recorded.
//!
//! A worker that is killed leaves an unrecorded attempt for every delivery that it had under way.
//! One of them may be the cause, or none. So a delivery with several unrecorded attempts is
//! attempted solo. If its worker still ends, it is given up.

/// The attempts of one row of the ledger that began and were never recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unrecorded {
    /// All such attempts, solo ones included.
    pub tries: i32,
    /// The solo attempts among them.
    pub alone: i32,
}

/// How a delivery may be attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Concurrently with others.
    None,
    /// Solo: while nothing else is under way in its worker.
    Alone,
    /// Never again: even solo attempts ended their workers.
    Poison,
}

/// The number of unrecorded attempts from which a delivery is attempted solo.
pub const TRIES: i32 = 3;

/// The number of unrecorded solo attempts from which a delivery is given up. It is more than one or
/// two, since a worker can be killed for any reason.
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
    fn a_delivery_is_poison_only_after_three_unrecorded_solo_attempts() {
        assert_eq!(suspicion(0, 0), Suspicion::None);
        assert_eq!(suspicion(2, 0), Suspicion::None);
        assert_eq!(suspicion(3, 0), Suspicion::Alone);
        assert_eq!(suspicion(1_000, 2), Suspicion::Alone);
        assert_eq!(suspicion(6, 3), Suspicion::Poison);
    }
}
