//! The publisher that sends a request, identified by its access token.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use fanfare_app::publishers;
use fanfare_http::Peer;

use super::problem::Problem;
use crate::app::{App, Shared};
use crate::auth::bearer;
use crate::auth::throttle::Source;

/// The name of the publisher that sends a request.
pub(crate) struct Account(pub(crate) String);

impl FromRequestParts<Shared> for Account {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let token = bearer::token(&parts.headers).ok_or(Problem::Unauthorized)?;
        let peer = parts.extensions.get::<Peer>();
        let peer = peer.map_or(IpAddr::from([0; 4]), |peer| peer.0);
        authenticate(app, token, peer.into()).await.map(Self)
    }
}

/// Finds the publisher of a token. The attempt is counted before the token is looked up, so that a
/// thousand simultaneous attempts count as a thousand.
async fn authenticate(app: &App, token: &str, source: Source) -> Result<String, Problem> {
    let digest = publishers::digest(token);
    let throttle = || app.publishing.throttle();
    let attempt = throttle().begin(digest, source, Instant::now()).map_err(Problem::too_many)?;
    match app.store.publisher_of_token(&digest).await {
        Ok(Some(name)) => {
            throttle().accepted(&attempt, Instant::now());
            Ok(name)
        }
        Ok(None) => {
            throttle().refused(&attempt);
            Err(Problem::UnknownToken)
        }
        Err(error) => {
            throttle().undecided(&attempt, Instant::now());
            Err(Problem::Shared(error.into()))
        }
    }
}
