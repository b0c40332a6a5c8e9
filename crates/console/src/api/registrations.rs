//! `/api/webhooks/registrations`: webhooks.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::registration::Registration;
use url::form_urlencoded;

use super::body;
use super::json::json;
use super::problem::Problem;
use super::view;
use crate::app::Shared;
use crate::auth::caller::Caller;
use crate::routes::REGISTRATIONS;
use crate::webhooks::{self, Whose};

/// The webhook that a path names. What is no id names none.
pub(crate) struct Id(WebhookId);

impl FromRequestParts<Shared> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let id = Path::<WebhookId>::from_request_parts(parts, app).await;
        id.map(|Path(id)| Self(id)).map_err(|_| Problem::Unknown)
    }
}

/// `GET` of all: the caller's, or those of the users that the query names.
pub(crate) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let whose = whose(uri.query().unwrap_or_default());
    let show = if whose == Whose::Own { view::seen_by } else { view::with_user };
    let webhooks = webhooks::list(&app, &caller, &whose).await?;
    Ok(json(
        StatusCode::OK,
        &webhooks.iter().map(|webhook| show(&caller, webhook)).collect::<Vec<_>>(),
    ))
}

/// `GET` of one.
pub(crate) async fn show(
    State(app): State<Shared>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, Problem> {
    let webhook = webhooks::find(&app, &caller, id).await?;
    Ok(json(StatusCode::OK, &view::seen_by(&caller, &webhook)))
}

/// `POST`: registers one.
pub(crate) async fn create(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let members = body::members(&headers, body).await?;
    let wanted = Registration::parse(&members)?;
    let webhook = webhooks::register(&app, &caller, wanted).await?;
    let location = location(&headers, webhook.id);
    let answer = json(StatusCode::CREATED, &view::own(&webhook));
    Ok(([(header::LOCATION, location)], answer).into_response())
}

/// `PUT`: changes one as a whole.
pub(crate) async fn update(
    State(app): State<Shared>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let webhook = webhooks::find(&app, &caller, id).await?;
    let members = body::members(&headers, body).await?;
    if let Some(named) = members.text("Id")?.filter(|named| named.parse() != Ok(id)) {
        let reason = format!("The Id '{named}' is not the one in the path, '{id}'.");
        return Err(Problem::NotRegistered(reason));
    }
    webhooks::change(&app, &caller, &webhook, Registration::parse(&members)?).await?;
    Ok(StatusCode::OK)
}

/// `DELETE` of one.
pub(crate) async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    webhooks::delete(&app, &caller, id).await?;
    Ok(StatusCode::OK)
}

/// `DELETE` of all: the caller's.
pub(crate) async fn delete_all(
    State(app): State<Shared>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    webhooks::delete_all(&app, &caller).await?;
    Ok(StatusCode::OK)
}

/// Whose webhooks a query asks for, by the parameter `user`.
fn whose(query: &str) -> Whose {
    let user = form_urlencoded::parse(query.as_bytes())
        .find(|(name, value)| name.eq_ignore_ascii_case("user") && !value.is_empty());
    match user {
        None => Whose::Own,
        Some((_, value)) if value.eq_ignore_ascii_case("all") => Whose::All,
        Some((_, value)) => Name::parse(&value).map_or(Whose::Nobody, Whose::Of),
    }
}

/// The absolute URL of a webhook, by the name that the client has for this server. Behind a proxy
/// that ends TLS, the proxy says so. Without a name it is a path, which clients resolve.
fn location(headers: &HeaderMap, id: WebhookId) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = match text("x-forwarded-proto") {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
        _ => "http",
    };
    let host = text("host").and_then(|host| host.parse::<Authority>().ok());
    match host.filter(|host| !host.as_str().contains('@')) {
        Some(host) => format!("{scheme}://{host}{REGISTRATIONS}/{id}"),
        None => format!("{REGISTRATIONS}/{id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};
    use uuid::Uuid;

    #[test]
    fn a_query_says_whose_webhooks_are_meant() {
        let of = |name| Whose::Of(Name::parse(name).unwrap());
        assert_eq!(whose(""), Whose::Own);
        assert_eq!(whose("a=b&user="), Whose::Own);
        assert_eq!(whose("USER=All"), Whose::All);
        assert_eq!(whose("user=%C3%A4nna+b"), of("änna b"));
        assert_eq!(whose("user=%07"), Whose::Nobody);
    }

    #[track_caller]
    fn check_location(headers: &[(&'static str, &'static str)], expected: &str) {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = headers.iter().map(header).collect();
        let location = location(&headers, WebhookId(Uuid::from_u128(7)));
        let path = "/api/webhooks/registrations/00000000000000000000000000000007";
        assert_eq!(location, format!("{expected}{path}"));
    }

    #[test]
    fn locations_are_absolute_as_the_client_sees_us() {
        check_location(&[("host", "reports.example.org:8080")], "http://reports.example.org:8080");
        check_location(&[("host", "[::1]:80")], "http://[::1]:80");
        check_location(&[("host", "a"), ("x-forwarded-proto", "HTTPS")], "https://a");
        check_location(&[("host", "a"), ("x-forwarded-proto", "javascript")], "http://a");
        for host in ["", "a/b", "u@a", "a b"] {
            check_location(&[("host", host)], "");
        }
    }
}
