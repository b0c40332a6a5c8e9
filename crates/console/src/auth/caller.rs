//! The user who sends a request, identified by an access token of the console or of the identity
//! provider, or by a session of the console.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use fanfare_app::Actor;
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
}

impl From<Person> for Caller {
    fn from(Person { name, administrator }: Person) -> Self {
        Self { name, administrator }
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        if let Some(token) = bearer::token(&parts.headers) {
            return Self::from_bearer(app, token).await;
        }
        let session = session(app, parts).ok_or(Problem::Unauthorized)?;
        Self::of(app, session).await?.ok_or(Problem::Unauthorized)
    }
}

impl Caller {
    /// The caller as an actor of use cases.
    pub(crate) fn actor(&self) -> Actor {
        let name = self.name.clone();
        if self.administrator { Actor::Administrator(name) } else { Actor::User(name) }
    }

    /// Finds the user of this token. Returns `None` when the token is unknown or its session has
    /// ended.
    pub(crate) async fn of(app: &App, token: &str) -> Result<Option<Self>, StoreError> {
        let user = app.store.session_user(&token::digest(token), (app.clock)()).await?;
        Ok(user.and_then(|user| Self::of_session(app, user)))
    }

    fn of_session(app: &App, user: SessionUser) -> Option<Self> {
        let SessionUser { name, administrator, issuer, status } = user;
        let (authority, holds) = match issuer {
            None => (Authority::Account, app.accounts.enabled),
            Some(issuer) => {
                let holds = app.provider.as_ref().is_some_and(|it| it.config.issuer == issuer);
                (Authority::Provider, holds)
            }
        };
        let admitted = admit(Person { name, administrator }, authority, status);
        admitted.ok().filter(|_| holds).map(Self::from)
    }

    /// Finds the user of the access token in `Authorization`.
    async fn from_bearer(app: &App, token: &str) -> Result<Self, Problem> {
        let provider = app.provider.as_ref().filter(|it| it.config.audience.is_some());
        match provider {
            // The console's own tokens have no dots; signed tokens have two.
            Some(provider) if token.contains('.') => {
                Self::from_provider_token(app, provider, token).await
            }
            _ => Self::of(app, token).await?.ok_or(Problem::BadBearer(BadBearer::Unknown)),
        }
    }

    /// Finds the user for whom the provider made this token.
    async fn from_provider_token(
        app: &App,
        provider: &Provider,
        token: &str,
    ) -> Result<Self, Problem> {
        let claims = provider.access_token(token).await.map_err(|error| match error {
            TokenError::Bad(bad) => Problem::BadBearer(BadBearer::Token(bad)),
            TokenError::Unavailable => Problem::ProviderUnavailable,
        })?;
        let person = provider.config.claims.person(&claims);
        let person =
            person.map_err(|nameless| Problem::BadBearer(BadBearer::UserClaim(nameless)))?;
        let status = app.store.directory_status(&person.name).await?;
        let admitted = admit(person, Authority::Provider, status);
        admitted.map(Self::from).map_err(|refused| {
            Problem::BadBearer(match refused {
                NotAdmitted::Unknown(_) => BadBearer::UnknownUser,
                NotAdmitted::Disabled(_) => BadBearer::DisabledUser,
            })
        })
    }
}

/// Returns the token of the console's session. Browsers send it with every request, so a request
/// that changes something must also come from a page of the console.
fn session<'a>(app: &App, parts: &'a Parts) -> Option<&'a str> {
    let ours = || forgery::sender(&app.site, &parts.headers) == forgery::Sender::SameOrigin;
    cookie::token(&app.site, &parts.headers).filter(|_| forgery::is_safe(&parts.method) || ours())
}
