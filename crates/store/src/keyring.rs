//! Secrets at rest. The first key of the ring seals them with AES-256-GCM; the key whose id a
//! sealed value has opens it.
//!
//! A sealed value consists of one byte with the length of the key's id, the id, a nonce of 12
//! bytes, and the ciphertext with its tag. Its row is bound as associated data, so a sealed value
//! that is copied into another row can't be opened there.

use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};

use crate::error::StoreError;
use crate::random;

/// Keys by id; the first one seals.
#[derive(Clone)]
pub struct Keyring(Arc<Vec<(String, Aes256Gcm)>>);

/// The length of a nonce (NIST SP 800-38D, section 8.2.2).
const NONCE: usize = 12;

impl Keyring {
    /// Makes a ring of keys, whose ids have 1 to 255 bytes; `None` when there is no key, or an id
    /// has another length.
    #[must_use]
    pub fn new(keys: Vec<(String, [u8; 32])>) -> Option<Self> {
        let fits = !keys.is_empty() && keys.iter().all(|(id, _)| (1..=255).contains(&id.len()));
        let cipher = |(id, key): (String, [u8; 32])| (id, Aes256Gcm::new(&key.into()));
        fits.then(|| Self(Arc::new(keys.into_iter().map(cipher).collect())))
    }

    /// The id of the key that seals.
    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or("", |(id, _)| id.as_str())
    }

    /// Seals a value for the row that `bound` identifies.
    pub fn seal(&self, plain: &[u8], bound: &[u8]) -> Result<Vec<u8>, StoreError> {
        let Some((id, cipher)) = self.0.first() else {
            return Err(StoreError::UnknownKey(String::new()));
        };
        let nonce: [u8; NONCE] = random::bytes()?;
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: bound })
            .map_err(|_| StoreError::WrongKey(id.clone()))?;
        let length = u8::try_from(id.len()).unwrap_or_default();
        Ok([&[length], id.as_bytes(), &nonce, &sealed].concat())
    }

    /// Opens a value that was sealed for the row that `bound` identifies.
    pub fn open(&self, sealed: &[u8], bound: &[u8]) -> Result<Vec<u8>, StoreError> {
        let inconsistent = || StoreError::Inconsistent { table: "webhooks", column: "sealed" };
        let (id, rest) = split_id(sealed).ok_or_else(inconsistent)?;
        let (nonce, text) = rest.split_at_checked(NONCE).ok_or_else(inconsistent)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| inconsistent())?;
        let known = self.0.iter().find(|(known, _)| known.as_bytes() == id);
        let name = String::from_utf8_lossy(id).into_owned();
        let Some((_, cipher)) = known else {
            return Err(StoreError::UnknownKey(name));
        };
        cipher
            .decrypt(&Nonce::from(nonce), Payload { msg: text, aad: bound })
            .map_err(|_| StoreError::WrongKey(name))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

fn split_id(sealed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = sealed.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(ids: &[&str]) -> Keyring {
        let key = |id: &&str| ((*id).to_owned(), [id.as_bytes()[0]; 32]);
        Keyring::new(ids.iter().map(key).collect()).unwrap()
    }

    #[test]
    fn sealed_value_opens_only_with_its_key_and_for_its_row() {
        let sealed = ring(&["a"]).seal(b"secret", b"row 1").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(ring(&["b", "a"]).open(&sealed, b"row 1").unwrap(), b"secret");
        assert!(matches!(ring(&["a"]).open(&sealed, b"row 2"), Err(StoreError::WrongKey(_))));
        assert!(matches!(ring(&["b"]).open(&sealed, b"row 1"), Err(StoreError::UnknownKey(_))));
        let other = Keyring::new(vec![("a".to_owned(), [9; 32])]).unwrap();
        assert!(matches!(other.open(&sealed, b"row 1"), Err(StoreError::WrongKey(_))));
    }

    #[test]
    fn open_when_the_value_is_damaged_fails() {
        for damaged in [&b""[..], b"\x05ab", b"\x01a", b"\x01a12345678901"] {
            assert!(ring(&["a"]).open(damaged, b"").is_err());
        }
    }
}
