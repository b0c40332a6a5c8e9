//! Fingerprints of confidential values.

use sha2::{Digest as _, Sha256};

use crate::ids::WebhookId;

/// The beginning of what is hashed, so that the digest is of no use elsewhere.
const PURPOSE: &[u8] = b"fanfare audit\0";

/// The fingerprint of a secret or of a header's value: `sha256:` and the first 8 hex digits of
/// SHA-256 over a purpose, the webhook's id (16 bytes) and the value.
///
/// It shows whether a value changed, and whether it is one that the reader knows. With the
/// webhook's id in it, two webhooks with the same secret don't show that they have it. The value
/// can't be computed from 32 bits, but a value that is easy to guess can be confirmed.
#[must_use]
pub fn fingerprint(webhook: WebhookId, value: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(PURPOSE);
    hasher.update(webhook.0.as_bytes());
    hasher.update(value.as_bytes());
    let digest = hasher.finalize();
    let first = digest.iter().take(4).fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
    format!("sha256:{first:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_fingerprint_depends_on_the_value_and_the_webhook() {
        let (one, other) = (WebhookId(Uuid::from_u128(1)), WebhookId(Uuid::from_u128(2)));
        let shown = fingerprint(one, "0123456789abcdef0123456789abcdef");
        // By Python: hashlib.sha256(b"fanfare audit\0" + id.bytes + secret).hexdigest()[:8]
        assert_eq!(shown, "sha256:437b8d61");
        assert_ne!(shown, fingerprint(other, "0123456789abcdef0123456789abcdef"));
        assert_ne!(shown, fingerprint(one, "0123456789abcdef0123456789abcdeF"));
    }
}
