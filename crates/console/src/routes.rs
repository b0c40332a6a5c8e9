//! All routes of the console.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Uri};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tower::ServiceExt as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::api::{filters, problem, registrations, token};
use crate::app::Shared;
use crate::oidc::flow;
use crate::pages::{self, PageError, Visitor};
use crate::publishing;
use crate::security;
use crate::v1;

/// The token endpoint.
const TOKEN: &str = "/Token";

/// The route table. Its paths are the folded ones: see [`fold`].
pub(crate) fn router(app: Shared) -> Router {
    let (apis, description) = apis();
    let router = apis
        .route(v1::OPENAPI, get(v1::openapi::answer(&description)))
        .route(v1::DOCS, get(v1::docs::answer(&description)))
        .merge(pages())
        .fallback(pages::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(from_fn(security::every_answer))
        .with_state(app);
    // A layer of the router itself would come after its choice of a route.
    Router::new().fallback_service(router.map_request(fold::<Body>))
}

/// The routes of the APIs, and their description.
fn apis() -> (Router<Shared>, Value) {
    let (apis, description) = OpenApiRouter::with_openapi(v1::openapi::outline())
        .routes(routes!(token::grant))
        .routes(publishing())
        .routes(routes!(filters::list))
        .routes(routes!(registrations::list, registrations::create, registrations::delete_all))
        .routes(routes!(registrations::show, registrations::update, registrations::delete))
        .split_for_parts();
    let (v1, of_v1) = v1();
    let description = description.nest(v1::BASE, of_v1);
    (apis.nest(v1::BASE, v1), v1::openapi::complete(&description))
}

/// Publishing over HTTP. Its failures are problem details, whatever the method is.
fn publishing() -> UtoipaMethodRouter<Shared> {
    let (schemas, paths, methods) = routes!(publishing::publish);
    let methods = methods
        .get(events)
        .options(publishing::options)
        .fallback(publishing::no_method)
        .layer(from_fn(v1::limits::within_time));
    (schemas, paths, methods)
}

/// The page of events has the path of publishing. Programs get the answer to a wrong method.
async fn events(
    state: State<Shared>,
    visitor: Result<Visitor, PageError>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    if !pages::is_browser(&headers) {
        return publishing::no_method().await.into_response();
    }
    match visitor {
        Ok(visitor) => pages::events::list(state, visitor, uri).await.into_response(),
        Err(error) => error.into_response(),
    }
}

/// The routes of the second API. Its paths are below [`v1::BASE`], and are not folded.
fn v1() -> (Router<Shared>, OpenApi) {
    use v1::{
        audit, dead_letters, deliveries, events, limits, mend, notice_settings, notices,
        operations, problem, resends, statistics, storage, webhooks,
    };
    let (router, description) = OpenApiRouter::default()
        .routes(routes!(webhooks::show, webhooks::change))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(resends::begin, resends::show, resends::cancel))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::retry))
        .routes(routes!(events::list))
        .routes(routes!(events::show))
        .routes(routes!(events::explain))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::groups))
        .routes(routes!(dead_letters::replay_all))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(mend::mend))
        .routes(routes!(operations::list, operations::begin))
        .routes(routes!(operations::show))
        .routes(routes!(operations::pause))
        .routes(routes!(operations::resume))
        .routes(routes!(operations::cancel))
        .routes(routes!(operations::undo))
        .routes(routes!(notices::list))
        .routes(routes!(notice_settings::show, notice_settings::change))
        .routes(routes!(statistics::show))
        .routes(routes!(audit::list))
        .routes(routes!(storage::show))
        .split_for_parts();
    let router = router
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(from_fn(limits::within_time));
    (router, description)
}

