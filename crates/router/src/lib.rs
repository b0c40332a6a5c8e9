//! Events in, plans and jobs out.
//!
//! A router does three things over one session with the broker: `intake` takes events, `jobs`
//! says what workers are asked to do for them; `documents` keeps the directory; and `reconcile`
//! finds what a crash or a wiped broker left undone. `repair` makes broken queues of jobs again, `upkeep` removes what is old, and `sample` looks
//! how the queues and the ledger stand. Any number of routers run side by side.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::{BrokerError, Queue, Session, State, keep_consuming, supervise};
use fanfare_core::mask::MaskPolicy;
use fanfare_metrics::Router as Metrics;
use fanfare_store::Store;
use fanfare_store::clock::DatabaseClock;
use fanfare_store::patience::patiently;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

mod documents;
mod error;
mod finish;
mod intake;
mod jobs;
mod reconcile;
mod refused;
mod repair;
mod sample;
mod taken;
mod tally;
mod telemetry;
mod told;
mod upkeep;

use error::RouterError;
use reconcile::Observed;

/// What a router needs.
#[derive(Clone)]
pub struct Config {
    /// The broker.
    pub broker: fanfare_broker::Config,
    /// The database.
    pub store: Store,
    /// Events taken at a time, and so the most that are held unacknowledged.
    pub prefetch: u16,
    /// How long an event waits for its directory revision.
    pub hold: Duration,
    /// How long a document that was passed over is waited for before it is taken for lost.
    pub gap_wait: Duration,
    /// Whether events go on without a document that is taken for lost, instead of being held.
    pub pass_gaps: bool,
    /// How long the directory's history is kept.
    pub history: Duration,
    /// How often the reconciler looks, and old things are removed.
    pub reconcile_every: Duration,
    /// What of an event's data is neither stored nor sent.
    pub mask: MaskPolicy,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// How often the queues and the ledger are looked at for the metrics; never when nobody reads
    /// them.
    pub sample_every: Option<Duration>,
    /// What the time is, by the database's clock.
    pub clock: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

/// Routes until `stop` is cancelled, over any outage. `on_state` hears how it stands with the
/// broker.
pub async fn run(config: Config, stop: CancellationToken, on_state: impl Fn(State)) {
    let broker = config.broker.clone();
    let config = Arc::new(config);
    let observed = Mutex::default();
    supervise(&broker, &stop, on_state, |session| {
        work(Arc::clone(&config), session, stop.clone(), &observed)
    })
    .await;
}

async fn work(
    config: Arc<Config>,
    session: Session,
    stop: CancellationToken,
    observed: &Mutex<Observed>,
) -> Result<(), RouterError> {
    // Nothing is taken while nothing can be done with it.
    patiently(&stop, async || config.store.directory_revision().await.map(drop)).await?;
    // Times are the database's; until one is known nothing can be decided.
    patiently(&stop, || config.store.sample_clock()).await?;
    let on_sample = |clock: &DatabaseClock| {
        if let Some(offset) = clock.offset() {
            config.metrics.clock_offset(offset.as_seconds_f64());
        }
    };
    let (config, session, stop) = (&*config, &session, &stop);
    let clock = async {
        config.store.keep_clock(stop, on_sample).await;
        Ok(())
    };
    // Each queue has a consumer of its own: one that can't be consumed stops only what comes from it.
    let events =
        keep_consuming(session, Queue::Events, stop, || intake::run(config, session, stop));
    let documents =
        keep_consuming(session, Queue::Directory, stop, || documents::run(config, session, stop));
    let result = tokio::try_join!(
        clock,
        async { Ok(tokio::join!(events, documents)) },
        repair::unless_refused(stop, || reconcile::run(config, session, stop, observed)),
        repair::run(config, stop),
        upkeep::run(config, stop),
        sample::run(config, session, stop),
        lost(session, stop),
    );
    match result {
        Ok(_) | Err(RouterError::Stopping) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Ends the work when the session is lost while all its parts happen to wait for something else.
async fn lost(session: &Session, stop: &CancellationToken) -> Result<(), RouterError> {
    match stop.run_until_cancelled(session.lost()).await {
        Some(()) => Err(BrokerError::Lost { doing: "routing".to_owned(), source: None }.into()),
        None => Ok(()),
    }
}
