//! The console's address as browsers and other clients see it, behind any proxies.
//!
//! `FANFARE_CONSOLE_URL` sets it. In addition, the console reads the first element of
//! `X-Forwarded-Proto` and `X-Forwarded-Host`, or of `Forwarded` (RFC 7239), which comes from the
//! proxy nearest to the client. Any client may send these headers, and this is harmless. A page of
//! another site can't make a browser add them without a CORS preflight, which is refused. Any other
//! client changes only its own cookies and the address in its own answer.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use url::Url;

/// The address under which clients see the console.
#[derive(Debug, Clone, Default)]
pub(crate) struct Site {
    /// The configured address.
    url: Option<Url>,
}

/// The relation of an `Origin` to the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Another site.
    Other,
    /// The console's host, at a port that can't be compared, because the `Host` of the request has
    /// no port. A proxy removes it, such as nginx with `proxy_set_header Host $host`.
    SameHost,
    /// The console itself.
    Ours,
}

impl Site {
    pub(crate) fn new(url: Option<Url>) -> Self {
        Self { url }
    }

    /// Whether the client's connection to the first proxy, or to the console, uses TLS.
    pub(crate) fn is_https(&self, headers: &HeaderMap) -> bool {
        self.url.as_ref().is_some_and(|url| url.scheme() == "https")
            || forwarded(headers, "x-forwarded-proto", "proto")
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }

    /// Returns the absolute URL of a path of the console. If the request has no host, it returns
    /// the path alone, which clients resolve.
    pub(crate) fn absolute(&self, headers: &HeaderMap, path: &str) -> String {
        if let Some(url) = &self.url {
            return format!("{}{path}", url.origin().ascii_serialization());
        }
        let scheme = if self.is_https(headers) { "https" } else { "http" };
        match hosts(headers).into_iter().flatten().next() {
            Some(host) => format!("{scheme}://{host}{path}"),
            None => path.to_owned(),
        }
    }

    /// Whether an `Origin` is that of `FANFARE_CONSOLE_URL`.
    pub(crate) fn is_url(&self, origin: &str) -> bool {
        let origin = Url::parse(origin).map(|url| url.origin());
        self.url.as_ref().is_some_and(|url| origin == Ok(url.origin()))
    }

    /// Compares an `Origin` (RFC 6454, section 7.3) with the host of the request.
    pub(crate) fn origin(&self, headers: &HeaderMap, origin: &str) -> Origin {
        let Ok(url) = Url::parse(origin) else { return Origin::Other };
        if self.is_url(origin) {
            return Origin::Ours;
        }
        let compared = hosts(headers).into_iter().flatten().map(|host| compare(&url, &host));
        compared.max().unwrap_or(Origin::Other)
    }
}

/// Compares an origin with a host. Some clients and proxies leave out the scheme's default port,
/// and others add it.
fn compare(origin: &Url, host: &Authority) -> Origin {
    let same = |theirs: &str| theirs.eq_ignore_ascii_case(host.host());
    let is_web = matches!(origin.scheme(), "http" | "https");
    if !is_web || !origin.host_str().is_some_and(same) {
        return Origin::Other;
    }
    let port = host.port_u16().filter(|port| !matches!(port, 80 | 443));
    match (origin.port(), port) {
        (theirs, ours) if theirs == ours => Origin::Ours,
        (Some(_), None) if host.port().is_none() => Origin::SameHost,
        _ => Origin::Other,
    }
}

/// The hosts that the request names, the one that the client used first.
fn hosts(headers: &HeaderMap) -> [Option<Authority>; 2] {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let parse = |text: &str| text.parse::<Authority>().ok().filter(is_host);
    [forwarded(headers, "x-forwarded-host", "host").and_then(parse), host.and_then(parse)]
}

/// Whether a browser understands it as a host with or without a port. `Authority` also accepts a
/// user, and ports that are no numbers.
fn is_host(host: &Authority) -> bool {
    let url = Url::parse(&format!("http://{host}/"));
    url.is_ok_and(|url| url.username().is_empty() && !host.as_str().contains('@'))
}

