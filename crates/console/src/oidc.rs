//! Sign-in by an identity provider (OpenID Connect), and the provider's access tokens at the API.
//!
//! Read it in this order:
//!
//! 1. [`Config`]: the provider, and the meaning of its claims.
//! 2. `provider`: a cache of the provider's metadata (`metadata`) and of its signing keys (`keys`).
//!    They are fetched again after a while, and when a token names an unknown key.
//! 3. `tokens`: the check that a signed token was made by the provider for this client. Its claims
//!    are used only after that. `token_summary` is the part of a refused token that is logged.
//! 4. `claims`: the user whom a token names; `admission`: whether that user may sign in.
//! 5. `flow`: one sign-in, from sending the browser to the provider until it comes back;
//!    `exchange`: the requests to the provider after that. The pages are in `pages::provider`.

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

/// The settings of the identity provider.
#[derive(Clone)]
pub struct Config {
    /// Its issuer identifier, which must match exactly.
    pub issuer: String,
    /// The client id that the provider has given to the console.
    pub client_id: String,
    /// The client's secret; `None` for a public client, which only PKCE protects.
    pub client_secret: Option<String>,
    /// The requested scopes, separated by spaces. They include `openid`.
    pub scopes: String,
    /// The claims that identify a user.
    pub claims: ClaimNames,
    /// The audience of access tokens for the API; `None` if the API accepts none.
    pub audience: Option<String>,
    /// The provider's name for people, to follow "Sign in with".
    pub label: String,
    /// The console's address as browsers see it, without a path.
    pub console_url: Url,
    /// The `User-Agent` of requests to the provider.
    pub user_agent: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Reads an address to which secrets may be sent: `https`, or `http` on this machine.
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
    fn addresses_for_secrets_have_tls_or_are_on_this_machine() {
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
