//! A provider's metadata (OpenID Connect Discovery 1.0).

use serde::Deserialize;
use thiserror::Error;
use url::Url;

use super::address;

/// The part of a provider's metadata that the console uses.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    /// The authorization endpoint, to which browsers are sent to sign in.
    pub(crate) authorization: Url,
    /// The token endpoint, which exchanges codes.
    pub(crate) token: Url,
    /// The address of the key set.
    pub(crate) keys: Url,
    /// The user-info endpoint, which has further claims.
    pub(crate) userinfo: Option<Url>,
    /// The end-session endpoint, to which browsers are sent to sign out.
    pub(crate) end_session: Option<Url>,
    /// Whether the client's secret may be sent in a header, which is the default of the standard.
    pub(crate) takes_basic: bool,
    /// Whether the callback has the issuer as `iss` (RFC 9207).
    pub(crate) names_itself: bool,
}

/// Why a provider's metadata can't be used.
#[derive(Debug, Error)]
pub(crate) enum MetadataError {
    /// The document is not JSON of the right form.
    #[error("its metadata can't be read")]
    Json(#[source] serde_json::Error),
    /// The document is for another issuer.
    #[error("its metadata is for the issuer {0:?}; FANFARE_OIDC_ISSUER must be exactly that")]
    OtherIssuer(String),
    /// Secrets must not be sent to one of the addresses.
    #[error("its metadata has an {0} that is neither https nor on this machine")]
    Address(&'static str),
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// The address of an issuer's metadata.
pub(crate) fn location(issuer: &str) -> Option<Url> {
    address(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
}

impl Metadata {
    /// Reads the metadata of this issuer.
    pub(crate) fn parse(document: &[u8], issuer: &str) -> Result<Self, MetadataError> {
        let document: Document = serde_json::from_slice(document).map_err(MetadataError::Json)?;
        if document.issuer != issuer {
            return Err(MetadataError::OtherIssuer(document.issuer));
        }
        let url = |name, text: &str| address(text).ok_or(MetadataError::Address(name));
        let optional = |name, text: Option<String>| text.map(|text| url(name, &text)).transpose();
        let methods = document.token_endpoint_auth_methods_supported;
        Ok(Self {
            authorization: url("authorization_endpoint", &document.authorization_endpoint)?,
            token: url("token_endpoint", &document.token_endpoint)?,
            keys: url("jwks_uri", &document.jwks_uri)?,
            userinfo: optional("userinfo_endpoint", document.userinfo_endpoint)?,
            end_session: optional("end_session_endpoint", document.end_session_endpoint)?,
            takes_basic: methods
                .is_none_or(|methods| methods.iter().any(|it| it == "client_secret_basic")),
            names_itself: document.authorization_response_iss_parameter_supported,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ISSUER: &str = "https://id.example/realm";

    fn parse(change: impl FnOnce(&mut Value)) -> Result<Metadata, String> {
        let mut document = json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.example/authorize?a=b",
            "token_endpoint": "https://id.example/token",
            "jwks_uri": "https://keys.example/",
        });
        change(&mut document);
        Metadata::parse(document.to_string().as_bytes(), ISSUER).map_err(|error| error.to_string())
    }

    #[test]
    fn usable_metadata_is_read() {
        let metadata = parse(|_| ()).unwrap();
        assert_eq!(metadata.keys.as_str(), "https://keys.example/");
        assert!(metadata.takes_basic && !metadata.names_itself);
        let post = json!(["client_secret_post"]);
        let metadata = parse(|it| it["token_endpoint_auth_methods_supported"] = post).unwrap();
        assert!(!metadata.takes_basic);
        let location = |issuer| location(issuer).unwrap().to_string();
        assert_eq!(
            location("https://id.example/realm/"),
            "https://id.example/realm/.well-known/openid-configuration"
        );
    }

    #[test]
    fn unusable_metadata_is_refused() {
        let other = parse(|it| it["issuer"] = json!("https://id.example/realm/")).unwrap_err();
        assert!(other.contains("\"https://id.example/realm/\""), "{other}");
        let open = parse(|it| it["token_endpoint"] = json!("http://id.example/")).unwrap_err();
        assert!(open.contains("token_endpoint"), "{open}");
        assert!(parse(|it| it["jwks_uri"] = json!(null)).is_err());
    }
}
