//! The way into the ledger: rows of many attempts, written together.
//!
//! Whoever made an attempt waits here until its row is committed. While the database is away,
//! nothing new is sent: a POST that can't be recorded would be a duplicate in the making.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_metrics::Worker as Metrics;
use fanfare_store::attempts::Entry;
use fanfare_store::patience::{Impatient, answered, patiently};
use fanfare_store::{Store, StoreError};
use fanfare_trace::propagation::first_recorded;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::Config;
use crate::database::Answering;
use crate::error::WorkerError;

/// Rows in one statement.
const AT_A_TIME: usize = 512;

/// Rows that wait; as many attempts as a worker has under way fit.
const WAITING: usize = 4096;

/// How long a stopping worker still tries to reach the database.
const LAST_TRY: Duration = Duration::from_secs(10);

type Done = oneshot::Sender<Result<(), StoreError>>;

/// A row, where to say that it is written, and the span of its delivery.
type Waiting = (Entry, Done, Span);

/// A handle to the task that writes.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Waiting>,
    healthy: watch::Receiver<bool>,
}

impl Recorder {
    /// Begins to write; ends when the handle is gone and everything is written.
    pub(crate) fn start(
        config: &Config,
        database: Answering,
        stop: CancellationToken,
        tracker: &TaskTracker,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let (health, healthy) = watch::channel(true);
        let give_up = CancellationToken::new();
        let writer = Writer {
            store: config.store.clone(),
            metrics: Arc::clone(&config.metrics),
            health,
            database,
            give_up: give_up.clone(),
        };
        tokio::spawn(async move {
            stop.cancelled().await;
            tokio::time::sleep(LAST_TRY).await;
            give_up.cancel();
        });
        tracker.spawn(writer.run(waiting));
        Self { queue, healthy }
    }

    /// Waits until the database takes rows.
    pub(crate) async fn ready(&self) {
        // An error means that the writer has ended; then `record` will say so.
        let _ = self.healthy.clone().wait_for(|healthy| *healthy).await;
    }

    /// Writes a row and waits until it is committed.
    pub(crate) async fn record(&self, entry: Entry) -> Result<(), WorkerError> {
        let (done, committed) = oneshot::channel();
        let waiting = (entry, done, Span::current());
        self.queue.send(waiting).await.map_err(|_| WorkerError::Stopping)?;
        match committed.await {
            Ok(result) => result.map_err(WorkerError::Refused),
            Err(_) => Err(WorkerError::Stopping),
        }
    }
}

/// The task that writes.
struct Writer {
    store: Store,
    metrics: Arc<Metrics>,
    health: watch::Sender<bool>,
    database: Answering,
    /// Cancelled when a stopping process waited long enough for the database.
    give_up: CancellationToken,
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(AT_A_TIME);
        while waiting.recv_many(&mut batch, AT_A_TIME).await > 0 {
            let first = first_recorded(batch.iter().map(|(_, _, span)| span));
            let (entries, done): (Vec<Entry>, Vec<Done>) =
                batch.drain(..).map(|(entry, done, _)| (entry, done)).unzip();
            match self.write(&entries).instrument(first).await {
                Ok(()) => done.into_iter().for_each(|done| answer(done, Ok(()))),
                Err(Impatient::Refused(_) | Impatient::Failing(_)) => {
                    self.write_singly(entries, done).await;
                }
                // Dropping `done` says so to those who wait.
                Err(Impatient::Stopping) => return,
            }
        }
    }

    /// Writes rows one by one, since the database refused one of them and the others must not
    /// suffer for it. That one is written without the texts that came from outside.
    async fn write_singly(&self, entries: Vec<Entry>, done: Vec<Done>) {
        for (mut entry, done) in entries.into_iter().zip(done) {
            let mut result = self.write(std::slice::from_ref(&entry)).await;
            if matches!(result, Err(Impatient::Refused(_) | Impatient::Failing(_)))
                && let Some(post) = &mut entry.post
            {
                (post.error, post.response_body) = (None, None);
                post.trace = Some(Box::default());
                result = self.write(std::slice::from_ref(&entry)).await;
            }
            match result {
                Ok(()) => answer(done, Ok(())),
                Err(Impatient::Refused(error) | Impatient::Failing(error)) => {
                    answer(done, Err(error));
                }
                Err(Impatient::Stopping) => return,
            }
        }
    }

    /// Writes rows in one statement, waiting for the database if it must.
    async fn write(&self, entries: &[Entry]) -> Result<(), Impatient> {
        let write = || async {
            let began = Instant::now();
            let result = self.database.watch(self.store.attempts_record(entries)).await;
            if result.is_ok() {
                self.metrics.ledger(entries.len(), began.elapsed());
            }
            let healthy = result.as_ref().map_or_else(StoreError::is_refusal, |_| true);
            self.health.send_if_modified(|known| std::mem::replace(known, healthy) != healthy);
            result
        };
        let twice = match entries {
            [_] => patiently(&self.give_up, write).await?,
            // Several rows that can't be written together may be written one by one.
            _ => answered(&self.give_up, write).await?.value,
        };
        if twice > 0 {
            self.metrics.duplicates(twice);
            tracing::warn!(
                attempts = twice,
                "attempts were made that are in the ledger already: receivers got duplicates"
            );
        }
        Ok(())
    }
}

/// Tells who waits; it may have given up, which changes nothing.
fn answer(done: Done, result: Result<(), StoreError>) {
    drop(done.send(result));
}
