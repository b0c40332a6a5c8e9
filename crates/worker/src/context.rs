//! What all attempts of a worker share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::job::Due;
use fanfare_store::claims::{Claim, Lease};
use fanfare_store::patience::{Impatient, patiently};
use fanfare_store::{Store, StoreError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::database::{Answering, SETTLED};
use crate::error::WorkerError;
use crate::gate::Gate;
use crate::pacer::Pacer;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::release::Releases;
use crate::solo::Solo;
use crate::webhooks::Webhooks;

/// A job that waited longer than this in the worker counts as one that may be about twice.
pub(crate) const STALE: Duration = Duration::from_secs(5);

/// The memory for bodies that are about to be sent, in KiB. Each is in memory about three times: as
/// its notifications, as the body, and on its way into the socket.
const BODIES: u32 = 24 * 1024;

/// Bodies below this many KiB need no share of it.
const SMALL: u32 = 64;

/// Added to times that must surely be over: for the record's way into the ledger.
pub(crate) const SLACK: Duration = Duration::from_secs(5);

/// A worker's shared parts.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) webhooks: Arc<Webhooks>,
    pub(crate) recorder: Recorder,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) progress: Progress,
    /// The memory for bodies that are about to be sent.
    bodies: Semaphore,
    /// Take nothing new.
    pub(crate) stop: CancellationToken,
    /// First attempts under way, which nobody has claimed.
    under_way: Mutex<HashSet<Due>>,
    /// Keeps attempts that are made alone apart from all others of the process.
    pub(crate) solo: Solo,
    /// How long the database has been answering.
    database: Answering,
    /// What claims attempts.
    claimer: Claimer,
    /// Claims first attempts whose POSTs are slow.
    pub(crate) releases: Releases,
}

/// What claims attempts.
#[derive(Clone)]
pub(crate) struct Claimer {
    store: Store,
    database: Answering,
    stop: CancellationToken,
    /// How long a claim holds.
    length: Duration,
}

impl Claimer {
    /// Claims attempts; the answers are in their order.
    pub(crate) async fn claim(&self, dues: &[Due]) -> Result<(Vec<Claim>, Held), WorkerError> {
        let held = Held { lease: Lease::new(self.length, false), from: Instant::now() };
        let claims = patiently(&self.stop, || {
            // Asked for each try: an outage may have come and gone since the one before.
            let may_take_over = self.database.is_settled();
            let lease = Lease { may_take_over, ..held.lease };
            self.database.watch(self.store.attempts_claim(dues, lease))
        });
        Ok((claims.await?, held))
    }
}

/// Claims of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    /// Since when they are surely held.
    pub(crate) from: Instant,
}

impl Context {
    pub(crate) fn new(
        config: Config,
        stop: CancellationToken,
        end: CancellationToken,
        tracker: &TaskTracker,
    ) -> Self {
        let webhooks = Webhooks::start(config.store.clone(), end, tracker);
        let database = Answering::new();
        let recorder = Recorder::start(&config, database.clone(), stop.clone(), tracker);
        let gate = Gate::new(config.per_webhook, config.concurrency);
        let claimer = Claimer {
            store: config.store.clone(),
            database: database.clone(),
            stop: stop.clone(),
            length: config.timeout + 2 * SLACK,
        };
        let releases = Releases::start(claimer.clone(), tracker);
        let pacer = Pacer::new(config.concurrency);
        Self {
            config,
            webhooks,
            recorder,
            gate,
            pacer,
            progress: Progress::default(),
            bodies: Semaphore::new(BODIES as usize),
            stop,
            under_way: Mutex::default(),
            solo: Solo::new(),
            database,
            claimer,
            releases,
        }
    }

    /// The time by the database's clock, which all times in the ledger are compared with.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.config.store.clock().now()
    }

    /// How long a claim holds: the POST and the way into the ledger, with room to spare.
    pub(crate) fn lease(&self) -> Duration {
        self.claimer.length
    }

    /// After this time a first attempt that another worker was given is recorded, claimed, handed
    /// back or lost with its worker: it began when it was almost stale, waited for its POST, made it,
    /// and was recorded.
    pub(crate) fn certainty(&self) -> Duration {
        STALE + SLACK + self.config.timeout + SLACK
    }

    /// Claims attempts; the answers are in their order.
    pub(crate) async fn claim(&self, dues: &[Due]) -> Result<(Vec<Claim>, Held), WorkerError> {
        self.claimer.claim(dues).await
    }

    /// Gives back the claim of an attempt that was not begun.
    pub(crate) async fn release(&self, due: Due, held: Held) -> Result<(), WorkerError> {
        let store = &self.config.store;
        self.patiently(|| store.claims_release(std::slice::from_ref(&due), held.lease)).await
    }

    /// How long an attempt waits whose claim somebody else has.
    pub(crate) fn until_free(&self) -> Duration {
        // Claims that ran out during an outage are free as soon as the database has settled.
        if self.database.is_settled() { self.lease() } else { SETTLED }
    }

    /// Calls the database until it answers; see [`patiently`].
    pub(crate) async fn patiently<T, Answer: Future<Output = Result<T, StoreError>>>(
        &self,
        mut call: impl FnMut() -> Answer,
    ) -> Result<T, WorkerError> {
        let watched = || self.database.watch(call());
        patiently(&self.stop, watched).await.map_err(|error: Impatient| error.into())
    }

    /// Waits until there is memory for a body of so many bytes; not for ever, since meanwhile its
    /// claim runs out. Small ones are bounded by their number alone.
    pub(crate) async fn room_for(
        &self,
        bytes: usize,
    ) -> Result<Option<SemaphorePermit<'_>>, NoRoom> {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        if kib < SMALL {
            return Ok(None);
        }
        match tokio::time::timeout(SLACK, self.bodies.acquire_many(kib.min(BODIES))).await {
            Ok(Ok(room)) => Ok(Some(room)),
            Ok(Err(_)) | Err(_) => Err(NoRoom),
        }
    }

    /// Notes that a first attempt is under way until the note is dropped.
    pub(crate) fn note(&self, due: Due) -> UnderWay<'_> {
        self.lock().insert(due);
        UnderWay { context: self, due }
    }

    /// Claims the first attempts that are under way: their jobs are about to be handed out again,
    /// because the session is lost.
    pub(crate) async fn claim_under_way(&self) -> Result<(), WorkerError> {
        let dues: Vec<Due> = self.lock().iter().copied().collect();
        if dues.is_empty() {
            return Ok(());
        }
        self.claim(&dues).await.map(drop)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Due>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There was no memory for a body in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// A first attempt under way.
pub(crate) struct UnderWay<'a> {
    context: &'a Context,
    due: Due,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.context.lock().remove(&self.due);
    }
}

/// A random number from 0 up to 1, without a call of the system: two are drawn for each delivery.
/// Good enough to spread load, and for nothing else.
pub(crate) fn chance() -> f64 {
    fastrand::f64()
}
