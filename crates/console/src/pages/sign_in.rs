//! Signing in and out.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

use super::error::Failed;
use super::fields::Fields;
use super::page::{Frame, page, see_other};
use super::visitor::{self, Posted};
use super::{SIGN_IN, WEBHOOKS};
use crate::app::Shared;
use crate::auth::forgery::Sender;
use crate::auth::passwords::{Denied, sign_in};
use crate::auth::{cookie, forgery, token};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    frame: Frame,
    name: &'a str,
    next: &'a str,
    error: Option<String>,
}

/// `GET /`: there is nothing but webhooks.
pub(crate) async fn home() -> Response {
    see_other(WEBHOOKS)
}

/// `GET`: the form.
pub(crate) async fn show(uri: Uri) -> Response {
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    form(StatusCode::OK, "", query.text("next"), None)
}

/// `POST`: name and password for a session.
pub(crate) async fn enter(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failed> {
    // There is no session yet that a form could belong to.
    if forgery::sender(&headers) == Sender::Elsewhere {
        return Err(Failed::Forged);
    }
    let fields = visitor::read(body).await?;
    let (name, next) = (fields.text("name"), fields.text("next"));
    let denied = match sign_in(&app, name, fields.raw("password").to_owned()).await {
        Ok(token) => {
            let cookie = cookie::begin(&headers, &token).ok_or(Failed::Internal)?;
            return Ok(([(header::SET_COOKIE, cookie)], see_other(local(next))).into_response());
        }
        Err(denied) => denied,
    };
    match denied {
        Denied::Wrong => {
            let error = "The user name or password is incorrect.".to_owned();
            Ok(form(StatusCode::UNAUTHORIZED, name, next, Some(error)))
        }
        Denied::TooMany { wait } => {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let error = format!("Too many attempts. Try again in {seconds} s.");
            let answer = form(StatusCode::TOO_MANY_REQUESTS, name, next, Some(error));
            Ok(([(header::RETRY_AFTER, seconds.to_string())], answer).into_response())
        }
        Denied::Store(error) => Err(error.into()),
    }
}

/// `POST`: ends the session, here and in the database.
pub(crate) async fn leave(
    State(app): State<Shared>,
    headers: HeaderMap,
    _posted: Posted,
) -> Result<Response, Failed> {
    if let Some(session) = cookie::token(&headers) {
        app.store.session_end(&token::digest(session)).await?;
    }
    let cookie = cookie::end(&headers).ok_or(Failed::Internal)?;
    Ok(([(header::SET_COOKIE, cookie)], see_other(SIGN_IN)).into_response())
}

fn form(status: StatusCode, name: &str, next: &str, error: Option<String>) -> Response {
    page(status, &SignIn { frame: Frame::anonymous(), name, next, error })
}

/// The path to go on to, if it is one of ours: anything else could be a trap.
fn local(next: &str) -> &str {
    let ours = next == WEBHOOKS
        || next.strip_prefix(WEBHOOKS).is_some_and(|rest| rest.starts_with(['/', '?']));
    let plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if ours && plain { next } else { WEBHOOKS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_on_to_our_own_pages_only() {
        assert_eq!(local("/webhooks/new?a=b"), "/webhooks/new?a=b");
        for trap in ["", "//evil.example", "https://evil.example", "/webhooksx", "/webhooks\\@x"] {
            assert_eq!(local(trap), WEBHOOKS, "{trap}");
        }
    }
}
