//! Signing in and out.

use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use fanfare_core::duration::seconds_to_wait;
use fanfare_http::Peer;

use super::error::PageError;
use super::fields::{self, Fields};
use super::page::{Frame, page, see_other};
use super::visitor::{self, Posted};
use super::{SIGN_IN, SIGN_IN_PROVIDER, WEBHOOKS};
use crate::app::{App, Shared};
use crate::auth::forgery::Sender;
use crate::auth::passwords::{SignInError, sign_in};
use crate::auth::{cookie, forgery, token};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    frame: Frame,
    form: &'a Form<'a>,
    accounts: bool,
    provider: Option<ProviderLink<'a>>,
}

/// The content of the sign-in page.
#[derive(Debug, Default)]
pub(super) struct Form<'a> {
    pub(super) name: &'a str,
    /// The path to continue with.
    pub(super) next: &'a str,
    /// Why the last attempt to sign in failed.
    pub(super) error: Option<String>,
    /// Whether the provider must ask the user to sign in again.
    pub(super) force_login: bool,
}

/// The link to the identity provider.
struct ProviderLink<'a> {
    label: &'a str,
    path: String,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOut<'a> {
    frame: Frame,
    label: &'a str,
    address: &'a str,
}

/// `GET /`: redirects to the grid of webhooks.
pub(crate) async fn home() -> Response {
    see_other(WEBHOOKS)
}

/// `GET`: shows the sign-in page.
pub(crate) async fn show(State(app): State<Shared>, uri: Uri) -> Response {
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    form(&app, StatusCode::OK, &Form { next: query.text("next"), ..Form::default() })
}

/// `POST`: checks a name and a password, and begins a session.
pub(crate) async fn submit(
    State(app): State<Shared>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    // There is no session yet, so the form has no token. The request's origin is checked instead.
    if forgery::sender(&app.site, &headers) == Sender::CrossSite {
        return Err(PageError::Forged);
    }
    let fields = visitor::read(body).await?;
    let (name, next) = (fields.text("name"), fields.text("next"));
    let denied = match sign_in(
        &app.accounts,
        peer.0.into(),
        name,
        fields.raw("password").to_owned(),
    )
    .await
    {
        Ok(token) => {
            let cookie = cookie::begin(&app.site, &headers, &token).ok_or(PageError::Internal)?;
            return Ok(([(header::SET_COOKIE, cookie)], see_other(local(next))).into_response());
        }
        Err(denied) => denied,
    };
    let form = |status, error: String| {
        form(&app, status, &Form { name, next, error: Some(error), force_login: false })
    };
    match denied {
        SignInError::NoAccounts => {
            let error = "There are no accounts here to sign in with.".to_owned();
            Ok(form(StatusCode::FORBIDDEN, error))
        }
        SignInError::Wrong => {
            let error = "The user name or password is incorrect.".to_owned();
            Ok(form(StatusCode::UNAUTHORIZED, error))
        }
        SignInError::TooMany { wait } => {
            let seconds = seconds_to_wait(wait);
            let error = format!("Too many attempts. Try again in {seconds} s.");
            let answer = form(StatusCode::TOO_MANY_REQUESTS, error);
            Ok(([(header::RETRY_AFTER, seconds.to_string())], answer).into_response())
        }
        SignInError::Store(error) => Err(error.into()),
    }
}

/// `POST`: ends the session in the browser and in the database, and at the provider if it began
/// there.
pub(crate) async fn sign_out(
    State(app): State<Shared>,
    headers: HeaderMap,
    _posted: Posted,
) -> Result<Response, PageError> {
    let issuer = match cookie::token(&app.site, &headers) {
        Some(session) => app.store.session_end(&token::digest(session)).await?,
        None => None,
    };
    let cookie = cookie::end(&app.site, &headers).ok_or(PageError::Internal)?;
    let answer = match issuer {
        Some(_) => provider_sign_out(&app).await,
        None => see_other(SIGN_IN),
    };
    Ok(([(header::SET_COOKIE, cookie)], answer).into_response())
}

/// Makes a page that sends the browser to the provider to sign out there. A redirect is not
/// possible, because the content security policy allows the console's forms to lead to the console
/// only.
async fn provider_sign_out(app: &App) -> Response {
    let Some(provider) = &app.provider else {
        return see_other(SIGN_IN);
    };
    let info = provider.info().await.ok();
    let address = info.and_then(|it| provider.config.sign_out(&it.metadata, SIGN_IN));
    let Some(address) = address else {
        return see_other(SIGN_IN);
    };
    let (address, label) = (address.as_str(), provider.config.label.as_str());
    let mut answer = page(StatusCode::OK, &SignedOut { frame: Frame::anonymous(), label, address });
    if let Ok(refresh) = HeaderValue::from_str(&format!("0; url={address}")) {
        answer.headers_mut().insert(header::REFRESH, refresh);
    }
    answer
}

/// Makes the sign-in page.
pub(super) fn form(app: &App, status: StatusCode, form: &Form<'_>) -> Response {
    let provider = app.provider.as_ref().map(|provider| ProviderLink {
        label: &provider.config.label,
        path: fields::path(
            SIGN_IN_PROVIDER,
            &[("next", form.next), ("force_login", if form.force_login { "yes" } else { "" })],
        ),
    });
    let accounts = app.accounts.enabled;
    page(status, &SignIn { frame: Frame::anonymous(), form, accounts, provider })
}

/// Returns the path to continue with, if it is a page of the console. Any other address could be an
/// attack.
pub(crate) fn local(next: &str) -> &str {
    let ours = next == WEBHOOKS
        || next.strip_prefix(WEBHOOKS).is_some_and(|rest| rest.starts_with(['/', '?']));
    let plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if ours && plain { next } else { WEBHOOKS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_continues_with_pages_of_the_console_only() {
        assert_eq!(local("/webhooks/new?a=b"), "/webhooks/new?a=b");
        for trap in ["", "//evil.example", "https://evil.example", "/webhooksx", "/webhooks\\@x"] {
            assert_eq!(local(trap), WEBHOOKS, "{trap}");
        }
    }
}
