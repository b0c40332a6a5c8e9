//! The access token of a request, and why it is not accepted (RFC 6750).

use axum::http::{HeaderMap, HeaderValue, header};
use thiserror::Error;

use crate::oidc::claims::UserClaimError;
use crate::oidc::tokens::BadToken;

/// Why an access token is not accepted. The texts may stand in a header.
#[derive(Debug, Clone, Copy, Error)]
pub(crate) enum BadBearer {
    /// The token is unknown, or its session has ended.
    #[error("the token is unknown or its session has ended")]
    Unknown,
    /// The identity provider's token is not valid.
    #[error(transparent)]
    Token(BadToken),
    /// The token's claims name no user.
    #[error(transparent)]
    UserClaim(UserClaimError),
    /// The directory does not have the user whom the token names.
    #[error("the directory has no user of the name that the token holds")]
    UnknownUser,
    /// The user whom the token names is disabled in the directory.
    #[error("the user whom the token names is disabled in the directory")]
    DisabledUser,
}

impl BadBearer {
    /// The challenge of RFC 6750, section 3.
    pub(crate) fn challenge(self) -> HeaderValue {
        let text = format!("Bearer error=\"invalid_token\", error_description=\"{self}\"");
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1).
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &'static str, expected: Option<&str>) {
        let value = HeaderValue::from_static(value);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        assert_eq!(token(&headers), expected);
    }

    #[test]
    fn a_bearer_token_is_read_from_its_header() {
        check("Bearer abc", Some("abc"));
        check("bearer  abc", Some("abc"));
        check("Bearer", None);
        check("Bearer  ", None);
        check("Basic abc", None);
        check("abc", None);
        assert_eq!(token(&HeaderMap::new()), None);
    }
}