fn pages() -> Router<Shared> {
    use pages::{
        accounts, assets, audit, dead_letters, deletion, deliveries, delivery, directory, edit,
        events, explanation, grid, mend, notice_settings, notices, operations, overview, provider,
        resend, row, secret, sign_in, signature, storage, test, webhook,
    };
    Router::new()
        .route("/", get(sign_in::home))
        .route(pages::SIGN_IN, get(sign_in::show).post(sign_in::submit))
        .route(pages::SIGN_IN_PROVIDER, get(provider::start))
        .route(flow::CALLBACK, get(provider::finish))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/assets/{name}", get(assets::show))
        .route(pages::WEBHOOKS, get(grid::show).post(edit::create))
        .route(pages::OVERVIEW, get(overview::show))
        .route(pages::AUDIT, get(audit::show))
        .route(pages::NOTICES, get(notices::show))
        .route(pages::NOTICE_SETTINGS, get(notice_settings::show).post(notice_settings::save))
        .route(pages::DEAD_LETTERS, get(dead_letters::list))
        .route("/events/event", get(events::show))
        .route("/dead-letters/letter", get(dead_letters::show))
        .route("/dead-letters/mend", get(mend::show).post(mend::submit))
        .route(pages::OPERATIONS, get(operations::list).post(operations::begin))
        .route("/operations/new", get(operations::new))
        .route("/operations/{id}", get(operations::show))
        .route("/operations/{id}/pause", post(operations::pause))
        .route("/operations/{id}/resume", post(operations::resume))
        .route("/operations/{id}/cancel", post(operations::cancel))
        .route("/operations/{id}/undo", post(operations::undo))
        .route(pages::DIRECTORY, get(directory::show))
        .route(pages::ACCOUNTS, get(accounts::list))
        .route("/accounts/disable", post(accounts::disable))
        .route("/accounts/enable", post(accounts::enable))
        .route(pages::STORAGE, get(storage::show))
        .route("/webhooks/new", get(edit::new))
        .route("/webhooks/{id}", get(webhook::show))
        .route("/webhooks/{id}/edit", get(edit::edit).post(edit::save))
        .route("/webhooks/{id}/pause", post(row::pause))
        .route("/webhooks/{id}/resume", post(row::resume))
        .route("/webhooks/{id}/delete", get(deletion::confirm).post(deletion::delete))
        .route("/webhooks/{id}/test", post(test::send))
        .route("/webhooks/{id}/secret", post(secret::reveal))
        .route("/webhooks/{id}/secret/rotate", post(secret::rotate))
        .route("/webhooks/{id}/signature", get(signature::show).post(signature::check))
        .route("/webhooks/{id}/explain", get(explanation::show))
        .route("/webhooks/{id}/resend", get(resend::ask).post(resend::begin))
        .route("/webhooks/{id}/resend/{resend}", get(resend::show))
        .route("/webhooks/{id}/resend/{resend}/cancel", post(resend::cancel))
        .route("/webhooks/{id}/deliveries", get(deliveries::list))
        .route("/webhooks/{id}/deliveries/{delivery}", get(delivery::show))
        .route("/webhooks/{id}/deliveries/{delivery}/body", get(delivery::body))
        .route("/webhooks/{id}/deliveries/{delivery}/resend", post(delivery::resend))
}

/// Folds the case of the drop-in API's paths and removes a slash at their end, because the report
/// server's routes accept both. Other paths are left unchanged.
fn fold<B>(mut request: Request<B>) -> Request<B> {
    if let Some(folded) = folded(request.uri()) {
        *request.uri_mut() = folded;
    }
    request
}

fn folded(uri: &Uri) -> Option<Uri> {
    let path = uri.path().to_ascii_lowercase();
    let path = path.trim_end_matches('/');
    let path = if path.eq_ignore_ascii_case(TOKEN) { TOKEN } else { path };
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

    /// All texts under `$ref`.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                let reference = members.get("$ref").and_then(Value::as_str);
                found.extend(reference.map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_description_contains_every_schema_that_it_refers_to() {
        let (_, document) = apis();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn each_operation_has_a_unique_name() {
        let (_, document) = apis();
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|path| path.as_object().unwrap().values());
        let mut ids: Vec<&str> =
            operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "{ids:?}");
    }

    #[test]
    fn the_page_shows_every_operation_and_schema_without_a_script() {
        let (_, document) = apis();
        let page = v1::docs::page(&document);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in document["paths"].as_object().unwrap().keys().chain(schemas.keys()) {
            assert!(page.contains(&format!("<code>{name}</code>")), "{name}");
        }
        assert!(!page.contains("<script"));
    }

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let uri: Uri = path.parse().unwrap();
        assert_eq!(folded(&uri).unwrap_or(uri).to_string(), expected);
    }

    #[test]
    fn only_paths_of_the_drop_in_api_are_folded() {
        check("/token", "/Token");
        check("/TOKEN/?A=B", "/Token?A=B");
        check("/Api/WebHooks/Registrations/?User=Anna", "/api/webhooks/registrations?User=Anna");
        check("http://x/API/WEBHOOKS/FILTERS", "http://x/api/webhooks/filters");
        check("/Tokens", "/Tokens");
        check("/Api/V1/A", "/Api/V1/A");
        check("/", "/");
    }
}
