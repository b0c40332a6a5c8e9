//! Signatures: a receiver verifies with them that a notification is authentic and unchanged.
//!
//! Every POST has two. `ms-signature` is the one that receivers for ASP.NET `WebHooks` verify. The
//! other is that of Standard Webhooks 1.0 (section "Signature scheme"), which also covers the id
//! and the time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::ids::DeliveryId;
use crate::webhook::Secret;

/// The header with the signature over the body alone.
pub const MS_SIGNATURE: &str = "ms-signature";
/// The header with the delivery's id.
pub const WEBHOOK_ID: &str = "webhook-id";
/// The header with the attempt's time in Unix seconds.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures over id, time and body.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// How far a signature's time may be from the receiver's clock, in seconds, as in the libraries of
/// Standard Webhooks.
pub const TOLERANCE_S: i64 = 5 * 60;

/// The value of `ms-signature`: `sha256=` and 64 upper-case hex digits.
#[must_use]
pub fn ms_signature(secret: &Secret, body: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |half: u8| DIGITS[usize::from(half & 0xf)];
    let digits = mac(secret, &[body]).into_iter().flat_map(|byte| [digit(byte >> 4), digit(byte)]);
    ["sha256="].into_iter().flat_map(str::chars).chain(digits).collect()
}

/// The value of `webhook-signature`: one `v1,<base64>` for each valid secret.
#[must_use]
pub fn webhook_signature(
    secrets: &[Secret],
    id: DeliveryId,
    timestamp: i64,
    body: &[u8],
) -> String {
    let head = format!("{id}.{timestamp}.");
    let one = |secret| format!("v1,{}", STANDARD.encode(mac(secret, &[head.as_bytes(), body])));
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Whether an `ms-signature` header is valid for this body.
#[must_use]
pub fn verify_ms_signature(secret: &Secret, body: &[u8], header: &str) -> bool {
    ms_signature(secret, body).as_bytes().ct_eq(header.as_bytes()).into()
}

/// Whether one of the entries of a `webhook-signature` header is valid. `id` and `timestamp` are
/// the values of their headers.
#[must_use]
pub fn verify_webhook_signature(
    secret: &Secret,
    id: &str,
    timestamp: &str,
    body: &[u8],
    header: &str,
) -> bool {
    let head = format!("{id}.{timestamp}.");
    let expected = format!("v1,{}", STANDARD.encode(mac(secret, &[head.as_bytes(), body])));
    let is_right = |entry: &str| expected.as_bytes().ct_eq(entry.as_bytes()).into();
    header.split(' ').any(is_right)
}

/// The secret in the form that a library of Standard Webhooks expects: `whsec_` and base64.
#[must_use]
pub fn library_secret(secret: &Secret) -> String {
    format!("whsec_{}", STANDARD.encode(secret.reveal().as_bytes()))
}

fn mac(secret: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    let key = secret.reveal().as_bytes();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length (RFC 2104, section 2)")
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        "0123456789abcdef0123456789abcdef".parse().unwrap()
    }

    /// The documentation's sample bodies of a real server, with their signatures.
    #[test]
    fn signatures_equal_those_of_the_report_server() {
        let vectors = [
            (
                &include_bytes!("../vectors/v2-task-execute-attempt1.body")[..],
                "sha256=17BDA3D82726A20C2E9810BC0AA7A06E5E0306FA809A3E9FB4E152CA55A01475",
            ),
            (
                &include_bytes!("../vectors/v3-task-execute-attempt2.body")[..],
                "sha256=346094FC7CF1EE1F2AD0D1108B21FBB14BB663E54F1D232BB7E33A9B1E81E0AF",
            ),
            (
                &include_bytes!("../vectors/v5-as-v2-but-compact.body")[..],
                "sha256=67355CC88F44D1A6FFC4F2C13A6521F7D71C20A750B309C97C24C86440336B5B",
            ),
        ];
        for (body, expected) in vectors {
            assert_eq!(ms_signature(&secret(), body), expected);
            assert!(verify_ms_signature(&secret(), body, expected));
            assert!(!verify_ms_signature(&secret(), &body[1..], expected));
        }
    }

    #[test]
    fn the_event_of_the_compact_sample_renders_to_the_same_bytes() {
        let body = include_str!("../vectors/v5-as-v2-but-compact.body");
        let start = body.find("[{").unwrap() + 1;
        let notification = &body[start..body.len() - 2];
        let id: DeliveryId = "6d2f6f0b7c1e4c0c9a4f2b8d3e5a7c91".parse().unwrap();
        let properties = crate::webhook::Properties::default();
        assert_eq!(crate::notification::render(id, 1, &properties, [notification]), body);
    }

    #[test]
    fn each_valid_secret_signs_during_a_rotation() {
        let newer: Secret = "fedcba9876543210fedcba9876543210".parse().unwrap();
        let id: DeliveryId = "6d2f6f0b7c1e4c0c9a4f2b8d3e5a7c91".parse().unwrap();
        let secrets = [newer, secret()];
        let header = webhook_signature(&secrets, id, 1_700_000_000, b"{}");
        let text = id.to_string();
        for secret in &secrets {
            assert!(verify_webhook_signature(secret, &text, "1700000000", b"{}", &header));
            assert!(!verify_webhook_signature(secret, &text, "1700000001", b"{}", &header));
        }
    }
}
