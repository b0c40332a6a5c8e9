//! Every path that is served.

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::from_fn;
use axum::routing::{get, post};

use crate::api::{filters, problem, registrations, token};
use crate::app::Shared;
use crate::security;

/// Where access tokens are had.
const TOKEN: &str = "/token";
/// What can be asked for.
const FILTERS: &str = "/api/webhooks/filters";
/// Webhooks.
pub(crate) const REGISTRATIONS: &str = "/api/webhooks/registrations";
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
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(from_fn(security::every_answer))
        .with_state(app)
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
