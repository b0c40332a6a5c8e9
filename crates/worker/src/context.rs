//! The state that all attempts of a worker share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::job::AttemptRef;
use fanfare_failpoints::failpoint;
use fanfare_store::StoreError;
use fanfare_store::claims::Claim;
use fanfare_store::holder::Holder;
use fanfare_store::workers::SETTLE_TIME;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::claimer::{Claimer, HeldLease, RECORD_MARGIN};
use crate::database::{Database, DatabaseHealth};
use crate::endpoint_limiter::EndpointLimiter;
use crate::error::WorkerError;
use crate::pacer::Pacer;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::slow_claims::SlowClaims;
use crate::solo::SoloLock;
use crate::webhook_cache::WebhookCache;

/// A job that a worker has held in memory for longer than this may have been redelivered to another
/// worker, so the ledger is checked before it is attempted.
pub(crate) const MAX_PREFETCH_AGE: Duration = Duration::from_secs(5);

/// The longest time between a job's delivery by the broker and its receipt by the worker. A router that
/// lost the connection over which it received an event, and still publishes the job that it planned,
/// does so within this time as well.
const TRANSIT: TimeDelta = TimeDelta::seconds(2);

/// The memory for bodies that are about to be sent, in KiB. Each body is in memory about three times:
/// as notifications, as the body, and in the buffers of the socket.
const BODY_MEMORY: u32 = 24 * 1024;

/// Bodies below this many KiB are sent without a reservation of memory.
const SMALL: u32 = 64;

/// The shared state.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) webhooks: Arc<WebhookCache>,
    pub(crate) recorder: Recorder,
    pub(crate) limiter: Arc<EndpointLimiter>,
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) progress: Progress,
    /// The memory for bodies that are about to be sent, in KiB.
    body_memory: Semaphore,
    /// Cancelled when the process stops: no new job is begun.
    pub(crate) stop: CancellationToken,
    /// The first attempts in flight, which are not claimed.
    in_flight: Mutex<HashSet<AttemptRef>>,
    /// Separates solo attempts from all others of the process.
    pub(crate) solo: SoloLock,
    database: Database,
    claimer: Claimer,
    /// Claims first attempts whose POSTs are slow.
    pub(crate) slow_claims: SlowClaims,
}

impl Context {
    pub(crate) fn new(
        config: Config,
        stop: CancellationToken,
        end: CancellationToken,
        tracker: &TaskTracker,
    ) -> Self {
        let holder = Arc::new(Holder::random());
        let webhooks = WebhookCache::start(config.store.clone(), Arc::clone(&holder), end, tracker);
        let health = DatabaseHealth::new();
        let recorder = Recorder::start(&config, health.clone(), stop.clone(), tracker);
        let database = Database::new(config.store.clone(), health, stop.clone());
        let limiter = EndpointLimiter::new(config.per_webhook, config.concurrency);
        let progress = Progress::new(holder.worker(), in_doubt_window(config.timeout));
        let claimer = Claimer::new(database.clone(), config.timeout, holder);
        let slow_claims = SlowClaims::start(claimer.clone(), tracker);
        let pacer = Pacer::new(database.clone(), config.concurrency, config.policy.deadline);
        Self {
            config,
            webhooks,
            recorder,
            limiter,
            pacer,
            progress,
            body_memory: Semaphore::new(BODY_MEMORY as usize),
            stop,
            in_flight: Mutex::default(),
            solo: SoloLock::new(),
            database,
            claimer,
            slow_claims,
        }
    }

