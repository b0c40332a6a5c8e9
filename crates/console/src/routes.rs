//! Every path that is served.

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::from_fn;
use axum::routing::{get, post};

use crate::api::{filters, problem, registrations, token};
use crate::app::Shared;
use crate::oidc::flow;
use crate::pages;
use crate::paths::REGISTRATIONS;
use crate::security;
use crate::v1;

/// Where access tokens are had.
const TOKEN: &str = "/token";
/// What can be asked for.
const FILTERS: &str = "/api/webhooks/filters";
/// A webhook.
const REGISTRATION: &str = "/api/webhooks/registrations/{id}";

/// The route table. Its paths are the folded ones: see [`fold`].
pub(crate) fn router(app: Shared) -> Router {
    let registrations =
        get(registrations::list).post(registrations::create).delete(registrations::delete_all);
    let registration =
        get(registrations::show).put(registrations::update).delete(registrations::delete);
    Router::new()
        .route(TOKEN, post(token::grant))
        .route(FILTERS, get(filters::list))
        .route(REGISTRATIONS, registrations)
        .route(REGISTRATION, registration)
        .nest(v1::BASE, v1())
        .route(v1::OPENAPI, get(v1::openapi::show))
        .route(v1::DOCS, get(v1::docs::show))
        .merge(pages())
        .fallback(pages::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(from_fn(security::every_answer))
        .with_state(app)
}

/// The API beside the drop-in one; its paths are below [`v1::BASE`], and not folded.
fn v1() -> Router<Shared> {
    use v1::{dead_letters, deliveries, events, limits, problem, resends, statistics, webhooks};
    Router::new()
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/{id}", get(deliveries::show))
        .route("/deliveries/{id}/retry", post(deliveries::retry))
        .route("/webhooks/{id}", get(webhooks::show).patch(webhooks::change))
        .route("/webhooks/{id}/test", post(webhooks::test))
        .route("/webhooks/{id}/secret", post(webhooks::rotate))
        .route(
            "/webhooks/{id}/retry-failed",
            post(resends::begin).get(resends::show).delete(resends::cancel),
        )
        .route("/events", get(events::list))
        .route("/events/{id}", get(events::show))
        .route("/events/{id}/explain", get(events::explain))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/replay", post(dead_letters::replay_all))
        .route("/dead-letters/discard", post(dead_letters::discard))
        .route("/statistics", get(statistics::show))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(from_fn(limits::within_time))
}

/// The pages.
fn pages() -> Router<Shared> {
    use pages::{
        assets, deliveries, delivery, edit, grid, provider, remove, resend, row, secret, sign_in,
        signature, test, webhook,
    };
    Router::new()
        .route("/", get(sign_in::home))
        .route(pages::SIGN_IN, get(sign_in::show).post(sign_in::enter))
        .route(pages::SIGN_IN_ELSEWHERE, get(provider::start))
        .route(flow::CALLBACK, get(provider::finish))
        .route("/sign-out", post(sign_in::leave))
        .route("/assets/{name}", get(assets::show))
        .route(pages::WEBHOOKS, get(grid::show).post(edit::create))
        .route("/webhooks/new", get(edit::new))
        .route("/webhooks/{id}", get(webhook::show))
        .route("/webhooks/{id}/edit", get(edit::edit).post(edit::save))
        .route("/webhooks/{id}/pause", post(row::pause))
        .route("/webhooks/{id}/resume", post(row::resume))
        .route("/webhooks/{id}/delete", get(remove::ask).post(remove::delete))
        .route("/webhooks/{id}/test", post(test::send))
        .route("/webhooks/{id}/secret", post(secret::reveal))
        .route("/webhooks/{id}/secret/rotate", post(secret::rotate))
        .route("/webhooks/{id}/signature", get(signature::show).post(signature::check))
        .route("/webhooks/{id}/resend", get(resend::ask).post(resend::begin))
        .route("/webhooks/{id}/resend/{resend}", get(resend::show))
        .route("/webhooks/{id}/resend/{resend}/cancel", post(resend::cancel))
        .route("/webhooks/{id}/deliveries", get(deliveries::list))
        .route("/webhooks/{id}/deliveries/{delivery}", get(delivery::show))
        .route("/webhooks/{id}/deliveries/{delivery}/body", get(delivery::body))
        .route("/webhooks/{id}/deliveries/{delivery}/resend", post(delivery::resend))
}

/// Folds the case of the API's own paths and takes a slash off their end, as the report server's
/// routes don't mind either; other paths stay as they are.
pub(crate) fn fold<B>(mut request: Request<B>) -> Request<B> {
    if let Some(folded) = folded(request.uri()) {
        *request.uri_mut() = folded;
    }
    request
}

fn folded(uri: &Uri) -> Option<Uri> {
    let path = uri.path().to_ascii_lowercase();
    let path = path.trim_end_matches('/');
    let ours = path == TOKEN || path.starts_with("/api/webhooks/");
    if !ours || path == uri.path() {
        return None;
    }
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let uri: Uri = path.parse().unwrap();
        assert_eq!(folded(&uri).unwrap_or(uri).to_string(), expected);
    }

    #[test]
    fn only_the_api_s_own_paths_are_folded() {
        check("/Token", "/token");
        check("/TOKEN/?A=B", "/token?A=B");
        check("/Api/WebHooks/Registrations/?User=Anna", "/api/webhooks/registrations?User=Anna");
        check("http://x/API/WEBHOOKS/FILTERS", "http://x/api/webhooks/filters");
        check("/Tokens", "/Tokens");
        check("/Api/V1/A", "/Api/V1/A");
        check("/", "/");
    }
}
