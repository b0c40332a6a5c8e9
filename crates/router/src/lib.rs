//! A router: events in, plans and jobs out.
//!
//! A router does three things over one session with the broker:
//!
//! - `events` receives events as `inbound` messages, plans them in the ledger, and publishes `jobs`.
//!   `finish` publishes and acknowledges; `refusal` describes documents that are refused, and `kept`
//!   writes dead letters and messages that wait to the ledger.
//! - `directory` applies the documents of users, roles and permissions.
//! - `reconcile` finds deliveries whose jobs were lost in a crash or with the broker's data.
//!
//! Besides, `workers` looks which workers have died, `repair` declares broken job queues again,
//! `maintenance` removes old rows, `retention` makes and drops the ledger's partitions, and `gauges`
//! measures the queues and the ledger. `restoring` publishes kept messages that the broker has lost.
//! `letters` keeps the queues of dead letters and their index the same, and `operations` makes the steps
//! of administrators' bulk operations. `notices` sends operators notices of what is wrong. Any number of routers run at the same time.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::{BrokerError, Queue, Session, State, keep_consuming, supervise_opening};
use fanfare_core::mask::MaskPolicy;
use fanfare_metrics::Router as Metrics;
use fanfare_store::Store;
use fanfare_store::clock::DatabaseClock;
use fanfare_store::retention::Keep;
use fanfare_store::retry::retry_until_available;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

mod batch_metrics;
mod directory;
mod error;
mod event_id;
mod events;
mod finish;
mod gauges;
mod inbound;
mod jobs;
mod kept;
mod letters;
mod maintenance;
mod notices;
mod operations;
mod outgoing;
mod reconcile;
mod refusal;
mod repair;
mod restoring;
mod retention;
mod telemetry;
mod workers;

use error::RouterError;
use reconcile::Observed;

/// What a router needs.
#[derive(Clone)]
pub struct Config {
    /// The connection to the broker.
    pub broker: fanfare_broker::Config,
    /// The database.
    pub store: Store,
    /// The prefetch for events: the most messages that are unacknowledged at a time.
    pub prefetch: u16,
    /// How long an event waits for its directory revision.
    pub hold: Duration,
    /// How long to wait for a missing directory revision before it counts as lost.
    pub gap_wait: Duration,
    /// Whether events are decided without a lost revision, instead of being held.
    pub pass_gaps: bool,
    /// For how long the ledger keeps what it has.
    pub keep: Keep,
    /// How long the directory's history is kept.
    pub history: Duration,
    /// The interval of the reconciler. The interval of the maintenance is twice as long.
    pub reconcile_every: Duration,
    /// The parts of an event's data that are masked.
    pub mask: MaskPolicy,
    /// What operators are told, and how.
    pub notices: fanfare_notices::Config,
    /// The router's metrics.
    pub metrics: Arc<Metrics>,
    /// The interval of measuring the queues and the ledger; `None` when the metrics are not served.
    pub sample_every: Option<Duration>,
    /// The time of the database's clock.
    pub clock: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

/// Routes until `stop` is cancelled, through outages of the broker and the database. `on_state` is
/// called with each state of the connection to the broker.
pub async fn run(config: Config, stop: CancellationToken, on_state: impl Fn(State)) {
    let broker = config.broker.clone();
    let config = Arc::new(config);
    let observed = Mutex::default();
    let open = || restoring::open(&config);
    supervise_opening(&broker, &stop, on_state, open, |session| {
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
    // No message is received while the database is away.
    retry_until_available(&stop, async || config.store.directory_revision().await.map(drop))
        .await?;
    // Decisions use the database's clock, so it must be known first.
    retry_until_available(&stop, || config.store.sample_clock()).await?;
    let on_sample = |clock: &DatabaseClock| {
        if let Some(offset) = clock.offset() {
            config.metrics.clock_offset(offset.as_seconds_f64());
        }
    };
    let (config, session, stop) = (&*config, &session, &stop);
    restoring::declare_dead_events(config, stop).await?;
    let clock = async {
        config.store.keep_clock(stop, on_sample).await;
        Ok(())
    };
    // Each queue has a consumer of its own, so that a queue that can't be consumed stops no other.
    let events =
        keep_consuming(session, Queue::Events, stop, || events::run(config, session, stop));
    let documents =
        keep_consuming(session, Queue::Directory, stop, || directory::run(config, session, stop));
    let result = tokio::try_join!(
        clock,
        async { Ok(tokio::join!(events, documents)) },
        repair::unless_refused(stop, || reconcile::run(config, session, stop, observed)),
        repair::run(config, stop),
        maintenance::run(config, stop),
        workers::run(config, stop),
        retention::run(config, stop),
        restoring::run(config, session, stop),
        letters::run(config, session, stop),
        operations::run(config, session, stop),
        notices::run(config, session, stop),
        gauges::run(config, session, stop),
        lost(session, stop),
    );
    match result {
        Ok(_) | Err(RouterError::Stopping) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Ends the work when the session is lost, because all other parts may be waiting for something else.
async fn lost(session: &Session, stop: &CancellationToken) -> Result<(), RouterError> {
    match stop.run_until_cancelled(session.lost()).await {
        Some(()) => Err(BrokerError::Lost { doing: "routing".to_owned(), source: None }.into()),
        None => Ok(()),
    }
}
