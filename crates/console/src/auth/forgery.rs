//! Requests that another site has a browser send: how they are told from those of our own pages.
//!
//! Browsers say where a request comes from (`Sec-Fetch-Site`, `Origin`), which scripts can't
//! change. Forms of pages also bring a text that only pages of the same session know.

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// One of our own pages, or the user directly.
    Us,
    /// Another site.
    Elsewhere,
    /// It does not say: no browser of today.
    Unknown,
}

/// Where a request comes from.
pub(crate) fn sender(headers: &HeaderMap) -> Sender {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // The browser compares with what it sees as our name, which a proxy may change for us.
    if let Some(site) = text("sec-fetch-site") {
        let us = matches!(site, "same-origin" | "none");
        return if us { Sender::Us } else { Sender::Elsewhere };
    }
    let Some(origin) = text("origin") else {
        return Sender::Unknown;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    let us = host.is_some_and(|host| {
        text(header::HOST.as_str()).is_some_and(|ours| ours.eq_ignore_ascii_case(host))
    });
    if us { Sender::Us } else { Sender::Elsewhere }
}

/// Whether a request only asks.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What forms of the session with this token bring. The token can't be had from it.
pub(crate) fn form_token(session: &str) -> String {
    let digest = Sha256::new().chain_update(b"fanfare form\0").chain_update(session).finalize();
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

/// Whether a form is one of the session's own.
pub(crate) fn is_form_of(session: &str, brought: &str) -> bool {
    let expected = form_token(session);
    // Compared without telling by the time taken where they differ.
    expected.len() == brought.len()
        && expected.bytes().zip(brought.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
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
        assert_eq!(sender(&headers.iter().map(header).collect()), expected, "{headers:?}");
    }

    #[test]
    fn browsers_tell_where_a_request_comes_from() {
        check(&[], Sender::Unknown);
        check(&[("sec-fetch-site", "same-origin")], Sender::Us);
        check(&[("sec-fetch-site", "same-site")], Sender::Elsewhere);
        check(&[("sec-fetch-site", "cross-site")], Sender::Elsewhere);
        check(&[("host", "a:8080"), ("origin", "http://a:8080")], Sender::Us);
        check(&[("host", "a:8080"), ("origin", "http://a:8081")], Sender::Elsewhere);
        check(&[("host", "a"), ("origin", "https://a.example")], Sender::Elsewhere);
        check(&[("host", "null"), ("origin", "null")], Sender::Elsewhere);
    }

    #[test]
    fn a_form_belongs_to_one_session() {
        assert!(is_form_of("a", &form_token("a")));
        assert!(!is_form_of("a", &form_token("b")));
        assert!(!is_form_of("a", ""));
    }
}