/// Returns the value from the first proxy, in its own header or in `Forwarded`.
fn forwarded<'a>(headers: &'a HeaderMap, name: &str, parameter: &str) -> Option<&'a str> {
    let first = |name: &str| headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim);
    let of_standard = || {
        first("forwarded")?.split(';').find_map(|pair| {
            let (known, value) = pair.trim().split_once('=')?;
            known.eq_ignore_ascii_case(parameter).then(|| value.trim_matches('"'))
        })
    };
    first(name).or_else(of_standard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    type Headers<'a> = &'a [(&'static str, &'static str)];

    fn map(headers: Headers<'_>) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.iter().map(header).collect()
    }

    fn site(url: &str) -> Site {
        Site::new(Url::parse(url).ok())
    }

    #[test]
    fn the_first_proxy_says_whether_the_client_has_tls() {
        let open = site("");
        for (headers, expected) in [
            (&[][..], false),
            (&[("x-forwarded-proto", "https, http")], true),
            (&[("x-forwarded-proto", "HTTPS")], true),
            (&[("x-forwarded-proto", "http,https")], false),
            (&[("x-forwarded-proto", "http"), ("forwarded", "proto=https")], false),
            (&[("forwarded", "for=\"[2001:db8::1]\";Proto=https, for=10.0.0.1;proto=http")], true),
            (&[("forwarded", "for=10.0.0.1")], false),
        ] {
            assert_eq!(open.is_https(&map(headers)), expected, "{headers:?}");
        }
        let inner = map(&[("x-forwarded-proto", "http")]);
        assert!(site("https://a.example").is_https(&inner));
        assert!(!site("http://a.example").is_https(&inner));
    }

    #[track_caller]
    fn check_absolute(url: &str, headers: Headers<'_>, expected: &str) {
        assert_eq!(site(url).absolute(&map(headers), "/a"), expected, "{headers:?}");
    }

    #[test]
    fn addresses_are_absolute_as_the_client_sees_them() {
        check_absolute("", &[("host", "reports.example:8080")], "http://reports.example:8080/a");
        check_absolute("", &[("host", "[::1]:80")], "http://[::1]:80/a");
        let tls = ("x-forwarded-proto", "https, http");
        check_absolute("", &[("host", "a"), tls], "https://a/a");
        check_absolute("", &[("host", "a"), ("x-forwarded-proto", "javascript")], "http://a/a");
        let forwarded = ("x-forwarded-host", "b.example:8443, c.example");
        check_absolute("", &[("host", "127.0.0.1:1"), forwarded, tls], "https://b.example:8443/a");
        let standard = ("forwarded", "proto=https;host=\"b.example:8443\"");
        check_absolute("", &[("host", "a"), standard], "https://b.example:8443/a");
        for host in ["", "a/b", "u@a", "a b", "a:b", "a:99999"] {
            check_absolute("", &[("host", host)], "/a");
        }
        check_absolute("https://a.example:443", &[("host", "b"), forwarded], "https://a.example/a");
        check_absolute("http://a.example:8081/", &[], "http://a.example:8081/a");
    }

    #[track_caller]
    fn check(site: &Site, headers: Headers<'_>, origin: &str, expected: Origin) {
        assert_eq!(site.origin(&map(headers), origin), expected, "{headers:?} {origin}");
    }

    #[test]
    fn a_default_port_may_be_left_out_or_added() {
        let open = site("");
        for (host, origin, expected) in [
            ("a:8080", "http://a:8080", Origin::Ours),
            ("a:8080", "http://a:8081", Origin::Other),
            ("a:8080", "http://a", Origin::Other),
            ("A", "https://a", Origin::Ours),
            ("a:443", "https://a", Origin::Ours),
            ("a:80", "http://a", Origin::Ours),
            ("a:80", "https://a", Origin::Ours),
            ("a", "http://a:80", Origin::Ours),
            ("a", "http://a:8081", Origin::SameHost),
            ("a:80", "http://a:8081", Origin::Other),
            ("[::1]:8080", "http://[::1]:8080", Origin::Ours),
            ("a", "https://a.example", Origin::Other),
            ("a", "ftp://a", Origin::Other),
            ("null", "null", Origin::Other),
            ("", "", Origin::Other),
            ("a b", "http://a", Origin::Other),
        ] {
            check(&open, &[("host", host)], origin, expected);
        }
        let forwarded = [("host", "127.0.0.1:8080"), ("x-forwarded-host", "a.example")];
        check(&open, &forwarded, "https://a.example", Origin::Ours);
        check(&open, &forwarded, "https://b.example", Origin::Other);
    }

    #[test]
    fn the_configured_address_takes_precedence_over_proxies() {
        let ours = site("https://a.example");
        check(&ours, &[("host", "127.0.0.1:8080")], "https://a.example", Origin::Ours);
        check(&ours, &[("host", "127.0.0.1:8080")], "https://a.example:443", Origin::Ours);
        check(&ours, &[("host", "127.0.0.1:8080")], "http://a.example", Origin::Other);
        check(&ours, &[("host", "b")], "http://b", Origin::Ours);
        assert!(!site("").is_url("null") && !ours.is_url("null"));
    }
}
