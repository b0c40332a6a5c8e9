//! The requests to the provider when a browser comes back: they exchange its code for tokens
//! (OpenID Connect Core 1.0, section 3.1.3), and fetch the claims that the ID token does not have
//! (section 5.3).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use fanfare_core::chain::chain;
use fanfare_outbound::trusted::{Answer, RequestError};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use url::form_urlencoded;

use super::Config;
use super::claims::{Claims, Person, UserClaimError};
use super::flow::Flow;
use super::metadata::Metadata;
use super::provider::{Provider, ProviderUnavailable, TokenError};
use super::tokens::BadToken;

/// Why the provider did not identify a user.
#[derive(Debug, Error)]
pub(crate) enum ExchangeError {
    /// The provider does not answer.
    #[error("the identity provider does not answer")]
    Unavailable,
    /// A request to the provider failed.
    #[error("a request to the identity provider failed")]
    Request(#[from] RequestError),
    /// The code was used before, has expired, or belongs to another client.
    #[error("the identity provider does not accept the code")]
    Code,
    /// The provider refuses the console, not the user.
    #[error("the identity provider answered {status} with the error {code:?}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code of OAuth.
        code: String,
    },
    /// The answer does not follow the standard.
    #[error("the answer of the identity provider can't be read: {0}")]
    Answer(&'static str),
    /// The ID token is not valid.
    #[error("the ID token of the identity provider was refused")]
    Token(#[source] BadToken),
    /// The claims name no user.
    #[error("the identity provider does not say who the user is")]
    UserClaim(#[from] UserClaimError),
}

impl From<ProviderUnavailable> for ExchangeError {
    fn from(ProviderUnavailable: ProviderUnavailable) -> Self {
        Self::Unavailable
    }
}

impl From<TokenError> for ExchangeError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Bad(bad) => Self::Token(bad),
            TokenError::Unavailable => Self::Unavailable,
        }
    }
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
    token_type: Option<String>,
}

impl Tokens {
    /// Returns the access token, if it is a bearer token. The ID token identifies the user, so an
    /// access token is optional.
    fn bearer(&self) -> Option<&str> {
        let is_bearer = |kind: &String| kind.eq_ignore_ascii_case("bearer");
        self.access_token.as_deref().filter(|_| self.token_type.as_ref().is_none_or(is_bearer))
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Provider {
    /// Identifies the user by the code that the browser brought.
    pub(crate) async fn person(
        &self,
        flow: &Flow,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<Person, ExchangeError> {
        let info = self.info().await?;
        let tokens = self.redeem(&info.metadata, flow, code).await?;
        let mut claims = self.id_token(&tokens.id_token, &flow.nonce(), now).await?;
        let completed = if self.config.claims.all_in(&claims) {
            Ok(())
        } else {
            self.complete(&info.metadata, &tokens, &mut claims).await
        };
        match (self.config.claims.person(&claims), completed) {
            (Err(UserClaimError::Missing), Err(error)) => Err(error),
            (person, Ok(())) => Ok(person?),
            (_, Err(error)) if !self.config.claims.says_whether_verified(&claims) => Err(error),
            (person, Err(error)) => {
                // The ID token names the user, but perhaps not whether the user is an
                // administrator.
                tracing::warn!(
                    error = chain(&error),
                    "the provider's user-info endpoint failed; the ID token alone counts"
                );
                Ok(person?)
            }
        }
    }

    async fn redeem(
        &self,
        metadata: &Metadata,
        flow: &Flow,
        code: &str,
    ) -> Result<Tokens, ExchangeError> {
        let (form, authorization) = request(&self.config, metadata, flow, code);
        let url = &metadata.token;
        let answer = self.http.post_form(url, form, authorization.as_deref()).await?;
        read(&answer, "the tokens")
    }

    /// Adds the claims that only the provider's user-info endpoint has.
    async fn complete(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        claims: &mut Claims,
    ) -> Result<(), ExchangeError> {
        let (Some(url), Some(token)) = (&metadata.userinfo, tokens.bearer()) else {
            return Ok(());
        };
        let authorization = format!("Bearer {token}");
        let answer = self.http.get(url, Some(&authorization)).await?;
        let more: Claims = read(&answer, "the claims about the user")?;
        // With another subject, the claims may be those of another user.
        if more.get("sub").and_then(Value::as_str) != claims.get("sub").and_then(Value::as_str) {
            return Err(ExchangeError::Answer("the claims are about another user"));
        }
        for (name, value) in more {
            // The signed claims take precedence.
            claims.entry(name).or_insert(value);
        }
        Ok(())
    }
}

/// Makes the form that exchanges a code, and the header that authenticates the client, if the form
/// does not.
fn request(
    config: &Config,
    metadata: &Metadata,
    flow: &Flow,
    code: &str,
) -> (String, Option<String>) {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code)
        .append_pair("redirect_uri", &config.callback())
        .append_pair("code_verifier", &flow.verifier());
    let authorization = match &config.client_secret {
        Some(secret) if metadata.takes_basic => Some(basic(&config.client_id, secret)),
        secret => {
            form.append_pair("client_id", &config.client_id);
            form.extend_pairs(secret.as_ref().map(|secret| ("client_secret", secret)));
            None
        }
    };
    (form.finish(), authorization)
}

/// Makes the `Authorization` header. Both parts are encoded as in a form before they are joined
/// (RFC 6749, section 2.3.1).
fn basic(client_id: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let joined = format!("{}:{}", encode(client_id), encode(secret));
    format!("Basic {}", BASE64_STANDARD.encode(joined))
}

fn read<T: for<'de> Deserialize<'de>>(
    answer: &Answer,
    what: &'static str,
) -> Result<T, ExchangeError> {
    let status = answer.status;
    if status == 200 {
        return serde_json::from_slice(&answer.body).map_err(|_| ExchangeError::Answer(what));
    }
    let code = match serde_json::from_slice::<Refusal>(&answer.body) {
        Ok(refusal) => refusal.error.chars().take(100).collect(),
        Err(_) => String::new(),
    };
    match (status, code.as_str()) {
        (400, "invalid_grant") => Err(ExchangeError::Code),
        (500.., _) => Err(ExchangeError::Unavailable),
        _ => Err(ExchangeError::Refused { status, code }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_secrets_are_encoded_before_they_are_joined() {
        assert_eq!(
            basic("a:b", "c d%"),
            format!("Basic {}", BASE64_STANDARD.encode("a%3Ab:c+d%25"))
        );
    }
}
