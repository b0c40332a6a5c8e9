//! An owner's limit on the attempts a minute of a webhook, as people set it. `pace` keeps to it.

/// The largest limit on attempts a minute; the smallest is 1.
pub const MOST_RATE_LIMIT: u32 = 1_000_000;

/// What becomes of a webhook's limit on attempts a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RateLimit {
    /// It stays as it is: the drop-in API does not know it.
    #[default]
    Kept,
    /// It is this one; `None` takes it away.
    Set(Option<u32>),
}

impl RateLimit {
    /// Reads what a person writes: a number from 1 to [`MOST_RATE_LIMIT`], or nothing for no limit.
    ///
    /// # Errors
    ///
    /// [`BadRateLimit`]: it is another number, or none.
    pub fn parse(text: &str) -> Result<Self, BadRateLimit> {
        match text.trim() {
            "" => Ok(Self::Set(None)),
            text => {
                let limit = text.parse().map_err(|_| BadRateLimit)?;
                Self::of(limit)
            }
        }
    }

    /// A limit that is a number.
    ///
    /// # Errors
    ///
    /// [`BadRateLimit`]: it is not between 1 and [`MOST_RATE_LIMIT`].
    pub fn of(limit: u32) -> Result<Self, BadRateLimit> {
        let is_right = (1..=MOST_RATE_LIMIT).contains(&limit);
        is_right.then_some(Self::Set(Some(limit))).ok_or(BadRateLimit)
    }

    /// The limit of a webhook that had another one before.
    #[must_use]
    pub fn over(self, before: Option<u32>) -> Option<u32> {
        match self {
            Self::Kept => before,
            Self::Set(limit) => limit,
        }
    }
}

/// A limit on attempts a minute that is none.
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
