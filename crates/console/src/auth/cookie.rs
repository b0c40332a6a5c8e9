//! The console's session as browsers keep it: an access token in a cookie that no script reads.
//!
//! Behind a proxy that ends TLS the cookie is `Secure` and bound to the host by its name.

use axum::http::{HeaderMap, HeaderValue, header};

use super::passwords::SESSION;
use super::token::Token;

const OPEN: &str = "fanfare_session";
/// The prefix has browsers refuse a cookie that was set without TLS or for a whole domain
/// (RFC 6265bis, section 4.1.3.2).
const SECURE: &str = "__Host-fanfare_session";

/// The token in a request's cookies.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    let name = name(headers);
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';'));
    cookies.find_map(|cookie| {
        let (known, token) = cookie.trim().split_once('=')?;
        (known == name && !token.is_empty()).then_some(token)
    })
}

/// The header that begins a session in the browser that sent `headers`.
pub(crate) fn begin(headers: &HeaderMap, token: &Token) -> Option<HeaderValue> {
    set(headers, token.reveal(), SESSION.as_secs())
}

/// The header that ends it.
pub(crate) fn end(headers: &HeaderMap) -> Option<HeaderValue> {
    set(headers, "", 0)
}

fn set(headers: &HeaderMap, value: &str, max_age: u64) -> Option<HeaderValue> {
    let secure = if is_https(headers) { "; Secure" } else { "" };
    let name = name(headers);
    let text = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn name(headers: &HeaderMap) -> &'static str {
    if is_https(headers) { SECURE } else { OPEN }
}

fn is_https(headers: &HeaderMap) -> bool {
    let scheme = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &'static str, https: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
        if https {
            headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        }
        headers
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        assert_eq!(token(&with("a=b; fanfare_session=abc; c", false)), Some("abc"));
        assert_eq!(token(&with("xfanfare_session=abc", false)), None);
        assert_eq!(token(&with("fanfare_session=", false)), None);
        assert_eq!(token(&HeaderMap::new()), None);
    }

    #[test]
    fn behind_tls_only_the_bound_cookie_counts() {
        assert_eq!(token(&with("fanfare_session=abc", true)), None);
        assert_eq!(token(&with("__Host-fanfare_session=abc", true)), Some("abc"));
        let end = end(&with("a=b", true)).unwrap();
        let end = end.to_str().unwrap();
        assert!(end.starts_with("__Host-fanfare_session=; Path=/; Max-Age=0"), "{end}");
        assert!(end.ends_with("HttpOnly; SameSite=Lax; Secure"), "{end}");
    }
}
