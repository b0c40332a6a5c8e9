//! The user who sends a request, identified by an access token of the console or of the identity
//! provider, or by a session of the console.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use fanfare_app::Actor;
use fanfare_core::audit::{Door, Via};
use fanfare_core::name::Name;
use fanfare_store::StoreError;
use fanfare_store::sessions::SessionUser;

use super::bearer::BadBearer;
use super::{bearer, cookie, forgery, token};
use crate::api::problem::Problem;
use crate::app::{App, Shared};
use crate::oidc::admission::{Authority, NotAdmitted, admit};
use crate::oidc::claims::Person;
use crate::oidc::provider::{Provider, TokenError};

/// The user who sends a request. A handler with this extractor requires a sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: Name,
    /// Whether the user is a System Administrator.
    pub(crate) administrator: bool,
    /// The door of the request, and the client's address.
    via: Via,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let person = if let Some(token) = bearer::token(&parts.headers) {
            of_bearer(app, token).await?
        } else {
            let session = session(app, parts).ok_or(Problem::Unauthorized)?;
            of_session(app, session).await?.ok_or(Problem::Unauthorized)?
        };
        Ok(Self::new(person, app.proxies.via(parts, Door::Api)))
    }
}

impl Caller {
    /// The caller as an actor of use cases.
    pub(crate) fn actor(&self) -> Actor {
        let (name, via) = (self.name.clone(), self.via.clone());
        if self.administrator {
            Actor::of_administrator(name, via)
        } else {
            Actor::of_user(name, via)
        }
    }

    fn new(Person { name, administrator }: Person, via: Via) -> Self {
        Self { name, administrator, via }
    }

    /// Finds the user of a session of the pages by its token. Returns `None` when the token is
    /// unknown or its session has ended.
    pub(crate) async fn of_page(
        app: &App,
        token: &str,
        parts: &Parts,
    ) -> Result<Option<Self>, StoreError> {
        let person = of_session(app, token).await?;
        Ok(person.map(|person| Self::new(person, app.proxies.via(parts, Door::Console))))
    }
}

/// Finds the user of this token. Returns `None` when the token is unknown or its session has ended.
async fn of_session(app: &App, token: &str) -> Result<Option<Person>, StoreError> {
    let user = app.store.session_user(&token::digest(token), (app.clock)()).await?;
    Ok(user.and_then(|user| admitted(app, user)))
}

fn admitted(app: &App, user: SessionUser) -> Option<Person> {
    let SessionUser { name, administrator, issuer, status } = user;
    let (authority, holds) = match issuer {
        None => (Authority::Account, app.accounts.enabled),
        Some(issuer) => {
            let holds = app.provider.as_ref().is_some_and(|it| it.config.issuer == issuer);
            (Authority::Provider, holds)
        }
    };
    let admitted = admit(Person { name, administrator }, authority, status);
    admitted.ok().filter(|_| holds)
}

/// Finds the user of the access token in `Authorization`.
async fn of_bearer(app: &App, token: &str) -> Result<Person, Problem> {
    let provider = app.provider.as_ref().filter(|it| it.config.audience.is_some());
    match provider {
        // The console's own tokens have no dots; signed tokens have two.
        Some(provider) if token.contains('.') => of_provider_token(app, provider, token).await,
        _ => of_session(app, token).await?.ok_or(Problem::BadBearer(BadBearer::Unknown)),
    }
}

/// Finds the user for whom the provider made this token.
async fn of_provider_token(app: &App, provider: &Provider, token: &str) -> Result<Person, Problem> {
    let claims = provider.access_token(token).await.map_err(|error| match error {
        TokenError::Bad(bad) => Problem::BadBearer(BadBearer::Token(bad)),
        TokenError::Unavailable => Problem::ProviderUnavailable,
    })?;
    let person = provider.config.claims.person(&claims);
    let person = person.map_err(|nameless| Problem::BadBearer(BadBearer::UserClaim(nameless)))?;
    let status = app.store.directory_status(&person.name).await?;
    admit(person, Authority::Provider, status).map_err(|refused| {
        Problem::BadBearer(match refused {
            NotAdmitted::Unknown(_) => BadBearer::UnknownUser,
            NotAdmitted::Disabled(_) => BadBearer::DisabledUser,
        })
    })
}

/// Returns the token of the console's session. Browsers send it with every request, so a request
/// that changes something must also come from a page of the console.
fn session<'a>(app: &App, parts: &'a Parts) -> Option<&'a str> {
    let ours = || forgery::sender(&app.site, &parts.headers) == forgery::Sender::SameOrigin;
    cookie::token(&app.site, &parts.headers).filter(|_| forgery::is_safe(&parts.method) || ours())
}
