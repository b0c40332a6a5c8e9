//! Random bytes from the operating system, which can't be guessed.
//!
//! They are for secrets, keys, tokens and marks. Random numbers that only spread load come from
//! elsewhere.

use fanfare_core::webhook::Secret;

use crate::error::StoreError;

/// Random bytes.
///
/// # Errors
///
/// [`StoreError::Random`]
pub fn bytes<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Random(error.to_string()))?;
    Ok(bytes)
}

/// A new secret for a webhook.
///
/// # Errors
///
/// [`StoreError::Random`]
pub fn secret() -> Result<Secret, StoreError> {
    // Twice the number that is needed, since some bytes are skipped.
    let random: [u8; 128] = bytes()?;
    Secret::generate(&random).ok_or_else(|| StoreError::Random("too few were usable".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_32_characters_and_differ() {
        let (one, two) = (secret().unwrap(), secret().unwrap());
        assert_eq!(one.reveal().len(), 32);
        assert_ne!(one, two);
    }
}
