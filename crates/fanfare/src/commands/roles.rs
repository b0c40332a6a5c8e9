//! The processes that do the work: each gets its configuration and runs until it is stopped.

use std::time::Duration;

use fanfare_broker::State;

use crate::clock;
use crate::lifecycle;
use crate::parts;
use crate::settings::Settings;

/// How long an event waits for the directory revision that it must be judged by. The report server
/// publishes both within moments; what is missing for longer is for a person to look at.
const HOLD: Duration = Duration::from_secs(30);

/// How often the ledger is asked what got lost. What it looks at is at least a minute old, so more
/// often would find little more.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);

/// Runs a router: events in, plans and jobs out.
pub(crate) async fn router(settings: &Settings) -> anyhow::Result<()> {
    let config = fanfare_router::Config {
        broker: parts::broker(settings, "router")?,
        store: parts::store(settings, "router")?,
        prefetch: settings.prefetch,
        hold: HOLD,
        reconcile_every: RECONCILE_EVERY,
        clock: clock::now,
    };
    lifecycle::run_role("router", |stop| fanfare_router::run(config, stop, tell)).await
}

/// Runs a worker: jobs in, POSTs out, attempts recorded.
pub(crate) async fn worker(settings: &Settings) -> anyhow::Result<()> {
    let config = fanfare_worker::Config {
        broker: parts::broker(settings, "worker")?,
        store: parts::store(settings, "worker")?,
        client: parts::outbound(settings)?,
        policy: settings.retry,
        timeout: settings.timeout,
        concurrency: settings.concurrency,
        prefetch: settings.prefetch,
        clock: clock::now,
    };
    lifecycle::run_role("worker", |stop| fanfare_worker::run(config, stop, tell)).await
}

/// Tells how it stands with the broker; why it went away is told where it was noticed.
fn tell(state: State) {
    match state {
        State::Connecting => tracing::debug!("connecting to the broker"),
        State::Connected => tracing::info!("connected to the broker"),
        State::Blocked => {
            tracing::warn!("the broker takes no messages: it is short of memory or disk");
        }
        State::Down => tracing::debug!("not connected to the broker"),
    }
}
