//! The console: an API with which users manage their webhooks, and pages for the same in a browser.
//! Scripts and clients that were written for the report server's own API work with it.
//!
//! Read it in this order:
//!
//! 1. `routes`: every path, with its handler.
//! 2. `auth`: `caller` identifies the user who sends a request, by its access token; `token` makes
//!    access tokens; `passwords` and `throttle` protect sign-in.
//! 3. [`oidc`]: sign-in by an identity provider, for people and for the API.
//! 4. `api`: the handlers of the drop-in API. They read the request, call the use case in
//!    `fanfare-app`, and write the answer; `problem` has all failures.
//! 5. `v1`: the handlers of the API about deliveries, events, dead letters and statistics, and its
//!    description.
//! 6. `publishing`: `POST /events`, by which report servers publish without AMQP.
//! 7. `pages`: the pages for people. They need a session in a cookie (`auth::cookie`), which the
//!    APIs accept too; `auth::forgery` refuses requests that other sites make browsers send.
//! 8. `site` finds the address under which clients see the console; `security` adds headers and a
//!    time limit to every request. [`fanfare_http`] serves the connections, within `LIMITS`.
//! 9. `maintenance`: background work, which counts attempts.
//!
//! There is no CORS: a page of another origin can't read an answer. A page that calls the API from
//! a browser must have the same origin.

mod api;
mod app;
mod auth;
#[doc(hidden)]
pub mod fuzzing;
mod maintenance;
pub mod oidc;
mod pages;
mod paths;
mod publishing;
mod routes;
mod security;
mod site;
mod v1;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_app::storage::StorageLimits;
use fanfare_core::mail_address::MailDomains;
use fanfare_core::mask::MaskPolicy;
use fanfare_http::Limits;
use fanfare_metrics::Console as Metrics;
use fanfare_outbound::Client;
use fanfare_store::Store;
use fanfare_store::retry::{QueryError, retry_until_available};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use app::App;

/// The time between two sweeps of ended sessions. Each sweep also notices an outage of the
/// database, which is then logged once.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// The limits of connections. Idle connections stay open longer than common proxies keep them:
/// nginx and AWS 60 s, Caddy and IIS 2 min, Google Cloud 10 min. The proxy should close first,
/// because only it knows that no request is about to follow. If the console closed first, the proxy
/// would answer such a request with 502.
const LIMITS: Limits = Limits {
    connections: 512,
    head: Duration::from_secs(30),
    idle: Duration::from_mins(11),
    life: Duration::from_mins(10),
    max_head: 64 * 1024,
};

/// The dependencies and settings of the console.
pub struct Config {
    /// The database. It need not be reachable yet.
    pub store: Store,
    /// The same database for background work, which may take longer than requests.
    pub background: Store,
    /// The broker. It need not be reachable yet.
    pub broker: fanfare_broker::Config,
    /// The client that verifies addresses.
    pub client: Client,
    /// The values of events that are masked, as routers mask them.
    pub mask: MaskPolicy,
    /// The domains to which owners may have notices mailed.
    pub mail_domains: MailDomains,
    /// The longest time that a series of attempts may last.
    pub longest_chain: Duration,
    /// The time from the beginning of an attempt after which its row is certainly in the ledger.
    pub settled: Duration,
    /// Returns the current time.
    pub clock: fn() -> DateTime<Utc>,
    /// The maximum number of webhooks of one owner.
    pub webhooks_per_owner: u32,
    /// How long the ledger keeps what it has, and the size of the database's disk.
    pub storage: StorageLimits,
    /// Whether people may sign in with local accounts.
    pub local_accounts: bool,
    /// The console's address as clients see it, without a path; `None` to derive it from each
    /// request.
    pub url: Option<Url>,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub proxies: Vec<IpNet>,
    /// The identity provider that people sign in with, if there is one.
    pub provider: Option<oidc::Provider>,
    /// The metrics of what is published over HTTP.
    pub metrics: Arc<Metrics>,
}

/// Serves on `listener` until `stop` is cancelled and the requests in progress are answered. It
/// keeps running during an outage of the database: requests that need the database are answered
/// with 503.
pub async fn run(config: Config, listener: TcpListener, stop: CancellationToken) {
    match listener.local_addr() {
        Ok(address) => tracing::info!("listening on http://{address}"),
        Err(error) => tracing::warn!(%error, "listening on an unknown address"),
    }
    let app = Arc::new(App::new(config));
    let router = routes::router(Arc::clone(&app));
    // A sweep may stop at any point: a session that it did not delete has ended all the same.
    let background = async { tokio::join!(sweep(&app, &stop), maintenance::count(&app)) };
    let background = stop.run_until_cancelled(background);
    tokio::join!(fanfare_http::serve(listener, router, LIMITS, &stop), background);
}

async fn sweep(app: &App, stop: &CancellationToken) {
    loop {
        match retry_until_available(stop, async || {
            app.background.sessions_sweep((app.clock)()).await
        })
        .await
        {
            Ok(swept) => tracing::debug!(swept, "deleted sessions that have ended"),
            Err(QueryError::ShuttingDown) => return,
            Err(QueryError::Rejected(error) | QueryError::Failing(error)) => {
                tracing::error!(error = error.chain(), "failed to delete sessions that have ended");
            }
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_outlive_those_of_common_proxies() {
        assert!(LIMITS.idle > Duration::from_mins(10), "Google Cloud's load balancers");
        assert!(LIMITS.head <= Duration::from_secs(30));
    }
}
