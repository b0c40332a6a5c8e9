//! Who sends a request: by the access token that it brings, or by the console's session.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use fanfare_core::name::Name;
use fanfare_store::StoreError;

use super::{cookie, forgery, token};
use crate::api::problem::Problem;
use crate::app::{App, Shared};

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
        let token = bearer(&parts.headers).or_else(|| session(parts));
        let token = token.ok_or(Problem::Unauthorized)?;
        Self::of(app, token).await?.ok_or(Problem::Unauthorized)
    }
}

impl Caller {
    /// Whose this token is; `None` when it is unknown or its session has ended.
    pub(crate) async fn of(app: &App, token: &str) -> Result<Option<Self>, StoreError> {
        let user = app.store.session_user(&token::digest(token), (app.clock)()).await?;
        Ok(user.map(|user| Self { name: user.name, administrator: user.administrator }))
    }
}

/// The console's session. Browsers bring it by themselves, so that a change must also come from one
/// of our own pages.
fn session(parts: &Parts) -> Option<&str> {
    let ours = || forgery::sender(&parts.headers) == forgery::Sender::Us;
    cookie::token(&parts.headers).filter(|_| forgery::is_safe(&parts.method) || ours())
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
