//! An owner's limit on the attempts a minute of a webhook, as people set it. `pace` enforces it.

/// The largest limit on attempts a minute; the smallest is 1.
pub const MOST_RATE_LIMIT: u32 = 1_000_000;

/// The change of a webhook's limit on attempts a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RateLimit {
    /// The limit stays the same: the drop-in API has no member for it.
    #[default]
    Kept,
    /// The new limit; `None` removes it.
    Set(Option<u32>),
}

impl RateLimit {
    /// Parses the text that a person enters: a number from 1 to [`MOST_RATE_LIMIT`]. An empty text
    /// removes the limit.
    ///
    /// # Errors
    ///
    /// The text is not such a number.
    pub fn parse(text: &str) -> Result<Self, BadRateLimit> {
        match text.trim() {
            "" => Ok(Self::Set(None)),
            text => {
                let limit = text.parse().map_err(|_| BadRateLimit)?;
                Self::of(limit)
            }
        }
    }

    /// Sets a limit.
    ///
    /// # Errors
    ///
    /// The limit is not between 1 and [`MOST_RATE_LIMIT`].
    pub fn of(limit: u32) -> Result<Self, BadRateLimit> {
        let is_right = (1..=MOST_RATE_LIMIT).contains(&limit);
        is_right.then_some(Self::Set(Some(limit))).ok_or(BadRateLimit)
    }

    /// The limit after the change, of a webhook that had the limit `before`.
    #[must_use]
    pub fn over(self, before: Option<u32>) -> Option<u32> {
        match self {
            Self::Kept => before,
            Self::Set(limit) => limit,
        }
    }
}

/// A limit on attempts a minute is out of range, or not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The limit on requests a minute must be a whole number from 1 to 1000000, or nothing.")]
pub struct BadRateLimit;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_whole_number_within_its_bounds_or_nothing() {
        for (text, limit) in
            [("", None), (" ", None), ("1", Some(1)), (" 1000000 ", Some(1_000_000))]
        {
            assert_eq!(RateLimit::parse(text), Ok(RateLimit::Set(limit)), "{text:?}");
        }
        for text in ["0", "-1", "1.5", "1000001", "99999999999", "many"] {
            assert_eq!(RateLimit::parse(text), Err(BadRateLimit), "{text:?}");
        }
        assert_eq!(RateLimit::Kept.over(Some(7)), Some(7));
        assert_eq!(RateLimit::Set(None).over(Some(7)), None);
    }
}
