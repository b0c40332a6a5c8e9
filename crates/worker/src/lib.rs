//! A worker: jobs in, POSTs out, attempts recorded.
//!
//! A worker receives two kinds of jobs, each with a part of the concurrency: first attempts and later
//! attempts.
//!
//! - `consume` receives and settles the jobs.
//! - `first_attempt` and `later_attempt` attempt the deliveries of a job. `decision` says what to do
//!   with a later attempt, and `ledger_lost` handles a delivery that the database does not know.
//! - `pacer` keeps to the pace that a receiver and an owner want, and `endpoint_limiter` keeps a bad
//!   endpoint from slowing down the others.
//! - `attempt` makes one POST and evaluates the answer. `slow_attempt` gives back the permit and the
//!   job of a slow attempt, which `guard` holds. `solo` separates attempts that must be made alone.
//! - `recorder` writes the attempts to the ledger, and `follow_up_publisher` publishes their
//!   follow-ups. Only then is a job acknowledged.
//!
//! A first attempt whose job the broker delivers for the first time needs no claim. Any other attempt
//! may have been made, or be under way in another worker, so `later_attempt` claims it first. Any
//! number of workers run at the same time.

use std::sync::Arc;
use std::time::Duration;

use fanfare_broker::{State, supervise};
use fanfare_core::retry::RetryPolicy;
use fanfare_metrics::Worker as Metrics;
use fanfare_outbound::Client;
use fanfare_store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod attempt;
mod chance;
mod claimer;
mod consume;
mod context;
mod database;
mod decision;
mod due_delivery;
mod ending;
mod endpoint_limiter;
mod error;
mod first_attempt;
mod follow_up;
mod follow_up_publisher;
mod guard;
mod later_attempt;
mod ledger_lost;
mod metrics;
mod pacer;
mod progress;
mod ready;
mod recorder;
mod series;
mod slow_attempt;
mod slow_claims;
mod solo;
mod telemetry;
mod units;
mod webhook_cache;
mod webhook_health;

use context::Context;

/// What a worker needs.
#[derive(Clone)]
pub struct Config {
    /// The connection to the broker.
    pub broker: fanfare_broker::Config,
    /// The database.
    pub store: Store,
    /// The client that sends notifications.
    pub client: Client,
    /// When a failed attempt is retried.
    pub policy: RetryPolicy,
    /// The time-out of one POST.
    pub timeout: Duration,
    /// The most POSTs under way at a time.
    pub concurrency: u32,
    /// The most POSTs under way at a time to one webhook.
    pub per_webhook: u32,
    /// How long a webhook may fail until it is paused.
    pub pause_after: Duration,
    /// The most jobs held at a time, of each kind.
    pub prefetch: u16,
    /// The worker's metrics.
    pub metrics: Arc<Metrics>,
}

/// How long a stopping worker waits for attempts that have outlived their session.
const GRACE: Duration = Duration::from_secs(2);

/// Delivers until `stop` is cancelled, through outages of the broker and the database, and then until
/// the attempts under way are recorded. `on_state` is called with each state of the connection to the
/// broker.
pub async fn run(config: Config, stop: CancellationToken, on_state: impl Fn(State)) {
    let tracker = TaskTracker::new();
    // Cancelled after `stop`: attempts under way are still recorded while the process ends.
    let end = CancellationToken::new();
    let broker = config.broker.clone();
    let context = Arc::new(Context::new(config, stop.clone(), end.clone(), &tracker));
    let work = supervise(&broker, &stop, on_state, |session| {
        consume::run(Arc::clone(&context), session, tracker.clone())
    });
    let Context { config, progress, .. } = &*context;
    tokio::select! {
        () = work => {}
        () = metrics::gauges(&context) => {}
        () = progress.write(&config.store, context.in_doubt_window()) => {}
    }
    // The recorder ends when its last user is dropped.
    drop(context);
    end.cancel();
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!("some attempts are still under way; their jobs will be redelivered");
    }
}
