//! The visitor of a page, and the check that a form comes from a page of the console.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use fanfare_app::{Actor, webhooks};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;

use super::components::{FORM_TOKEN, FormToken};
use super::error::PageError;
use super::fields::Fields;
use super::page::{CurrentUser, Frame};
use crate::api::body;
use crate::app::{App, Shared};
use crate::auth::caller::Caller;
use crate::auth::forgery::Sender;
use crate::auth::{cookie, forgery};

/// A visitor who is signed in. A handler with this extractor sends all others to the sign-in page.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(super) caller: Caller,
    /// Whether the request is for a part of a page.
    pub(super) htmx: bool,
    /// Whether Fanfare is in shadow mode.
    shadow: bool,
    session: String,
}

/// A form that a visitor sent from a page of the console. Every handler that changes something has
/// this extractor.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
}

/// The id of a webhook in a path. A text that is not an id names no webhook.
pub(crate) struct Id(pub(super) WebhookId);

impl Visitor {
    /// The token that the visitor's forms must send.
    pub(super) fn form_token(&self) -> FormToken {
        FormToken(forgery::form_token(&self.session))
    }

    /// The frame around the visitor's pages.
    pub(super) fn frame(&self) -> Frame {
        Frame::of(CurrentUser {
            name: self.caller.name.to_string(),
            administrator: self.caller.administrator,
            token: self.form_token(),
            shadow: self.shadow,
        })
    }

    /// The visitor as an actor of use cases.
    pub(super) fn actor(&self) -> Actor {
        self.caller.actor()
    }

    /// Finds a webhook of the visitor's, or of any owner for an administrator.
    pub(super) async fn webhook(&self, app: &App, id: WebhookId) -> Result<Webhook, PageError> {
        Ok(webhooks::find(&app.context, &self.actor(), id).await?)
    }

    /// Whether the visitor owns the webhook.
    pub(super) fn owns(&self, webhook: &Webhook) -> bool {
        webhook.owner == self.caller.name
    }
}

impl FromRequestParts<Shared> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, PageError> {
        let htmx = parts.headers.contains_key("hx-request");
        let caller = match cookie::token(&app.site, &parts.headers) {
            Some(token) => {
                let caller = Caller::of_page(app, token, parts).await?;
                caller.map(|caller| (caller, token.to_owned()))
            }
            None => None,
        };
        match caller {
            Some((caller, session)) => {
                let shadow = app.client.sends_nothing();
                Ok(Self { caller, htmx, shadow, session })
            }
            None => Err(PageError::SignIn { next: next(parts), htmx }),
        }
    }
}

/// The path to continue with after signing in: the requested page, if the request was for a whole
/// page.
fn next(parts: &Parts) -> String {
    let path = parts.uri.path_and_query().map(ToString::to_string);
    let asks = forgery::is_safe(&parts.method) && !parts.headers.contains_key("hx-request");
    path.filter(|_| asks).unwrap_or_default()
}

impl FromRequest<Shared> for Posted {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, PageError> {
        let (mut parts, body) = request.into_parts();
        if forgery::sender(&app.site, &parts.headers) == Sender::CrossSite {
            return Err(PageError::Forged);
        }
        let visitor = Visitor::from_request_parts(&mut parts, app).await?;
        let fields = read(body).await?;
        if !forgery::is_form_of(&visitor.session, fields.raw(FORM_TOKEN)) {
            return Err(PageError::Forged);
        }
        Ok(Self { visitor, fields })
    }
}

/// Reads a form.
pub(super) async fn read(body: Body) -> Result<Fields, PageError> {
    Ok(Fields::parse(&body::read(body).await?))
}

impl FromRequestParts<Shared> for Id {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, PageError> {
        let id = Path::<WebhookId>::from_request_parts(parts, app).await;
        id.map(|Path(id)| Self(id)).map_err(|_| PageError::Unknown)
    }
}
