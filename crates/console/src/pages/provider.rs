//! Signing in at the identity provider: sending the browser there, and its return.
//!
//! Sending the browser to the provider needs no form token: with a forged request, another site
//! could only make a user sign in with the user's own account at the provider. The return works
//! only in the browser that was sent.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use fanfare_store::sessions::NewProviderSession;

use super::error::PageError;
use super::fields::Fields;
use super::page::see_other;
use super::provider_error::ProviderError;
use super::sign_in::{Form, form, local};
use super::text;
use crate::app::{App, Shared};
use crate::auth::passwords::SESSION;
use crate::auth::token::Token;
use crate::auth::{cookie, token};
use crate::oidc::admission::{Authority, admit};
use crate::oidc::flow::Flow;
use crate::oidc::provider::Provider;
use crate::oidc::token_summary::LogValue;

/// `GET`: sends the browser to the provider.
pub(crate) async fn start(
    State(app): State<Shared>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, PageError> {
    let provider = app.provider.as_ref().ok_or(PageError::Unknown)?;
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let next = query.text("next");
    let Ok(info) = provider.info().await else {
        return denied(&app, provider, next, ProviderError::Unavailable);
    };
    let flow = Flow::begin(next)?;
    // During an upgrade a page of the former version links with the former name.
    let force_login = query.has("force_login") || query.has("anew");
    let address = flow.address(&info.metadata, &provider.config, force_login);
    let cookie = cookie::begin_flow(&app.site, &headers, &flow).ok_or(PageError::Internal)?;
    Ok(([(header::SET_COOKIE, cookie)], see_other(address.as_str())).into_response())
}

/// `GET`: handles the return of the browser.
pub(crate) async fn finish(
    State(app): State<Shared>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, PageError> {
    let provider = app.provider.as_ref().ok_or(PageError::Unknown)?;
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let flow = cookie::flow(&app.site, &headers);
    let next = flow.as_ref().map(|flow| local(flow.next()).to_owned()).unwrap_or_default();
    let ended = cookie::end_flow(&app.site, &headers).ok_or(PageError::Internal)?;
    let answer = match begin_session(&app, provider, flow, &query).await {
        Ok(token) => {
            if let Some(former) = cookie::token(&app.site, &headers) {
                app.store.session_end(&token::digest(former)).await?;
            }
            let cookie = cookie::begin(&app.site, &headers, &token).ok_or(PageError::Internal)?;
            ([(header::SET_COOKIE, cookie)], see_other(local(&next))).into_response()
        }
        Err(why) => denied(&app, provider, &next, why)?,
    };
    Ok((AppendHeaders([(header::SET_COOKIE, ended)]), answer).into_response())
}

/// Begins a session for the user whom the provider has identified.
async fn begin_session(
    app: &App,
    provider: &Provider,
    flow: Option<Flow>,
    query: &Fields,
) -> Result<Token, ProviderError> {
    // First, check that this browser began the sign-in. The rest of the address is used only after
    // that.
    let flow = flow.filter(|flow| flow.is_of(query.raw("state"))).ok_or(ProviderError::NotOurs)?;
    let info = provider.info().await.map_err(|_| ProviderError::Unavailable)?;
    let names_other = query.raw("iss") != provider.config.issuer;
    if names_other && (query.has("iss") || info.metadata.names_itself) {
        tracing::warn!(
            expected.iss = provider.config.issuer,
            found.iss = %LogValue::text(query.raw("iss")),
            "refused a sign-in that names another identity provider, or none"
        );
        return Err(ProviderError::NotOurs);
    }
    match query.raw("error") {
        "" if query.raw("code").is_empty() => return Err(ProviderError::NotOurs),
        "" => {}
        "access_denied" => return Err(ProviderError::Cancelled),
        "temporarily_unavailable" | "server_error" => return Err(ProviderError::Unavailable),
        code => {
            let code: String = code.chars().filter(char::is_ascii_graphic).take(100).collect();
            tracing::warn!(code, "the identity provider refused a sign-in");
            return Err(ProviderError::Refused);
        }
    }
    let now = (app.clock)();
    let person = provider.person(&flow, query.raw("code"), now).await?;
    let status = app.store.directory_status(&person.name).await?;
    let administrator = person.administrator;
    let caller = admit(person, Authority::Provider, status)?;
    let token = Token::random()?;
    let session = NewProviderSession {
        digest: &token.digest(),
        issuer: &provider.config.issuer,
        user: &caller.name,
        administrator,
        created_at: now,
        expires_at: now + SESSION,
    };
    app.store.session_add_of_provider(session).await?;
    Ok(token)
}

/// Shows the sign-in page with the error, so that the user can try again.
fn denied(
    app: &App,
    provider: &Provider,
    next: &str,
    why: ProviderError,
) -> Result<Response, PageError> {
    let status = match why {
        ProviderError::Page(failed) => return Err(failed),
        ProviderError::NotOurs => StatusCode::BAD_REQUEST,
        ProviderError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    };
    // Otherwise the provider, where the user has a session, would return the same user.
    let force_login = matches!(
        why,
        ProviderError::UserClaim(_) | ProviderError::Unknown(_) | ProviderError::Disabled(_)
    );
    let error = Some(text::provider_error(&why, &provider.config.label));
    Ok(form(app, status, &Form { next, error, force_login, ..Form::default() }))
}
