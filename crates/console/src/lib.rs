//! The console: the API at which users register their webhooks, for scripts and clients that were
//! written for the report server's own, and pages for the same at a browser.
//!
//! Read it in this order:
//!
//! 1. `routes`: every path, with its handler.
//! 2. `auth`: `caller` says who sends a request, by the access token that it brings; `token` is how
//!    one is had, `passwords` and `throttle` what guards that.
//! 3. [`oidc`]: the same by an identity provider, for people and for the API.
//! 4. `api`: the handlers of the drop-in API. They read the request, call the use case in
//!    `fanfare-app`, and write the answer; `problem` is every failure.
//! 5. `v1`: the same for the API about deliveries, events, dead letters and statistics, with its
//!    description.
//! 6. `pages`: all of that for people. A session in a cookie (`auth::cookie`) opens them, and the
//!    APIs too; `auth::forgery` tells what another site has a browser send.
//! 7. `site` is how clients see us through proxies, `security` what every answer gets. Connections
//!    are those of [`fanfare_http`], within [`LIMITS`].
//! 8. `upkeep`: what goes on beside all that.
//!
//! There is no CORS: a page of another origin can't read an answer. Whoever wants to call the API
//! from a browser puts a page of the same origin before it.

mod api;
mod app;
mod auth;
pub mod oidc;
mod pages;
mod paths;
mod routes;
mod security;
mod site;
mod upkeep;
mod v1;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_http::Limits;
use fanfare_outbound::Client;
use fanfare_store::Store;
use fanfare_store::retry::{QueryError, retry_until_available};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use app::App;

/// How often sessions that have ended are swept. As often a database that is away is noticed, and
/// told once.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What clients may do. Idle connections stay longer than common proxies keep them: nginx and AWS
/// 60 s, Caddy and IIS 2 min, Google Cloud 10 min. Who closes first should be the proxy, which knows
/// that it is about to send no request; what it sends on a connection that is being closed is
/// answered with 502.
const LIMITS: Limits = Limits {
    connections: 512,
    head: Duration::from_secs(30),
    idle: Duration::from_mins(11),
    life: Duration::from_mins(10),
    max_head: 64 * 1024,
};

/// What the console needs.
pub struct Config {
    /// The database; it need not be there yet.
    pub store: Store,
    /// The same database for what goes on beside requests, and may take longer than they.
    pub background: Store,
    /// The broker; it need not be there yet.
    pub broker: fanfare_broker::Config,
    /// The client that verifies addresses.
    pub client: Client,
    /// The longest that a chain of attempts goes on.
    pub longest_chain: Duration,
    /// How long after its beginning the row of an attempt is surely in the ledger.
    pub settled: Duration,
    /// What the time is.
    pub clock: fn() -> DateTime<Utc>,
    /// The most webhooks that one owner may have.
    pub webhooks_per_owner: u32,
    /// Whether people with accounts here may sign in.
    pub local_accounts: bool,
    /// The console's address as clients see it, without a path; `None` when only requests tell it.
    pub url: Option<Url>,
    /// The identity provider that people sign in with, if there is one.
    pub provider: Option<oidc::Provider>,
}

/// Serves on `listener` until `stop` is cancelled and the requests that are under way are answered,
/// over any outage of the database: requests that need it are answered with 503 meanwhile.
pub async fn run(config: Config, listener: TcpListener, stop: CancellationToken) {
    match listener.local_addr() {
        Ok(address) => tracing::info!("listening on http://{address}"),
        Err(error) => tracing::warn!(%error, "listening on an address that can't be told"),
    }
    let app = Arc::new(App::new(config));
    let router = routes::router(Arc::clone(&app));
    // A sweep may be left at any point: what it did not delete has ended all the same.
    let beside =
        async { tokio::join!(sweep(&app, &stop), upkeep::count(&app), upkeep::resend(&app)) };
    let beside = stop.run_until_cancelled(beside);
    tokio::join!(fanfare_http::serve(listener, router, LIMITS, &stop), beside);
}

async fn sweep(app: &App, stop: &CancellationToken) {
    loop {
        match retry_until_available(stop, async || {
            app.background.sessions_sweep((app.clock)()).await
        })
        .await
        {
            Ok(swept) => tracing::debug!(swept, "swept sessions that have ended"),
            Err(QueryError::ShuttingDown) => return,
            Err(QueryError::Rejected(error) | QueryError::Failing(error)) => {
                tracing::error!(error = error.chain(), "failed to sweep sessions");
            }
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_outlive_what_common_proxies_keep() {
        assert!(LIMITS.idle > Duration::from_mins(10), "Google Cloud's load balancers");
        assert!(LIMITS.head <= Duration::from_secs(30));
    }
}
