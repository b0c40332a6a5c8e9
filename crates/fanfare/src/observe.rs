//! What a role tells of itself over HTTP: `/metrics`, `/healthz` and `/readyz`.
//!
//! [`readiness`] says whether the role can do its work, [`serve`] answers requests. The role itself
//! only adds to the numbers that it is given; with `FANFARE_METRICS_LISTEN` off nobody reads them.

mod readiness;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fanfare_broker::{Queue, QueueHealth, State};
use fanfare_metrics::{Broker, Process, Registry, Router, Worker};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lifecycle;
use crate::parts;
use crate::settings::Settings;
use readiness::{BrokerStanding, Readiness};
use serve::Page;

/// How often a router looks how much waits. Whoever reads the metrics does so about as often.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// The commit that the program was built from, where the build says so.
const COMMIT: Option<&str> = option_env!("FANFARE_COMMIT");

/// One role's metrics and how it stands.
pub(crate) struct Observer {
    role: &'static str,
    registry: Registry,
    process: Process,
    broker: Option<Arc<BrokerStanding>>,
    listener: Option<TcpListener>,
}

impl Observer {
    /// Begins to listen, if the settings say where.
    ///
    /// # Errors
    ///
    /// The address can't be listened on.
    pub(crate) async fn new(settings: &Settings, role: &'static str) -> anyhow::Result<Self> {
        let listener = match settings.metrics_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let mut registry = Registry::new();
        let process = Process::new(&mut registry, env!("CARGO_PKG_VERSION"), COMMIT);
        Ok(Self { role, registry, process, broker: None, listener })
    }

    /// The numbers of a router.
    pub(crate) fn router(&mut self) -> Arc<Router> {
        Arc::new(Router::new(&mut self.registry, Queue::EventsDead.name()))
    }

    /// The numbers of a worker.
    pub(crate) fn worker(&mut self) -> Arc<Worker> {
        Arc::new(Worker::new(&mut self.registry, Queue::DeliveriesDead.name()))
    }

    /// From now on the role is ready only while the broker is; what is returned hears how it stands.
    pub(crate) fn broker(&mut self, queues: &Arc<QueueHealth>) -> impl Fn(State) + use<> {
        let broker = Broker::new(&mut self.registry);
        let standing = Arc::new(BrokerStanding::new(broker, Arc::clone(queues)));
        self.broker = Some(Arc::clone(&standing));
        move |state| standing.set(state)
    }

    /// How often to look at what can't be counted; never when nobody asks.
    pub(crate) fn sample_every(&self) -> Option<Duration> {
        self.listener.is_some().then_some(SAMPLE_EVERY)
    }

    /// Runs the role, and answers requests until it ends.
    ///
    /// Connections are accepted by the very task that drives the role: when that is stuck, nobody
    /// is answered, which is what a supervisor that asks `/healthz` wants to know.
    ///
    /// # Errors
    ///
    /// The settings of the database can't be used.
    pub(crate) async fn beside<F, Fut>(self, settings: &Settings, run: F) -> anyhow::Result<()>
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = ()>,
    {
        let Some(listener) = self.listener else {
            return lifecycle::run_role(self.role, run).await;
        };
        // One connection of its own: a look must not wait behind the work.
        let store = parts::probe(settings, self.role)?;
        lifecycle::run_role(self.role, |stop| async move {
            let readiness = Readiness::new(store, self.broker, self.process, stop.clone());
            let router = serve::router(Page { registry: self.registry, readiness });
            // They are told how it stands until the role has ended.
            let ever = CancellationToken::new();
            tokio::select! {
                () = run(stop) => {}
                () = fanfare_http::serve(listener, router, serve::LIMITS, &ever) => {}
            }
        })
        .await
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "failed to listen on {address}; set FANFARE_METRICS_LISTEN to an address of this \
             machine and a port that is free, another one for each process, or to off"
        )
    })?;
    let address = listener.local_addr().context("failed to learn the port")?;
    tracing::info!("serving /metrics, /healthz and /readyz on http://{address}");
    Ok(listener)
}
