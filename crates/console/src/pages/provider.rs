//! Signing in at the identity provider: the way there, and back.
//!
//! Going there needs no form of ours: all that another site could do with it is to have somebody
//! signed in as who they are at the provider. Coming back works only in the browser that went.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use fanfare_store::sessions::NewProviderSession;

use super::denied::Denied;
use super::error::Failed;
use super::fields::Fields;
use super::page::see_other;
use super::sign_in::{Form, form, local};
use super::text;
use crate::app::{App, Shared};
use crate::auth::passwords::SESSION;
use crate::auth::token::Token;
use crate::auth::{cookie, token};
use crate::oidc::admission::{Authority, admit};
use crate::oidc::flow::Flow;
use crate::oidc::provider::Provider;
use crate::oidc::stated::Shown;

/// `GET`: sends the browser to the provider.
pub(crate) async fn start(
    State(app): State<Shared>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failed> {
    let provider = app.provider.as_ref().ok_or(Failed::Unknown)?;
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let next = query.text("next");
    let Ok(described) = provider.described().await else {
        return denied(&app, provider, next, Denied::Away);
    };
    let flow = Flow::begin(next)?;
    let address = flow.address(&described.metadata, &provider.config, query.has("anew"));
    let cookie = cookie::begin_flow(&app.site, &headers, &flow).ok_or(Failed::Internal)?;
    Ok(([(header::SET_COOKIE, cookie)], see_other(address.as_str())).into_response())
}

/// `GET`: the browser is back.
pub(crate) async fn finish(
    State(app): State<Shared>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failed> {
    let provider = app.provider.as_ref().ok_or(Failed::Unknown)?;
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let flow = cookie::flow(&app.site, &headers);
    let next = flow.as_ref().map(|flow| local(flow.next()).to_owned()).unwrap_or_default();
    let ended = cookie::end_flow(&app.site, &headers).ok_or(Failed::Internal)?;
    let answer = match come_in(&app, provider, flow, &query).await {
        Ok(token) => {
            if let Some(former) = cookie::token(&app.site, &headers) {
                app.store.session_end(&token::digest(former)).await?;
            }
            let cookie = cookie::begin(&app.site, &headers, &token).ok_or(Failed::Internal)?;
            ([(header::SET_COOKIE, cookie)], see_other(local(&next))).into_response()
        }
        Err(why) => denied(&app, provider, &next, why)?,
    };
    Ok((AppendHeaders([(header::SET_COOKIE, ended)]), answer).into_response())
}

/// Begins a session for whom the provider vouches for.
async fn come_in(
    app: &App,
    provider: &Provider,
    flow: Option<Flow>,
    query: &Fields,
) -> Result<Token, Denied> {
    // Whose sign-in it is comes before anything else that the address says.
    let flow = flow.filter(|flow| flow.is_of(query.raw("state"))).ok_or(Denied::NotOurs)?;
    let described = provider.described().await.map_err(|_| Denied::Away)?;
    let names_other = query.raw("iss") != provider.config.issuer;
    if names_other && (query.has("iss") || described.metadata.names_itself) {
        tracing::warn!(
            expected.iss = provider.config.issuer,
            found.iss = %Shown::text(query.raw("iss")),
            "refused a sign-in that names another identity provider, or none"
        );
        return Err(Denied::NotOurs);
    }
    match query.raw("error") {
        "" if query.raw("code").is_empty() => return Err(Denied::NotOurs),
        "" => {}
        "access_denied" => return Err(Denied::Cancelled),
        "temporarily_unavailable" | "server_error" => return Err(Denied::Away),
        code => {
            let code: String = code.chars().filter(char::is_ascii_graphic).take(100).collect();
            tracing::warn!(code, "the identity provider refused a sign-in");
            return Err(Denied::Refused);
        }
    }
    let now = (app.clock)();
    let person = provider.person(&flow, query.raw("code"), now).await?;
    let standing = app.store.directory_status(&person.name).await?;
    let administrator = person.administrator;
    let caller = admit(person, Authority::Provider, standing)?;
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

/// The sign-in page with what went wrong, from which one can try again.
fn denied(app: &App, provider: &Provider, next: &str, why: Denied) -> Result<Response, Failed> {
    let status = match why {
        Denied::Failed(failed) => return Err(failed),
        Denied::NotOurs => StatusCode::BAD_REQUEST,
        Denied::Away => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    };
    // Otherwise the provider, which knows the user, would send the same one back.
    let anew = matches!(why, Denied::Nameless(_) | Denied::Unknown(_) | Denied::Disabled(_));
    let error = Some(text::denied(&why, &provider.config.label));
    Ok(form(app, status, &Form { next, error, anew, ..Form::default() }))
}
