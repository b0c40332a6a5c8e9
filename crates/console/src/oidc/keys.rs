//! The signing keys of a provider (RFC 7517).

use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;

/// The keys of a provider that can verify tokens.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    verifier: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a key set. Returns `None` if the document is not a key set. Keys of other types and
    /// for other uses are ignored, as the standard requires.
    pub(crate) fn parse(document: &[u8]) -> Option<Self> {
        let Document { keys } = serde_json::from_slice(document).ok()?;
        Some(Self(keys.into_iter().filter_map(Key::read).collect()))
    }

    /// Finds the key that a token names. If a token names none, it must be the only key of its
    /// type.
    pub(crate) fn find(&self, header: &Header) -> Option<&DecodingKey> {
        let fits = |key: &&Key| {
            key.verifier.family() == header.alg.family()
                && key.algorithm.is_none_or(|algorithm| algorithm == header.alg)
                && (header.kid.is_none() || header.kid == key.id)
        };
        let mut found = self.0.iter().filter(fits);
        let first = found.next()?;
        let only = header.kid.is_some() || found.next().is_none();
        only.then_some(&first.verifier)
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
        let checks = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let algorithm = match common.key_algorithm {
            Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
            None => None,
        };
        let verifier = DecodingKey::from_jwk(&jwk).ok()?;
        // Every party that knows a symmetric key can sign with it.
        let public = verifier.family() != AlgorithmFamily::Hmac;
        (signs && checks && public).then_some(Self { id: jwk.common.key_id, algorithm, verifier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ed(id: Option<&str>) -> Value {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id })
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn header(algorithm: Algorithm, id: Option<&str>) -> Header {
        Header { kid: id.map(str::to_owned), ..Header::new(algorithm) }
    }

    #[test]
    fn a_key_is_found_by_id_and_type() {
        let keys = set(&[ed(Some("a")), ed(Some("b"))]);
        assert!(keys.find(&header(Algorithm::EdDSA, Some("b"))).is_some());
        assert!(keys.find(&header(Algorithm::EdDSA, Some("c"))).is_none());
        assert!(keys.find(&header(Algorithm::RS256, Some("b"))).is_none());
        // With two keys of the type, a token must name one.
        assert!(keys.find(&header(Algorithm::EdDSA, None)).is_none());
        let one = set(&[ed(Some("a"))]);
        assert!(one.find(&header(Algorithm::EdDSA, None)).is_some());
    }

    #[test]
    fn keys_that_are_not_for_verifying_are_ignored() {
        let with = |name: &str, value: Value| {
            let mut key = ed(Some("a"));
            key[name] = value;
            key
        };
        for key in [
            with("use", json!("enc")),
            with("key_ops", json!(["sign"])),
            with("alg", json!("RSA-OAEP")),
            json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "a" }),
            json!({ "kty": "RSA", "kid": "a" }),
            json!("nonsense"),
        ] {
            assert_eq!(set(std::slice::from_ref(&key)).0.len(), 0, "{key}");
            assert_eq!(set(&[key.clone(), ed(Some("b"))]).0.len(), 1, "{key}");
        }
        assert!(KeySet::parse(b"{}").is_none());
    }
}
