//! The metrics and the health of a process: `/metrics`, `/healthz` and `/readyz` over HTTP.
//!
//! [`readiness`] checks whether the roles can do their work, [`serve`] answers requests. The roles
//! always count; if `FANFARE_METRICS_LISTEN` is off, the numbers are not served.

mod presence;
mod readiness;
mod serve;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fanfare_broker::{Queue, QueueHealth, State};
use fanfare_metrics::{Bridge, Broker, Console, Process, Registry, Router, Worker};
use fanfare_store::Store;
use fanfare_worker::OpenBreakers;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{self, Role};
use crate::settings::Settings;
use crate::wiring;
use presence::Presence;
use readiness::{BrokerSession, BrokerSessions, Check, Readiness};
use serve::Page;

/// How often a router measures its gauges. Metrics are usually read about as often.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// The commit from which the program was built, if the build sets it.
const COMMIT: Option<&str> = option_env!("FANFARE_COMMIT");

/// Registers the metrics that every process has.
type MakeProcess = fn(&mut Registry, &'static str, Option<&'static str>) -> Process;

/// The metrics of one process, and the state of its roles.
pub(crate) struct Observer {
    name: &'static str,
    registry: Registry,
    process: Process,
    broker: Option<BrokerSessions>,
    listener: Option<TcpListener>,
    needs_database: bool,
    check: Option<Check>,
    /// The database in which the process reports that it runs.
    store: Option<Store>,
    open_breakers: Option<Arc<OpenBreakers>>,
}

impl Observer {
    /// Begins to listen, if the settings have an address. `name` is that of the process.
    ///
    /// # Errors
    ///
    /// Listening on the address failed.
    pub(crate) async fn new(settings: &Settings, name: &'static str) -> anyhow::Result<Self> {
        Self::of(settings, name, Process::new, true).await
    }

    /// The same for a process that uses no database, and is ready without one.
    pub(crate) async fn without_database(
        settings: &Settings,
        name: &'static str,
    ) -> anyhow::Result<Self> {
        Self::of(settings, name, Process::without_database, false).await
    }

    async fn of(
        settings: &Settings,
        name: &'static str,
        process: MakeProcess,
        needs_database: bool,
    ) -> anyhow::Result<Self> {
        let listener = match settings.telemetry.metrics_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let mut registry = Registry::new();
        let process = process(&mut registry, env!("CARGO_PKG_VERSION"), COMMIT);
        Ok(Self {
            name,
            registry,
            process,
            broker: None,
            listener,
            needs_database,
            check: None,
            store: None,
            open_breakers: None,
        })
    }

    /// The metrics of a router.
    pub(crate) fn router(&mut self) -> Arc<Router> {
        Arc::new(Router::new(&mut self.registry, Queue::EventsDead.name()))
    }

    /// The metrics of a worker.
    pub(crate) fn worker(&mut self) -> Arc<Worker> {
        Arc::new(Worker::new(&mut self.registry, Queue::DeliveriesDead.name()))
    }

    /// The metrics of a console.
    pub(crate) fn console(&mut self) -> Arc<Console> {
        Arc::new(Console::new(&mut self.registry))
    }

    /// Adds a role's session with the broker. The process is ready only while the session is. The
    /// role calls the returned function with each new state of the session.
    pub(crate) fn broker(&mut self, queues: &Arc<QueueHealth>) -> impl Fn(State) + use<> {
        let broker =
            self.broker.get_or_insert_with(|| BrokerSessions::new(Broker::new(&mut self.registry)));
        let session = Arc::new(BrokerSession::new(Arc::clone(queues)));
        broker.add(Arc::clone(&session));
        move |state| session.set(state)
    }

    /// Sets the database in which the process reports that it runs. Of several roles, one reports.
    pub(crate) fn database(&mut self, store: &Store) {
        self.store = Some(store.clone());
    }

    /// Where a worker says which circuit breakers are open.
    pub(crate) fn open_breakers(&mut self) -> Arc<OpenBreakers> {
        Arc::clone(self.open_breakers.get_or_insert_default())
    }

    /// The metrics of a bridge.
    pub(crate) fn bridge(&mut self) -> Arc<Bridge> {
        Arc::new(Bridge::new(&mut self.registry))
    }

    /// Makes the process ready only while this returns no problem.
    pub(crate) fn check(&mut self, problem: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.check = Some(Box::new(problem));
    }

    /// How often to measure gauges; `None` if the metrics are not served.
    pub(crate) fn sample_every(&self) -> Option<Duration> {
        self.listener.is_some().then_some(SAMPLE_EVERY)
    }

    /// Runs the roles, and answers requests until all of them have ended.
    ///
    /// The same task accepts connections and drives the roles. If a role blocks it, `/healthz` does
    /// not answer either, and a supervisor can restart the process.
    ///
    /// # Errors
    ///
    /// The settings of the database can't be used, or a role failed.
    pub(crate) async fn run(self, settings: &Settings, roles: Vec<Role>) -> anyhow::Result<()> {
        let broker = self.broker.map(Arc::new);
        let presence = self
            .store
            .map(|store| Presence::new(store, self.name, broker.clone(), self.open_breakers));
        let Some(listener) = self.listener else {
            return present(presence, lifecycle::run_roles(roles, |_| pending())).await;
        };
        // A connection of its own, because a probe must not wait for the queries of the roles.
        let shadow = settings.sending.shadow;
        let store = self.needs_database.then(|| wiring::probe(settings, self.name)).transpose()?;
        let answer = |stop| async move {
            let readiness = Readiness::new(store, broker, self.process, stop, self.check);
            let router = serve::router(Page { registry: self.registry, readiness, shadow });
            // Requests are answered until the roles have ended.
            let never = CancellationToken::new();
            fanfare_http::serve(listener, router, serve::LIMITS, &never).await;
        };
        present(presence, lifecycle::run_roles(roles, answer)).await
    }
}

/// Reports that the process runs, for as long as its roles do.
async fn present<T>(presence: Option<Presence>, roles: impl Future<Output = T>) -> T {
    let Some(presence) = presence else { return roles.await };
    let ended = tokio::select! {
        ended = roles => ended,
        never = presence.report() => match never {},
    };
    presence.end().await;
    ended
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "failed to listen on {address}; set FANFARE_METRICS_LISTEN to an address of this \
             machine and a port that is free, another one for each process, or to off"
        )
    })?;
    let address = listener.local_addr().context("failed to find out the port")?;
    tracing::info!("serving /metrics, /healthz and /readyz on http://{address}");
    Ok(listener)
}
