//! Who sends a request.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use fanfare_core::name::Name;

use super::token;
use crate::api::problem::Problem;
use crate::app::Shared;

/// The user who sends a request. A handler that takes one is for those who are signed in.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: Name,
    /// A System Administrator.
    pub(crate) administrator: bool,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).ok_or(Problem::Unauthorized)?;
        let digest = token::digest(token);
        let user = app.store.session_user(&digest, (app.clock)()).await?;
        let user = user.ok_or(Problem::Unauthorized)?;
        Ok(Self { name: user.name, administrator: user.administrator })
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
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
        let value = axum::http::HeaderValue::from_static(value);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        assert_eq!(bearer(&headers), expected);
    }

    #[test]
    fn a_bearer_token_is_found() {
        check("Bearer abc", Some("abc"));
        check("bearer  abc", Some("abc"));
        check("Bearer", None);
        check("Bearer  ", None);
        check("Basic abc", None);
        check("abc", None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
