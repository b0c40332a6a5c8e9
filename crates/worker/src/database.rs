//! The database as attempts use it, and how long it has been available to this worker.
//!
//! During an outage, claims expire while their holders still have attempts to record. The holders
//! record them soon after the database is back. So no worker takes over a claim before the database
//! has been available for longer than that takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_store::retry::{QueryError, retry_until_available};
use fanfare_store::workers::SETTLE_TIME;
use fanfare_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::error::WorkerError;

/// A statement that takes longer may have been through an outage without an error.
const SLOW: Duration = Duration::from_secs(2);

/// The time from which the database has been available.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseHealth(Arc<Mutex<Instant>>);

impl DatabaseHealth {
    /// The time begins now: a process that has just started knows of no earlier time.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Waits for the result of a statement. The time begins again if the statement failed or was slow.
    pub(crate) async fn watch<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let asked = Instant::now();
        let answer = answer.await;
        let failed = answer.as_ref().is_err_and(|error| !error.is_refusal());
        if failed || asked.elapsed() > SLOW {
            *self.lock() = Instant::now();
        }
        answer
    }

    /// Whether all workers have recorded the attempts that they made during the last outage.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().elapsed() > SETTLE_TIME
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The database as attempts use it.
#[derive(Clone)]
pub(crate) struct Database {
    store: Store,
    health: DatabaseHealth,
    /// Cancelled when the process stops: no statement is repeated then.
    stop: CancellationToken,
}

impl Database {
    pub(crate) fn new(store: Store, health: DatabaseHealth, stop: CancellationToken) -> Self {
        Self { store, health, stop }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The time of the database's clock. All times in the ledger are compared with it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.store.clock().now()
    }

    /// Whether all workers have recorded the attempts that they made during the last outage.
    pub(crate) fn is_settled(&self) -> bool {
        self.health.is_settled()
    }

    /// Looks which workers have died; see [`Store::workers_look`]. If that fails, the next job of a dead
    /// worker looks again.
    pub(crate) async fn look_at_workers(&self) {
        let looked = self.health.watch(self.store.workers_look(self.is_settled())).await;
        if let Err(error) = looked {
            tracing::debug!(error = error.chain(), "failed to look which workers live");
        }
    }

    /// Calls the database until it is available; see [`retry_until_available`].
    pub(crate) async fn retry_until_available<T, Answer: Future<Output = Result<T, StoreError>>>(
        &self,
        mut call: impl FnMut() -> Answer,
    ) -> Result<T, WorkerError> {
        let watched = || self.health.watch(call());
        retry_until_available(&self.stop, watched).await.map_err(|error: QueryError| error.into())
    }
}
