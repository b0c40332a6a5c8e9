//! A worker: jobs in, POSTs out, attempts recorded.
//!
//! A job goes through five steps:
//!
//! 1. `consume` receives it.
//! 2. `load` reads the facts about each of its deliveries: may its endpoint get a request now, has
//!    another worker the attempt, what do the ledger and the directory say?
//! 3. [`fanfare_core::delivery::decide`] decides, from the facts alone.
//! 4. `act` carries the decision out. It makes the attempt and records it (`attempt`), or records that
//!    there is none, and returns what follows: a retry, a deferral or a dead letter.
//! 5. `follow_up_publisher` publishes that. Only then does `consume` acknowledge the job.
//!
//! `deliver` is these steps in order. A first attempt whose job the broker delivers for the first time
//! takes all it needs from the job: it asks neither the ledger nor for a lease. Any other attempt may
//! have been made, or be under way in another worker, so it needs a lease first. First attempts and
//! others each have a part of the concurrency.
//!
//! Besides the steps:
//!
//! - `in_doubt` defers first attempts that another worker may have made, and `ledger_lost` handles a
//!   delivery that the database does not know.
//! - `pacer` keeps to the pace that a receiver and an owner want, and `endpoint_limiter` keeps a bad
//!   endpoint from slowing down the others. `solo` separates attempts that must be made alone.
//! - `guard` holds the permit and the job of an attempt, which a slow attempt gives back.
//! - `recorder` writes the rows of many attempts together, and `claimer` takes the leases.
//!
//! Any number of workers run at the same time.

use std::sync::Arc;
use std::time::Duration;

use fanfare_broker::{State, supervise};
use fanfare_core::retry::RetryPolicy;
use fanfare_metrics::Worker as Metrics;
use fanfare_outbound::Client;
use fanfare_store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod act;
mod attempt;
mod claimer;
mod consume;
mod context;
mod database;
mod deliver;
mod delivery;
mod endpoint_limiter;
mod error;
mod follow_up;
mod follow_up_publisher;
mod guard;
mod in_doubt;
mod ledger_lost;
mod load;
mod metrics;
mod open_breakers;
mod open_jobs;
mod pacer;
mod progress;
mod ready;
mod recorder;
mod slow_attempt;
mod slow_claims;
mod solo;
mod telemetry;
mod webhook_cache;
mod webhook_health;

use context::Context;
pub use open_breakers::OpenBreakers;

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
    /// Whether nothing is sent: what would be sent is dropped, with the reason `shadow`.
    pub shadow: bool,
    /// How long a webhook may fail until it is paused.
    pub pause_after: Duration,
    /// The most jobs held at a time, of each kind.
    pub prefetch: u16,
    /// The worker's metrics.
    pub metrics: Arc<Metrics>,
    /// Where the worker says which circuit breakers are open.
    pub open_breakers: Arc<OpenBreakers>,
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
        () = progress.write(&config.store) => {}
    }
    // The recorder ends when its last user is dropped.
    drop(context);
    end.cancel();
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!("some attempts are still under way; their jobs will be redelivered");
    }
}
