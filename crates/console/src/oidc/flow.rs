//! One sign-in at the provider: from when a browser is sent there until it comes back.
//!
//! All that has to be kept meanwhile is one random text, in a cookie of the browser that began:
//! `state` (which the browser brings back), `nonce` (which the ID token holds) and the PKCE verifier
//! (which the code is exchanged with) are digests of it. None tells any of the others. So whoever
//! has another browser's address of return gets nowhere with it, and no console has to remember
//! anything.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fanfare_store::StoreError;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::Config;
use super::metadata::Metadata;
use crate::auth::token::Token;

/// How long it may take, in seconds: as long as providers' codes and forms are good for.
pub(crate) const MAX_AGE_SECONDS: u64 = 15 * 60;
/// Where browsers come back to.
pub(crate) const CALLBACK: &str = "/sign-in/callback";
/// The longest path that one may want to go on to: cookies are small.
const LONGEST_PATH: usize = 1500;

/// A sign-in that has begun.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    secret: String,
    next: String,
}

impl Flow {
    /// Begins one, which goes on to this path.
    pub(crate) fn begin(next: &str) -> Result<Self, StoreError> {
        let next = if next.len() > LONGEST_PATH { "" } else { next };
        Ok(Self { secret: Token::random()?.reveal().to_owned(), next: next.to_owned() })
    }

    /// What the cookie holds.
    pub(crate) fn cookie(&self) -> String {
        format!("{}.{}", self.secret, BASE64_URL_SAFE_NO_PAD.encode(&self.next))
    }

    /// Reads a cookie; `None` when there is something else in it.
    pub(crate) fn of_cookie(text: &str) -> Option<Self> {
        let (secret, next) = text.split_once('.')?;
        let next = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(next).ok()?).ok()?;
        (secret.len() >= 43).then(|| Self { secret: secret.to_owned(), next })
    }

    /// The path to go on to, which may be anything.
    pub(crate) fn next(&self) -> &str {
        &self.next
    }

    /// Whether a browser came back from this very sign-in.
    pub(crate) fn is_of(&self, state: &str) -> bool {
        self.derived("state").as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// What the ID token has to hold.
    pub(crate) fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// What the code is exchanged with (RFC 7636, section 4.1).
    pub(crate) fn verifier(&self) -> String {
        self.derived("verifier")
    }

    /// Where to send the browser; `force_login` has the provider ask who it is even if it knows.
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
    /// Where browsers come back to, as the provider has to know it.
    pub(crate) fn callback(&self) -> String {
        self.page(CALLBACK)
    }

    /// Where to send a browser that has signed out here; it comes back to this path.
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
    fn a_flow_comes_back_from_its_cookie() {
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
    fn what_is_sent_tells_nothing_of_the_rest() {
        let flow = Flow::begin("").unwrap();
        let texts = [flow.secret.clone(), flow.derived("state"), flow.nonce(), flow.verifier()];
        for (at, one) in texts.iter().enumerate() {
            assert!(one.len() == 43 && !texts[..at].contains(one));
        }
    }

    #[test]
    fn a_path_that_is_too_long_for_a_cookie_is_forgotten() {
        let path = format!("/webhooks?search={}", "a".repeat(5000));
        assert_eq!(Flow::begin(&path).unwrap().next(), "");
    }
}