    /// The time of the database's clock. All times in the ledger are compared with it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.database.now()
    }

    /// See [`in_doubt_window`].
    pub(crate) fn in_doubt_window(&self) -> Duration {
        in_doubt_window(self.config.timeout)
    }

    /// Whether no worker can have a first attempt under way whose job it received before `since`: each
    /// is dead, or reports so, or the time within which it does so in any case is over.
    pub(crate) async fn doubt_is_over(&self, since: DateTime<Utc>) -> Result<bool, WorkerError> {
        let passed = (self.now() - since).to_std().unwrap_or_default();
        if passed >= self.in_doubt_window() {
            return Ok(true);
        }
        let store = &self.config.store;
        let ask = || store.first_attempts_are_over(since + TRANSIT);
        let is_over = self.retry_until_available(ask).await?;
        if !is_over {
            self.look_at_workers().await;
        }
        Ok(is_over)
    }

    /// Looks which workers have died; see [`Database::look_at_workers`].
    pub(crate) async fn look_at_workers(&self) {
        self.database.look_at_workers().await;
    }

    /// Claims attempts; the answers are in their order.
    pub(crate) async fn claim(
        &self,
        dues: &[AttemptRef],
    ) -> Result<(Vec<Claim>, HeldLease), WorkerError> {
        self.claimer.claim(dues).await
    }

    /// Whether an attempt may begin under this lease; see [`Claimer::may_begin`].
    pub(crate) fn may_begin(&self, held: HeldLease) -> bool {
        self.claimer.may_begin(held)
    }

    /// Releases the claim of an attempt that was not begun.
    pub(crate) async fn release(
        &self,
        due: AttemptRef,
        held: HeldLease,
    ) -> Result<(), WorkerError> {
        let store = &self.config.store;
        self.retry_until_available(|| store.claims_release(std::slice::from_ref(&due), held.lease))
            .await
    }

    /// The delay of an attempt that another worker has claimed.
    pub(crate) fn until_free(&self) -> Duration {
        // Claims that expired during an outage are free as soon as the database has settled.
        if self.database.is_settled() { self.claimer.length() } else { SETTLE_TIME }
    }

    /// Calls the database until it is available; see [`Database::retry_until_available`].
    pub(crate) fn retry_until_available<T, Answer: Future<Output = Result<T, StoreError>>>(
        &self,
        call: impl FnMut() -> Answer,
    ) -> impl Future<Output = Result<T, WorkerError>> {
        self.database.retry_until_available(call)
    }

    /// Reserves memory for a body. It waits for a limited time only, because the claim of the attempt
    /// expires meanwhile. Small bodies need no reservation: their number is bounded.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]: no memory became free in time.
    pub(crate) async fn reserve_memory(
        &self,
        bytes: usize,
    ) -> Result<Option<SemaphorePermit<'_>>, NoMemory> {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        if kib < SMALL {
            return Ok(None);
        }
        let memory = self.body_memory.acquire_many(kib.min(BODY_MEMORY));
        match tokio::time::timeout(RECORD_MARGIN, memory).await {
            Ok(Ok(memory)) => Ok(Some(memory)),
            Ok(Err(_)) | Err(_) => Err(NoMemory),
        }
    }

    /// Counts a first attempt as in flight until the return value is dropped.
    pub(crate) fn track(&self, due: AttemptRef) -> InFlight<'_> {
        self.lock().insert(due);
        InFlight { context: self, due }
    }

    /// Claims the first attempts in flight. Called when the session is lost, because the broker is
    /// about to redeliver their jobs.
    pub(crate) async fn claim_in_flight(&self) -> Result<(), WorkerError> {
        let dues: Vec<AttemptRef> = self.lock().iter().copied().collect();
        if dues.is_empty() {
            return Ok(());
        }
        self.claim(&dues).await?;
        failpoint!(WorkerSecures, dues);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<AttemptRef>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After this time, a first attempt that another worker received has been recorded, claimed or requeued,
/// or that worker is gone: the attempt began at the end of [`MAX_PREFETCH_AGE`], waited, made its POST of
/// at most `timeout`, and was recorded.
fn in_doubt_window(timeout: Duration) -> Duration {
    MAX_PREFETCH_AGE + RECORD_MARGIN + timeout + RECORD_MARGIN
}

/// No memory for a body became free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// A first attempt in flight.
pub(crate) struct InFlight<'a> {
    context: &'a Context,
    due: AttemptRef,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.context.lock().remove(&self.due);
    }
}
