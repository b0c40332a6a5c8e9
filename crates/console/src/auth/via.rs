//! The door of a request and the address of its client, for the audit trail.
//!
//! Behind a proxy, the connection is the proxy's, and `X-Forwarded-For` has the client's address.
//! Any client may send that header, so it counts only from the proxies that the operator trusts
//! (`FANFARE_CONSOLE_PROXIES`).

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use fanfare_core::audit::{Door, Via};
use fanfare_http::Peer;
use ipnet::IpNet;

/// The longest id of a request that is kept.
const LONGEST_ID: usize = 64;

/// Networks of the proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The door of a request, with the address of its client.
    pub(crate) fn via(&self, parts: &Parts, door: Door) -> Via {
        let peer = parts.extensions.get::<Peer>();
        let client = peer.map(|peer| self.client(peer.0, &parts.headers).to_string());
        Via { door, address: client, correlation: request_id(&parts.headers) }
    }

    /// The first address, from the last proxy on, that is not a trusted proxy's.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|line| line.to_str().ok())
            .collect();
        let mut client = peer.to_canonical();
        for element in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            if !self.has(client) {
                break;
            }
            let Some(before) = address(element.trim()) else { break };
            client = before.to_canonical();
        }
        client
    }

    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Reads an address, which some proxies write with a port.
fn address(text: &str) -> Option<IpAddr> {
    let without_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(without_port)
}

/// The id that a proxy gave the request in `X-Request-ID`. An id that is long, or has other
/// characters than visible ASCII, counts as absent.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let fits = (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[track_caller]
    fn check(trusted: &str, peer: &str, forwarded: &[&'static str], expected: &str) {
        let networks = trusted.split_whitespace().map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        let proxies = TrustedProxies::new(networks.collect());
        let client = proxies.client(peer.parse().unwrap(), &headers);
        assert_eq!(client.to_string(), expected);
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        check("", "10.0.0.1", &["192.0.2.1"], "10.0.0.1");
        check("10.0.0.0/8", "10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.0/8", "10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        check("10.0.0.0/8", "::ffff:10.0.0.1", &["192.0.2.1:4711"], "192.0.2.1");
        check("10.0.0.0/8", "198.51.100.7", &["192.0.2.1"], "198.51.100.7");
        // The client made up the first address.
        check("10.0.0.0/8", "10.0.0.1", &["203.0.113.9, 192.0.2.1, 10.0.0.2"], "192.0.2.1");
        check("10.0.0.0/8", "10.0.0.1", &["203.0.113.9", "192.0.2.1"], "192.0.2.1");
        check("10.0.0.0/8", "10.0.0.1", &["192.0.2.1, unknown"], "10.0.0.1");
        check("10.0.0.0/8", "10.0.0.1", &["[2001:db8::1]"], "2001:db8::1");
        check("10.0.0.0/8", "10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3");
    }

    #[test]
    fn an_id_that_can_not_be_shown_counts_as_absent() {
        for (sent, expected) in [("a1-B", Some("a1-B")), ("a b", None), ("", None)] {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_static(sent));
            assert_eq!(request_id(&headers).as_deref(), expected, "{sent}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_str(&"a".repeat(65)).unwrap());
        assert_eq!(request_id(&headers), None);
    }
}
