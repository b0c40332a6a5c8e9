//! The destination of a request, and the bytes of its request line.
//!
//! The host comes from the URL library, because it determines where to connect. The library also
//! rewrites paths and queries (dot segments, `'`, an empty query), which a receiver may compare or
//! sign. So these come from the text as it was registered. Only characters that RFC 3986 does not
//! allow are percent-encoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_core::webhook::WebhookUri;
use hyper::Uri;
use hyper::header::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

/// The characters that RFC 3986 does not allow in a path or a query, except brackets. Those are not
/// allowed there either, but common clients send them (`?a[]=1`), and servers accept them.
const REFUSED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A URL to send to: parsed, and as it was written.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    url: &'a Url,
    text: &'a str,
}

impl<'a> From<&'a Url> for Destination<'a> {
    fn from(url: &'a Url) -> Self {
        Self { url, text: url.as_str() }
    }
}

impl<'a> From<&'a WebhookUri> for Destination<'a> {
    fn from(uri: &'a WebhookUri) -> Self {
        Self { url: uri.url(), text: uri.as_str() }
    }
}

impl<'a> Destination<'a> {
    pub(crate) fn url(&self) -> &'a Url {
        self.url
    }

    /// The URI to send to, with `echo` added to its query if it is given. Returns `None` for a URL
    /// that can't be sent in an HTTP request.
    pub(crate) fn uri(&self, echo: Option<&str>) -> Option<Uri> {
        let host = self.url.host_str()?;
        let authority = match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let mut target = request_target(self.text);
        if let Some(echo) = echo {
            let separator = match target.split_once('?') {
                None => "?",
                Some((_, "")) => "",
                Some(_) => "&",
            };
            target = format!("{target}{separator}echo={echo}");
        }
        Uri::builder()
            .scheme(self.url.scheme())
            .authority(authority)
            .path_and_query(target)
            .build()
            .ok()
    }

    /// The value of `authorization` for the URL's user and password, if it has any.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = (self.url.username(), self.url.password());
        if user.is_empty() && password.is_none() {
            return None;
        }
        let mut text: Vec<u8> = percent_decode_str(user).collect();
        text.push(b':');
        text.extend(percent_decode_str(password.unwrap_or_default()));
        let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Path and query of an absolute URL, as they are sent.
fn request_target(text: &str) -> String {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    // The URL library takes no host to be empty: it skips further slashes before the host.
    let rest = rest.trim_start_matches(['/', '\\']);
    let start = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let target = rest.get(start..).unwrap_or_default();
    let target = target.split_once('#').map_or(target, |(target, _)| target);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    // Browsers and the report server read a backslash in a path as a slash.
    let mut sent = encode(&path.replace('\\', "/"));
    if sent.is_empty() {
        sent.push('/');
    }
    if let Some(query) = query {
        sent.push('?');
        sent.push_str(&encode(query));
    }
    sent
}

/// Percent-encodes the characters that are not allowed, and each `%` without two hex digits.
fn encode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut encoded = utf8_percent_encode(parts.next().unwrap_or_default(), REFUSED).to_string();
    for part in parts {
        let digits = part.bytes().take(2).filter(u8::is_ascii_hexdigit).count();
        encoded.push_str(if digits == 2 { "%" } else { "%25" });
        encoded.extend(utf8_percent_encode(part, REFUSED));
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let uri: WebhookUri = text.parse().unwrap();
        let sent = Destination::from(&uri).uri(None).unwrap().to_string();
        assert_eq!(sent, expect, "{text}");
    }

    #[test]
    fn characters_that_the_standard_allows_are_sent_unchanged() {
        for text in [
            "http://example.org/a/../b/./c//d/",
            "http://example.org/%7euser/%2F%2e%2e/a%2fb",
            "http://example.org/it's?q='a'&b=(c)!*;,:@$+~",
            "http://example.org/?",
            "http://example.org/a?b?c=/d&e[]=1",
            "https://[2606:4700::1]:8443/x",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn other_characters_are_encoded_and_only_path_and_query_are_sent() {
        check("http://example.org", "http://example.org/");
        check("http://example.org?a=b", "http://example.org/?a=b");
        check(
            "http://example.org/a|b c?d|e\"<>^`{}",
            "http://example.org/a%7Cb%20c?d%7Ce%22%3C%3E%5E%60%7B%7D",
        );
        check("http://example.org/100%?a=%zz%4", "http://example.org/100%25?a=%25zz%254");
        check("http://example.org/é?ü=ß", "http://example.org/%C3%A9?%C3%BC=%C3%9F");
        check("http://example.org/a\\b?c\\d", "http://example.org/a/b?c%5Cd");
        check("http://example.org/a#b?c", "http://example.org/a");
        check("http://\\example.org/a", "http://example.org/a");
        check("HTTP://Bücher.Example:80/A", "http://xn--bcher-kva.example/A");
        check("https://user:p%40ss@example.org:443/", "https://example.org/");
    }

    #[test]
    fn the_echo_is_added_to_the_query() {
        for (text, expect) in [
            ("http://example.org/a", "/a?echo=1"),
            ("http://example.org/a?", "/a?echo=1"),
            ("http://example.org/a?b='c'", "/a?b='c'&echo=1"),
        ] {
            let uri: WebhookUri = text.parse().unwrap();
            let sent = Destination::from(&uri).uri(Some("1")).unwrap();
            let target = sent.path_and_query().map(ToString::to_string);
            assert_eq!(target.as_deref(), Some(expect));
        }
    }

    #[test]
    fn user_and_password_become_a_header() {
        let value = |text: &str| {
            let url: Url = text.parse().unwrap();
            Destination::from(&url).authorization().map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(
            value("http://u%20s:p%40ss@h/"),
            Some(format!("Basic {}", STANDARD.encode("u s:p@ss")))
        );
        assert_eq!(value("http://u@h/"), Some(format!("Basic {}", STANDARD.encode("u:"))));
        assert_eq!(value("http://h/"), None);
    }
}
