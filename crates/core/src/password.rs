//! The rules for passwords of local accounts.

use thiserror::Error;

/// The fewest characters of a new password.
pub const MIN_CHARACTERS: usize = 12;
/// The most bytes of a password. The time for hashing grows with the length, so without a bound one
/// request could keep a core busy.
pub const MAX_BYTES: usize = 1024;

/// Why a password is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WeakPassword {
    /// It is too easy to guess.
    #[error("the password has {0} characters; give one of at least {MIN_CHARACTERS}")]
    TooShort(usize),
    /// It takes too long to hash.
    #[error("the password has {0} bytes; give one of at most {MAX_BYTES}")]
    TooLong(usize),
}

/// Checks a new password.
pub fn check(password: &str) -> Result<(), WeakPassword> {
    if password.len() > MAX_BYTES {
        return Err(WeakPassword::TooLong(password.len()));
    }
    let characters = password.chars().count();
    if characters < MIN_CHARACTERS { Err(WeakPassword::TooShort(characters)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_have_12_characters_and_at_most_1024_bytes() {
        assert_eq!(check(""), Err(WeakPassword::TooShort(0)));
        assert_eq!(check("elevencharä"), Err(WeakPassword::TooShort(11)));
        assert_eq!(check("twelve chars"), Ok(()));
        assert_eq!(check(&"ä".repeat(512)), Ok(()));
        assert_eq!(check(&"a".repeat(1025)), Err(WeakPassword::TooLong(1025)));
    }
}
