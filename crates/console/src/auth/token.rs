//! Access tokens: random texts of 256 bits. The database stores only their digests.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fanfare_store::sessions::TokenDigest;
use fanfare_store::{StoreError, random};
use sha2::{Digest as _, Sha256};

/// An access token. It is never printed.
pub(crate) struct Token(String);

impl Token {
    /// Makes a new token.
    pub(crate) fn random() -> Result<Self, StoreError> {
        let random: [u8; 32] = random::bytes()?;
        Ok(Self(BASE64_URL_SAFE_NO_PAD.encode(random)))
    }

    /// Returns the token's text.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The digest that the database stores.
    pub(crate) fn digest(&self) -> TokenDigest {
        digest(&self.0)
    }
}

/// Makes the digest of a token from a request, to find it in the database.
pub(crate) fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_256_bits_and_differ() {
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(one.reveal().len(), 43);
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one.digest(), digest(one.reveal()));
    }
}
