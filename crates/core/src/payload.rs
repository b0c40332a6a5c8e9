//! Payloads that were removed: events' data and answers' bodies, while the facts are kept.

/// The notification of an event whose data was removed: the JSON text null, which no event has.
pub const REMOVED: &str = "null";

/// Whether a notification is one whose data was removed.
#[must_use]
pub fn is_removed(notification: &str) -> bool {
    notification == REMOVED
}

/// Why a payload was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyRemoved {
    /// It was older than payloads are kept (`FANFARE_KEEP_PAYLOADS`).
    Age,
    /// A person asked for it.
    Erased,
}

impl WhyRemoved {
    /// Both reasons.
    pub const ALL: [Self; 2] = [Self::Age, Self::Erased];

    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Erased => "erased",
        }
    }

    /// The reason with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.code() == code)
    }

    /// What happened, for a person.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Age => "removed after the time for which payloads are kept",
            Self::Erased => "erased at a person's request",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_back_from_their_codes() {
        for why in WhyRemoved::ALL {
            assert_eq!(WhyRemoved::parse(why.code()), Some(why));
        }
        assert_eq!(WhyRemoved::parse("lost"), None);
    }

    #[test]
    fn only_null_is_a_removed_notification() {
        assert!(is_removed("null"));
        assert!(!is_removed(r#"{"Action":"tasks","UserAction":"edit","Name":null}"#));
    }
}
