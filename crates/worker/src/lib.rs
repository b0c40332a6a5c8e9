//! Jobs in, POSTs out, attempts recorded.
//!
//! A worker takes jobs of two kinds, each with a part of the concurrency: first attempts, and
//! attempts whose time has come. `intake` takes them; `fresh` and `due` say what to attempt and for
//! whom, `verdict` what becomes of a due one (`lost` if the database does not know it); `pacer` lets a
//! webhook have no more than its receiver and its owner want; `gate` keeps a bad endpoint from costing
//! the others anything; `attempt` makes one POST and concludes from the answer (`release` lets go of
//! what a slow one would hold, which is in `hold`); `recorder` writes what was
//! done into the ledger; `hand_on` publishes what follows from it; and only then is a job acknowledged. Any number of workers run side by
//! side.
//!
//! What may be attempted without asking is a first attempt that the broker hands out for the first
//! time. Everything else might be done already, or be under way elsewhere: it is asked after, and
//! claimed, in `due`.

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
mod context;
mod database;
mod due;
mod error;
mod follow_up;
mod fresh;
mod gate;
mod hand_on;
mod hold;
mod intake;
mod lost;
mod measure;
mod pacer;
mod progress;
mod recorder;
mod release;
mod solo;
mod telemetry;
mod verdict;
mod webhooks;

use context::Context;

/// What a worker needs.
#[derive(Clone)]
pub struct Config {
    /// The broker.
    pub broker: fanfare_broker::Config,
    /// The database.
    pub store: Store,
    /// What sends.
    pub client: Client,
    /// When to try again.
    pub policy: RetryPolicy,
    /// The longest time of one POST.
    pub timeout: Duration,
    /// POSTs under way at a time.
    pub concurrency: u32,
    /// POSTs under way at a time to one webhook.
    pub per_webhook: u32,
    /// How long a webhook may fail before it is paused.
    pub pause_after: Duration,
    /// Jobs held at a time, of each kind.
    pub prefetch: u16,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
}

/// How long a stopping worker waits for what outlived its session.
const GRACE: Duration = Duration::from_secs(2);

/// Delivers until `stop` is cancelled, over any outage, and then until what is under way is
/// recorded. `on_state` hears how it stands with the broker.
pub async fn run(config: Config, stop: CancellationToken, on_state: impl Fn(State)) {
    let tracker = TaskTracker::new();
    // Outlives `stop`: what is under way is still recorded and handed on while the process ends.
    let end = CancellationToken::new();
    let broker = config.broker.clone();
    let context = Arc::new(Context::new(config, stop.clone(), end.clone(), &tracker));
    let work = supervise(&broker, &stop, on_state, |session| {
        intake::work(Arc::clone(&context), session, tracker.clone())
    });
    tokio::select! {
        () = work => {}
        () = measure::gauges(&context) => {}
        () = progress::write(&context) => {}
    }
    // The recorder ends with the last of those who use it.
    drop(context);
    end.cancel();
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!("some attempts were still under way at the end; their jobs come again");
    }
}
