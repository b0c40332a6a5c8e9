//! Signing in by an identity provider (OpenID Connect), and its access tokens at the API.
//!
//! Read it in this order:
//!
//! 1. [`Config`]: which provider, and what its claims mean here.
//! 2. `provider`: what the provider says of itself (`metadata`) and the keys that it signs with
//!    (`keys`), kept for a while and fetched again when a token names a key that is not known.
//! 3. `tokens`: whether a signed token is one that the provider made for us. What is in it is
//!    believed only after that. `stated` is what the log shows of one that is refused.
//! 4. `claims`: whom it is about; `admission`: whether that user may come in.
//! 5. `flow`: one sign-in, from sending the browser to the provider until it comes back; `exchange`:
//!    what is asked at the provider then. The pages are in `pages::provider`.

pub(crate) mod admission;
pub(crate) mod claims;
pub(crate) mod exchange;
pub(crate) mod flow;
pub(crate) mod keys;
pub(crate) mod metadata;
pub(crate) mod provider;
pub(crate) mod token_summary;
pub(crate) mod tokens;

use std::fmt;

use url::{Host, Url};

pub use claims::ClaimNames;
pub use provider::Provider;

/// Which provider people sign in with.
#[derive(Clone)]
pub struct Config {
    /// Its issuer identifier, to the letter.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Our password there; `None` for a public client, which PKCE alone protects.
    pub client_secret: Option<String>,
    /// What is asked for, separated by spaces; `openid` is among it.
    pub scopes: String,
    /// Which claims say who somebody is.
    pub claims: ClaimNames,
    /// The audience of access tokens that open the API; `None` when none do.
    pub audience: Option<String>,
    /// How people call the provider, to follow "Sign in with".
    pub label: String,
    /// The console's address as browsers see it, without a path.
    pub console_url: Url,
    /// How we call ourselves to the provider.
    pub user_agent: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Reads an address that secrets may be sent to: `https`, or `http` on this machine.
#[must_use]
pub fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    let safe = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (safe && plain).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_sent_over_tls_or_not_at_all() {
        for fine in ["https://id.example/a?b=c", "http://127.0.0.1:1/", "http://[::1]/"] {
            assert!(address(fine).is_some(), "{fine}");
        }
        for bad in [
            "http://id.example",
            "http://10.0.0.1/",
            "http://localhost.example/",
            "ftp://localhost/",
            "https://a:b@id.example/",
            "https://id.example/#a",
            "id.example",
            "",
        ] {
            assert!(address(bad).is_none(), "{bad}");
        }
    }
}
