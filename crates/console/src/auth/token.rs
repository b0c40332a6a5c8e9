//! Access tokens: random texts of 256 bits, of which the database keeps a digest.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fanfare_store::sessions::TokenDigest;
use fanfare_store::{StoreError, random};
use sha2::{Digest as _, Sha256};

/// An access token; never printed.
pub(crate) struct Token(String);

impl Token {
    /// A new one.
    pub(crate) fn random() -> Result<Self, StoreError> {
        let random: [u8; 32] = random::bytes()?;
        Ok(Self(BASE64_URL_SAFE_NO_PAD.encode(random)))
    }

    /// The token itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// What the database knows of it.
    pub(crate) fn digest(&self) -> TokenDigest {
        digest(&self.0)
    }
}

/// What the database knows of a token that somebody brings.
pub(crate) fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_of_256_bits_and_new_each_time() {
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(one.reveal().len(), 43);
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one.digest(), digest(one.reveal()));
    }
}
