//! The check that the provider made a signed token for this client (RFC 7519, OpenID Connect Core
//! 1.0).
//!
//! No claim of a token is used before its signature is verified. The token does not choose the
//! algorithm; [`ALGORITHMS`] lists the accepted ones. `none` is not among them. Neither are the
//! symmetric ones, because with those, every party that can read the provider's public key could
//! sign.

use chrono::{DateTime, Utc};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::claims::Claims;
use super::keys::KeySet;

/// The algorithms that are accepted.
pub(crate) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The accepted difference between the provider's clock and the console's, in seconds.
const LEEWAY: u32 = 30;
/// The longest token that is parsed, in bytes. All headers of a request have 64 KiB together.
const LONGEST: usize = 16 * 1024;

/// Why a token is not valid. The texts are sent in a header, so they have no quotes and nothing
/// from the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BadToken {
    /// The token is not a JWT, or it is not signed.
    #[error("the token is not a JWT signed with a public key algorithm")]
    Form,
    /// The algorithm is not allowed.
    #[error("the token is signed with an algorithm that is not allowed")]
    Algorithm,
    /// The token has another type, or requires an extension that is not supported.
    #[error("the token is of another kind than the one that is asked for here")]
    Kind,
    /// The provider does not have the key.
    #[error("the token is signed with a key that the provider does not have")]
    UnknownKey,
    /// The token was forged or changed.
    #[error("the token's signature is wrong")]
    Signature,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The token is not valid yet.
    #[error("the token is not valid yet; the clocks may differ")]
    Early,
    /// The token is from another issuer.
    #[error("the token is from another issuer")]
    Issuer,
    /// The token is for another audience.
    #[error("the token is for another audience")]
    Audience,
    /// The token belongs to another sign-in.
    #[error("the token belongs to another sign-in")]
    Nonce,
    /// A claim that it needs is missing or has the wrong form.
    #[error("the token lacks a claim that it must have")]
    Claim,
}

/// The expectations for an ID token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdToken<'a> {
    /// The expected issuer.
    pub(crate) issuer: &'a str,
    /// The console's client id.
    pub(crate) client_id: &'a str,
    /// The nonce of the sign-in.
    pub(crate) nonce: &'a str,
    pub(crate) now: DateTime<Utc>,
}

/// The expectations for an access token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessToken<'a> {
    /// The expected issuer.
    pub(crate) issuer: &'a str,
    /// The expected audience.
    pub(crate) audience: &'a str,
}

impl IdToken<'_> {
    /// Verifies an ID token (OpenID Connect Core 1.0, section 3.1.3.7) and returns its claims.
    pub(crate) fn check(&self, token: &str, keys: &KeySet) -> Result<Claims, BadToken> {
        let claims = verify(token, keys, self.issuer, self.client_id, &["jwt"])?;
        let text = |name: &str| claims.get(name).map(|value| value.as_str().unwrap_or_default());
        let is_ours = |nonce: &str| nonce.as_bytes().ct_eq(self.nonce.as_bytes()).into();
        if !text("nonce").is_some_and(is_ours) {
            return Err(BadToken::Nonce);
        }
        let many = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        let presenter = text("azp");
        if presenter.map_or(many, |presenter| presenter != self.client_id) {
            return Err(BadToken::Audience);
        }
        let issued = claims.get("iat").and_then(Value::as_f64).ok_or(BadToken::Claim)?;
        let latest = DateTime::timestamp(&self.now) + i64::from(LEEWAY);
        // A time that a float can't represent to the second is out of range in any case.
        #[expect(clippy::cast_precision_loss, reason = "seconds of our time fit a float exactly")]
        if issued > latest as f64 {
            return Err(BadToken::Early);
        }
        text("sub").filter(|it| !it.is_empty()).ok_or(BadToken::Claim)?;
        Ok(claims)
    }
}

impl AccessToken<'_> {
    /// Verifies an access token (RFC 9068, section 4) and returns its claims.
    pub(crate) fn check(&self, token: &str, keys: &KeySet) -> Result<Claims, BadToken> {
        let kinds = ["jwt", "at+jwt", "application/at+jwt"];
        let claims = verify(token, keys, self.issuer, self.audience, &kinds)?;
        // The token is bound to a key, and a bearer does not prove possession of it (RFC 7800).
        if claims.contains_key("cnf") { Err(BadToken::Kind) } else { Ok(claims) }
    }
}

fn verify(
    token: &str,
    keys: &KeySet,
    issuer: &str,
    audience: &str,
    kinds: &[&str],
) -> Result<Claims, BadToken> {
    if token.len() > LONGEST {
        return Err(BadToken::Form);
    }
    // The library can't parse the algorithm `none`.
    let header = decode_header(token).map_err(|_| BadToken::Form)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(BadToken::Algorithm);
    }
    if !is_of_kind(&header, kinds) {
        return Err(BadToken::Kind);
    }
    let key = keys.find(&header).ok_or(BadToken::UnknownKey)?;
    let mut expected = Validation::new(header.alg);
    expected.leeway = u64::from(LEEWAY);
    expected.validate_nbf = true;
    expected.set_issuer(&[issuer]);
    expected.set_audience(&[audience]);
    expected.set_required_spec_claims(&["exp", "iss", "aud"]);
    let claims = decode::<Claims>(token, key, &expected).map_err(|error| why(&error))?.claims;
    // The library would accept a list of issuers.
    if claims.get("iss").is_some_and(Value::is_string) { Ok(claims) } else { Err(BadToken::Issuer) }
}

/// Whether a token's header names one of these types, or none, and requires no extension (RFC 7515,
/// section 4.1.11).
fn is_of_kind(header: &Header, kinds: &[&str]) -> bool {
    let kind = header.typ.as_ref().map(|kind| kind.to_ascii_lowercase());
    kind.is_none_or(|kind| kinds.contains(&kind.as_str())) && header.crit.is_none()
}

fn why(error: &Error) -> BadToken {
    match error.kind() {
        // The last two occur if the key has another curve than the algorithm, or is not a valid
        // key.
        ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat | ErrorKind::InvalidEcdsaKey => {
            BadToken::Signature
        }
        ErrorKind::ExpiredSignature => BadToken::Expired,
        ErrorKind::ImmatureSignature => BadToken::Early,
        ErrorKind::InvalidIssuer => BadToken::Issuer,
        ErrorKind::InvalidAudience => BadToken::Audience,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => BadToken::Algorithm,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => BadToken::Claim,
        _ => BadToken::Form,
    }
}
