//! One sign-in at the provider, from sending the browser there until it comes back.
//!
//! The only state is one random text, in a cookie of the browser. `state` (which the browser brings
//! back), `nonce` (which the ID token has) and the PKCE verifier (which the code is exchanged with)
//! are digests of it, and none of them reveals another. So the callback address of one browser is
//! useless in another, and no console has to store anything.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fanfare_store::StoreError;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::Config;
use super::metadata::Metadata;
use crate::auth::token::Token;

/// The longest duration of a sign-in, in seconds: about as long as codes and forms of providers are
/// valid.
pub(crate) const MAX_AGE_SECONDS: u64 = 15 * 60;
/// The path to which browsers come back.
pub(crate) const CALLBACK: &str = "/sign-in/callback";
/// The longest path, in bytes, to continue with after the sign-in. The limit exists because cookies
/// are small.
const LONGEST_PATH: usize = 1500;

/// A sign-in that has begun.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    secret: String,
    next: String,
}

impl Flow {
    /// Begins a sign-in, after which the browser continues with the path `next`.
    pub(crate) fn begin(next: &str) -> Result<Self, StoreError> {
        let next = if next.len() > LONGEST_PATH { "" } else { next };
        Ok(Self { secret: Token::random()?.reveal().to_owned(), next: next.to_owned() })
    }

    /// The value of the cookie.
    pub(crate) fn cookie(&self) -> String {
        format!("{}.{}", self.secret, BASE64_URL_SAFE_NO_PAD.encode(&self.next))
    }

    /// Reads the value of a cookie. Returns `None` when it is something else.
    pub(crate) fn of_cookie(text: &str) -> Option<Self> {
        let (secret, next) = text.split_once('.')?;
        let next = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(next).ok()?).ok()?;
        (secret.len() >= 43).then(|| Self { secret: secret.to_owned(), next })
    }

    /// The path to continue with. It is not validated.
    pub(crate) fn next(&self) -> &str {
        &self.next
    }

    /// Whether a browser came back from this sign-in.
    pub(crate) fn is_of(&self, state: &str) -> bool {
        self.derived("state").as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// The nonce that the ID token must have.
    pub(crate) fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// The PKCE verifier with which the code is exchanged (RFC 7636, section 4.1).
    pub(crate) fn verifier(&self) -> String {
        self.derived("verifier")
    }

    /// The provider's address to which the browser is sent. With `force_login`, the provider asks
    /// the user to sign in even if the user has a session there.
    pub(crate) fn address(&self, metadata: &Metadata, config: &Config, force_login: bool) -> Url {
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier()));
        let mut url = metadata.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &config.client_id)
            .append_pair("redirect_uri", &config.callback())
            .append_pair("scope", &config.scopes)
            .append_pair("state", &self.derived("state"))
            .append_pair("nonce", &self.nonce())
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(force_login.then_some(("prompt", "login")));
        url
    }

    fn derived(&self, what: &str) -> String {
        let digest = Sha256::new()
            .chain_update(b"fanfare sign-in\0")
            .chain_update(what)
            .chain_update(b"\0")
            .chain_update(&self.secret)
            .finalize();
        BASE64_URL_SAFE_NO_PAD.encode(digest)
    }
}

impl Config {
    /// The address to which browsers come back, as it is registered at the provider.
    pub(crate) fn callback(&self) -> String {
        self.page(CALLBACK)
    }

    /// The provider's address for signing out. The browser comes back to `path`.
    pub(crate) fn sign_out(&self, metadata: &Metadata, path: &str) -> Option<Url> {
        let mut url = metadata.end_session.clone()?;
        url.query_pairs_mut()
            .append_pair("client_id", &self.client_id)
            .append_pair("post_logout_redirect_uri", &self.page(path));
        Some(url)
    }

    fn page(&self, path: &str) -> String {
        format!("{}{path}", self.console_url.origin().ascii_serialization())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_reads_back_from_its_cookie() {
        let flow = Flow::begin("/webhooks?search=ä").unwrap();
        let back = Flow::of_cookie(&flow.cookie()).unwrap();
        assert!(back == flow);
        assert!(back.is_of(&flow.derived("state")));
        assert!(!back.is_of(&Flow::begin("").unwrap().derived("state")));
        assert!(!back.is_of(""));
        for nonsense in ["", ".", "a.b", "a", "ä.ö"] {
            assert!(Flow::of_cookie(nonsense).is_none(), "{nonsense}");
        }
    }

    #[test]
    fn state_nonce_and_verifier_reveal_nothing_about_each_other() {
        let flow = Flow::begin("").unwrap();
        let texts = [flow.secret.clone(), flow.derived("state"), flow.nonce(), flow.verifier()];
        for (at, one) in texts.iter().enumerate() {
            assert!(one.len() == 43 && !texts[..at].contains(one));
        }
    }

    #[test]
    fn a_path_that_is_too_long_for_a_cookie_is_dropped() {
        let path = format!("/webhooks?search={}", "a".repeat(5000));
        assert_eq!(Flow::begin(&path).unwrap().next(), "");
    }
}
