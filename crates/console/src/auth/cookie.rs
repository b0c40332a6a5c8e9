//! The console's cookies, which no script can read. One has the access token of a session, one a
//! sign-in at the identity provider that has begun.
//!
//! If the client uses TLS, the cookies are `Secure`, and their names bind them to the host.

use axum::http::{HeaderMap, HeaderValue, header};

use super::passwords::SESSION;
use super::token::Token;
use crate::oidc::flow::{self, Flow};
use crate::site::Site;

/// The names of a cookie without and with TLS. Browsers refuse a cookie with the prefix `__Host-`
/// that was set without TLS or for a whole domain (RFC 6265bis, section 4.1.3.2).
struct Cookie {
    open: &'static str,
    secure: &'static str,
}

const SESSION_COOKIE: Cookie = Cookie { open: "fanfare_session", secure: "__Host-fanfare_session" };
const FLOW_COOKIE: Cookie = Cookie { open: "fanfare_sign_in", secure: "__Host-fanfare_sign_in" };

/// Returns the session's token from a request's cookies.
pub(crate) fn token<'a>(site: &Site, headers: &'a HeaderMap) -> Option<&'a str> {
    read(site, headers, &SESSION_COOKIE)
}

/// Returns the sign-in that has begun in the browser that sent `headers`.
pub(crate) fn flow(site: &Site, headers: &HeaderMap) -> Option<Flow> {
    read(site, headers, &FLOW_COOKIE).and_then(Flow::of_cookie)
}

fn read<'a>(site: &Site, headers: &'a HeaderMap, cookie: &Cookie) -> Option<&'a str> {
    let name = name(site, headers, cookie);
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';'));
    cookies.find_map(|cookie| {
        let (known, token) = cookie.trim().split_once('=')?;
        (known == name && !token.is_empty()).then_some(token)
    })
}

/// Makes the `Set-Cookie` header that begins a session in the browser that sent `headers`.
pub(crate) fn begin(site: &Site, headers: &HeaderMap, token: &Token) -> Option<HeaderValue> {
    set(site, headers, &SESSION_COOKIE, token.reveal(), SESSION.as_secs())
}

/// Makes the `Set-Cookie` header that removes the cookie.
pub(crate) fn end(site: &Site, headers: &HeaderMap) -> Option<HeaderValue> {
    set(site, headers, &SESSION_COOKIE, "", 0)
}

/// Makes the `Set-Cookie` header that begins a sign-in at the provider. Browsers send the cookie
/// when the provider redirects them back, because `Lax` cookies are sent with top-level navigation.
pub(crate) fn begin_flow(site: &Site, headers: &HeaderMap, flow: &Flow) -> Option<HeaderValue> {
    set(site, headers, &FLOW_COOKIE, &flow.cookie(), flow::MAX_AGE_SECONDS)
}

/// Makes the `Set-Cookie` header that removes the cookie.
pub(crate) fn end_flow(site: &Site, headers: &HeaderMap) -> Option<HeaderValue> {
    set(site, headers, &FLOW_COOKIE, "", 0)
}

fn set(
    site: &Site,
    headers: &HeaderMap,
    cookie: &Cookie,
    value: &str,
    max_age: u64,
) -> Option<HeaderValue> {
    let secure = if site.is_https(headers) { "; Secure" } else { "" };
    let name = name(site, headers, cookie);
    let text = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn name(site: &Site, headers: &HeaderMap, cookie: &Cookie) -> &'static str {
    if site.is_https(headers) { cookie.secure } else { cookie.open }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &'static str, https: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
        if https {
            headers.insert("x-forwarded-proto", HeaderValue::from_static("https, http"));
        }
        headers
    }

    #[test]
    fn a_session_is_found_among_other_cookies() {
        assert_eq!(
            token(&Site::default(), &with("a=b; fanfare_session=abc; c", false)),
            Some("abc")
        );
        assert_eq!(token(&Site::default(), &with("xfanfare_session=abc", false)), None);
        assert_eq!(token(&Site::default(), &with("fanfare_session=", false)), None);
        assert_eq!(token(&Site::default(), &HeaderMap::new()), None);
    }

    #[test]
    fn behind_tls_only_the_bound_cookie_counts() {
        assert_eq!(token(&Site::default(), &with("fanfare_session=abc", true)), None);
        assert_eq!(token(&Site::default(), &with("__Host-fanfare_session=abc", true)), Some("abc"));
        let end = end(&Site::default(), &with("a=b", true)).unwrap();
        let end = end.to_str().unwrap();
        assert!(end.starts_with("__Host-fanfare_session=; Path=/; Max-Age=0"), "{end}");
        assert!(end.ends_with("HttpOnly; SameSite=Lax; Secure"), "{end}");
    }
}
