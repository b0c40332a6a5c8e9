//! The process in the database's list of processes: it reports while it runs, so that administrators see
//! it with its version and its health.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fanfare_store::Store;
use fanfare_store::processes::{ProcessHealth, ProcessIdentity, REPORT_EVERY};
use fanfare_worker::OpenBreakers;
use tokio::time::timeout;
use uuid::Uuid;

use super::readiness::BrokerSessions;

/// How long a process that ends waits for the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the process reports, and where.
pub(super) struct Presence {
    store: Store,
    identity: ProcessIdentity,
    broker: Option<Arc<BrokerSessions>>,
    breakers: Option<Arc<OpenBreakers>>,
}

impl Presence {
    pub(super) fn new(
        store: Store,
        role: &'static str,
        broker: Option<Arc<BrokerSessions>>,
        breakers: Option<Arc<OpenBreakers>>,
    ) -> Self {
        let identity = ProcessIdentity {
            id: Uuid::now_v7(),
            role,
            host: whoami::hostname().unwrap_or_else(|_| "unknown".to_owned()),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
        };
        Self { store, identity, broker, breakers }
    }

    /// Reports repeatedly, and never returns. While the database is away, the process counts as missing.
    pub(super) async fn report(&self) -> Infallible {
        loop {
            if let Err(error) = self.store.process_report(&self.identity, &self.health()).await {
                tracing::debug!(error = error.chain(), "failed to report that the process runs");
            }
            tokio::time::sleep(REPORT_EVERY).await;
        }
    }

    /// Removes the process from the list, if the database answers soon.
    pub(super) async fn end(&self) {
        if let Ok(Err(error)) = timeout(PATIENCE, self.store.process_end(&self.identity)).await {
            tracing::debug!(error = error.chain(), "failed to report that the process ends");
        }
    }

    fn health(&self) -> ProcessHealth {
        // Without the broker, the state of the queues adds nothing.
        let problem = self.broker.as_ref().and_then(|broker| match broker.problem() {
            Some(problem) => Some(problem.to_owned()),
            None => Some(broker.queue_problems().join("; ")).filter(|text| !text.is_empty()),
        });
        let breakers = self.breakers.as_ref();
        ProcessHealth { problem, open_breakers: breakers.map(|it| it.hosts()).unwrap_or_default() }
    }
}
