//! `/api/webhooks/registrations`: list, show, register, change and delete webhooks.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use fanfare_app::webhooks::{self, NewWebhook, OwnerScope, Verification};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::registration::Registration;
use url::form_urlencoded;

use super::body;
use super::json::json;
use super::problem::Problem;
use super::view::{self, View};
use super::webhook_request::WebHookRequest;
use crate::app::Shared;
use crate::auth::caller::Caller;
use crate::paths::REGISTRATIONS;

const REGISTRATION: &str = "/api/webhooks/registrations/{id}";

/// The id of a webhook in a path. A text that is not an id names no webhook.
pub(crate) struct Id(WebhookId);

impl FromRequestParts<Shared> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let id = Path::<WebhookId>::from_request_parts(parts, app).await;
        id.map(|Path(id)| Self(id)).map_err(|_| Problem::Unknown)
    }
}

/// List webhooks.
#[utoipa::path(
    get,
    path = REGISTRATIONS,
    tag = "Webhooks",
    params((
        "user" = Option<String>,
        Query,
        description = "`all`, or a user's name. Only for System Administrators."
    )),
    responses(
        (
            status = 200,
            description = "The caller's own webhooks, or the requested ones.",
            body = Vec<View<'static>>
        ),
        (status = 403),
    )
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let scope = scope(uri.query().unwrap_or_default());
    let show = if scope == OwnerScope::Own { view::seen_by } else { view::with_user };
    let actor = caller.actor();
    let webhooks = webhooks::list(&app.context, &actor, &scope).await?;
    let shown = webhooks.iter().map(|webhook| show(&actor, webhook));
    Ok(json(StatusCode::OK, &shown.collect::<Vec<_>>()))
}

/// Show a webhook.
#[utoipa::path(
    get,
    path = REGISTRATION,
    tag = "Webhooks",
    responses((status = 200, description = "The webhook.", body = View<'static>), (status = 404))
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, Problem> {
    let actor = caller.actor();
    let webhook = webhooks::find(&app.context, &actor, id).await?;
    Ok(json(StatusCode::OK, &view::seen_by(&actor, &webhook)))
}

/// Register a webhook.
///
/// First, the address must return a text that it is sent, unless its query has `noecho`.
#[utoipa::path(
    post,
    path = REGISTRATIONS,
    tag = "Webhooks",
    request_body = WebHookRequest,
    responses(
        (status = 201, description = "The webhook; `Location` names it.", body = View<'static>),
        (status = 400),
    )
)]
pub(crate) async fn create(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let members = body::members(&headers, body).await?;
    let wanted = Registration::parse(&members)?;
    let verification = Verification::Ask(&app.client);
    let new = NewWebhook { owner: caller.name.clone(), wanted, verification };
    let webhook = webhooks::register(&app.context, &caller.actor(), new).await?;
    let path = format!("{REGISTRATIONS}/{}", webhook.id);
    let location = app.site.absolute(&headers, &path);
    let answer = json(StatusCode::CREATED, &view::own(&webhook));
    Ok(([(header::LOCATION, location)], answer).into_response())
}

/// Change a webhook as a whole.
#[utoipa::path(
    put,
    path = REGISTRATION,
    tag = "Webhooks",
    request_body = WebHookRequest,
    responses((status = 200, description = "Done."), (status = 400), (status = 404))
)]
pub(crate) async fn update(
    State(app): State<Shared>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let actor = caller.actor();
    webhooks::find(&app.context, &actor, id).await?;
    let members = body::members(&headers, body).await?;
    if let Some(named) = members.text("Id")?.filter(|named| named.parse() != Ok(id)) {
        let reason = format!("The Id '{named}' is not the one in the path, '{id}'.");
        return Err(Problem::NotRegistered(reason));
    }
    let (wanted, verification) = (Registration::parse(&members)?, Verification::Ask(&app.client));
    webhooks::replace(&app.context, &actor, id, wanted, verification).await?;
    Ok(StatusCode::OK)
}

/// Delete a webhook.
#[utoipa::path(
    delete,
    path = REGISTRATION,
    tag = "Webhooks",
    responses((status = 200, description = "Done."), (status = 404))
)]
pub(crate) async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    webhooks::delete(&app.context, &caller.actor(), id).await?;
    Ok(StatusCode::OK)
}

/// Delete all of the caller's webhooks.
#[utoipa::path(
    delete,
    path = REGISTRATIONS,
    tag = "Webhooks",
    responses((status = 200, description = "Done."))
)]
pub(crate) async fn delete_all(
    State(app): State<Shared>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    webhooks::delete_own(&app.context, &caller.actor()).await?;
    Ok(StatusCode::OK)
}

/// Reads the owners whose webhooks are listed from the query parameter `user`.
fn scope(query: &str) -> OwnerScope {
    let user = form_urlencoded::parse(query.as_bytes())
        .find(|(name, value)| name.eq_ignore_ascii_case("user") && !value.is_empty());
    match user {
        None => OwnerScope::Own,
        Some((_, value)) if value.eq_ignore_ascii_case("all") => OwnerScope::All,
        Some((_, value)) => Name::parse(&value).map_or(OwnerScope::NotAName, OwnerScope::Of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_user_selects_the_owners() {
        let of = |name| OwnerScope::Of(Name::parse(name).unwrap());
        assert_eq!(scope(""), OwnerScope::Own);
        assert_eq!(scope("a=b&user="), OwnerScope::Own);
        assert_eq!(scope("USER=All"), OwnerScope::All);
        assert_eq!(scope("user=%C3%A4nna+b"), of("änna b"));
        assert_eq!(scope("user=%07"), OwnerScope::NotAName);
    }
}
