//! Publisher accounts: the report servers that may publish over HTTP. Each has one access token,
//! which is shown once and valid until it is revoked.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fanfare_core::audit::Author;
use fanfare_core::name::Name;
use fanfare_store::sessions::TokenDigest;
use fanfare_store::{Store, StoreError, random};
use sha2::{Digest as _, Sha256};

/// The beginning of every publisher's token. A scanner for leaked secrets recognises it.
const PREFIX: &str = "fpub_";

/// A publisher's access token, with 256 random bits. It is printed nowhere but for the operator who
/// adds the account.
pub struct PublisherToken(String);

impl PublisherToken {
    fn random() -> Result<Self, StoreError> {
        let random: [u8; 32] = random::bytes()?;
        Ok(Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random))))
    }

    /// Returns the token's text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// The digest of a token, by which the database knows it.
#[must_use]
pub fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

/// Adds a publisher account and returns its token. Returns `None` when there is an account of this
/// name.
///
/// # Errors
///
/// The account could not be stored.
pub async fn add(
    store: &Store,
    name: &Name,
    author: &Author,
) -> Result<Option<PublisherToken>, StoreError> {
    let token = PublisherToken::random()?;
    let is_new = store.publisher_add(name, &digest(token.reveal()), author).await?;
    Ok(is_new.then_some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_256_bits_and_a_prefix_and_differ() {
        let (one, two) = (PublisherToken::random().unwrap(), PublisherToken::random().unwrap());
        assert_eq!(one.reveal().len(), PREFIX.len() + 43);
        assert!(one.reveal().starts_with(PREFIX) && one.reveal() != two.reveal());
    }
}
