//! Protection against cross-site request forgery: whether a request comes from a page of the
//! console.
//!
//! Browsers say where a request comes from (`Sec-Fetch-Site`, `Origin`), and scripts can't change
//! that. Forms also send a token that only pages of the same session have.

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::site::{Origin, Site};

/// The origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A page of the console, or the user directly.
    SameOrigin,
    /// A page of the same host, perhaps of another program on another port. Such a page can't read
    /// a form's token, so this is enough for a form that sends the token or that needs no session.
    SameHost,
    /// Another site.
    CrossSite,
    /// The request does not say. Current browsers always do.
    Unknown,
}

/// The origin of a request.
pub(crate) fn sender(site: &Site, headers: &HeaderMap) -> Sender {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let origin = text(header::ORIGIN.as_str());
    if origin.is_some_and(|origin| site.is_url(origin)) {
        return Sender::SameOrigin;
    }
    // The browser compares with the host that it sees, which a proxy may change on the way here.
    if let Some(relation) = text("sec-fetch-site") {
        let us = matches!(relation, "same-origin" | "none");
        return if us { Sender::SameOrigin } else { Sender::CrossSite };
    }
    match origin.map(|origin| site.origin(headers, origin)) {
        None => Sender::Unknown,
        Some(Origin::Ours) => Sender::SameOrigin,
        Some(Origin::SameHost) => Sender::SameHost,
        Some(Origin::Other) => Sender::CrossSite,
    }
}

/// Whether a method only reads.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Makes the form token of the session with this access token. The access token can't be derived
/// from it.
pub(crate) fn form_token(session: &str) -> String {
    let digest = Sha256::new().chain_update(b"fanfare form\0").chain_update(session).finalize();
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

/// Whether a form comes from a page of this session.
pub(crate) fn is_form_of(session: &str, brought: &str) -> bool {
    form_token(session).as_bytes().ct_eq(brought.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], expected: Sender) {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let site = Site::new("https://fanfare.example".parse().ok());
        let headers = headers.iter().map(header).collect();
        assert_eq!(sender(&site, &headers), expected, "{headers:?}");
    }

    #[test]
    fn headers_of_browsers_show_where_a_request_comes_from() {
        check(&[], Sender::Unknown);
        check(&[("sec-fetch-site", "same-origin")], Sender::SameOrigin);
        check(&[("sec-fetch-site", "same-site")], Sender::CrossSite);
        check(&[("sec-fetch-site", "cross-site")], Sender::CrossSite);
        check(&[("host", "a:8080"), ("origin", "http://a:8080")], Sender::SameOrigin);
        check(&[("host", "a:8080"), ("origin", "http://a:8081")], Sender::CrossSite);
        check(&[("host", "a"), ("origin", "https://a.example")], Sender::CrossSite);
        check(&[("host", "null"), ("origin", "null")], Sender::CrossSite);
        check(&[("host", "a:443"), ("origin", "https://a")], Sender::SameOrigin);
        check(&[("host", "a"), ("origin", "http://a:8081")], Sender::SameHost);
        let cross = ("sec-fetch-site", "cross-site");
        check(&[("host", "a"), ("origin", "http://a"), cross], Sender::CrossSite);
    }

    #[test]
    fn the_configured_address_is_the_same_origin_behind_any_proxy() {
        let ours = ("origin", "https://fanfare.example");
        check(&[("host", "127.0.0.1:8080"), ours], Sender::SameOrigin);
        check(&[ours, ("sec-fetch-site", "cross-site")], Sender::SameOrigin);
        check(&[("host", "b"), ("origin", "http://fanfare.example")], Sender::CrossSite);
    }

    #[test]
    fn a_form_belongs_to_one_session() {
        assert!(is_form_of("a", &form_token("a")));
        assert!(!is_form_of("a", &form_token("b")));
        assert!(!is_form_of("a", ""));
    }
}
