//! Writes the rows of many attempts to the ledger together.
//!
//! An attempt waits here until its row is committed. While the database is away, no attempt begins: a
//! POST that can't be recorded would be sent a second time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_metrics::Worker as Metrics;
use fanfare_store::attempts::Entry;
use fanfare_store::retry::{QueryError, retry_divisible, retry_until_available};
use fanfare_store::{Store, StoreError};
use fanfare_trace::propagation::first_recorded;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::Config;
use crate::database::DatabaseHealth;
use crate::error::WorkerError;

/// The most rows in one statement.
const MAX_BATCH: usize = 512;

/// The most rows that wait: enough for all attempts that a worker has under way.
const CAPACITY: usize = 4096;

/// How long a stopping worker still tries to reach the database.
const LAST_TRY: Duration = Duration::from_secs(10);

/// Whose row the ledger has for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// This attempt's.
    Ours,
    /// Another attempt's under the same number: this one was a duplicate. What follows from the
    /// delivery is what follows from that row.
    Another,
}

type Done = oneshot::Sender<Result<Recorded, StoreError>>;

/// A row, where to say that it is written, and the span of its delivery.
type Waiting = (Entry, Done, Span);

/// A handle to the writing task.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Waiting>,
    healthy: watch::Receiver<bool>,
    database: DatabaseHealth,
    give_up: CancellationToken,
}

impl Recorder {
    /// Begins to write; ends when the handle is dropped and all rows are written.
    pub(crate) fn start(
        config: &Config,
        database: DatabaseHealth,
        stop: CancellationToken,
        tracker: &TaskTracker,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(CAPACITY);
        let (health, healthy) = watch::channel(true);
        let give_up = CancellationToken::new();
        let writer = Writer {
            store: config.store.clone(),
            metrics: Arc::clone(&config.metrics),
            health,
            database: database.clone(),
            give_up: give_up.clone(),
        };
        let last = give_up.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            tokio::time::sleep(LAST_TRY).await;
            last.cancel();
        });
        tracker.spawn(writer.run(waiting));
        Self { queue, healthy, database, give_up }
    }

    /// Waits until the database is available.
    pub(crate) async fn ready(&self) {
        // An error means that the writer has ended; then `record` fails.
        let _ = self.healthy.clone().wait_for(|healthy| *healthy).await;
    }

    /// Calls the database until it is available, for what has to be written between a POST and its row.
    /// A process that was told to stop goes on for as long as it writes rows: a row that is not written
    /// means a second POST.
    ///
    /// # Errors
    ///
    /// [`QueryError`]
    pub(crate) async fn retry_until_available<T, Answer: Future<Output = Result<T, StoreError>>>(
        &self,
        mut call: impl FnMut() -> Answer,
    ) -> Result<T, QueryError> {
        retry_until_available(&self.give_up, || self.database.watch(call())).await
    }

    /// Writes a row and waits until it is committed.
    pub(crate) async fn record(&self, entry: Entry) -> Result<Recorded, WorkerError> {
        let (done, committed) = oneshot::channel();
        let room = self.queue.reserve().await.map_err(|_| WorkerError::Stopping)?;
        room.send((entry, done, Span::current()));
        match committed.await {
            Ok(result) => result.map_err(WorkerError::Refused),
            Err(_) => Err(WorkerError::Stopping),
        }
    }
}

/// The writing task.
struct Writer {
    store: Store,
    metrics: Arc<Metrics>,
    health: watch::Sender<bool>,
    database: DatabaseHealth,
    /// Cancelled when a stopping process has waited long enough for the database.
    give_up: CancellationToken,
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
            let first = first_recorded(batch.iter().map(|(_, _, span)| span));
            let (entries, done): (Vec<Entry>, Vec<Done>) =
                batch.drain(..).map(|(entry, done, _)| (entry, done)).unzip();
            match self.write(&entries).instrument(first).await {
                Ok(recorded) => {
                    for (done, recorded) in done.into_iter().zip(recorded) {
                        answer(done, Ok(recorded));
                    }
                }
                Err(QueryError::Rejected(_) | QueryError::Failing(_)) => {
                    self.write_singly(entries, done).await;
                }
                // The attempts that wait see that `done` is dropped.
                Err(QueryError::ShuttingDown) => return,
            }
        }
    }

    /// Writes rows one by one, because the database rejected one of them, and the others must be
    /// written all the same. The rejected row is written without the texts that came from outside.
    async fn write_singly(&self, entries: Vec<Entry>, done: Vec<Done>) {
        for (mut entry, done) in entries.into_iter().zip(done) {
            let mut result = self.write(std::slice::from_ref(&entry)).await;
            if matches!(result, Err(QueryError::Rejected(_) | QueryError::Failing(_)))
                && let Some(post) = &mut entry.post
            {
                (post.error, post.response_body) = (None, None);
                post.trace = Some(Box::default());
                result = self.write(std::slice::from_ref(&entry)).await;
            }
            match result {
                Ok(recorded) => {
                    answer(done, Ok(recorded.first().copied().unwrap_or(Recorded::Ours)));
                }
                Err(QueryError::Rejected(error) | QueryError::Failing(error)) => {
                    answer(done, Err(error));
                }
                Err(QueryError::ShuttingDown) => return,
            }
        }
    }

    /// Writes rows in one statement; waits while the database is away. Returns whose row each is.
    async fn write(&self, entries: &[Entry]) -> Result<Vec<Recorded>, QueryError> {
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
        let others = match entries {
            [_] => retry_until_available(&self.give_up, write).await?,
            // Rows that can't be written together may be written one by one.
            _ => retry_divisible(&self.give_up, write).await?.value,
        };
        if !others.is_empty() {
            self.metrics.duplicates(others.len());
            tracing::warn!(
                attempts = others.len(),
                "attempts were made that were in the ledger already: receivers got duplicates"
            );
        }
        let mut recorded = vec![Recorded::Ours; entries.len()];
        for position in others {
            if let Some(recorded) = recorded.get_mut(position) {
                *recorded = Recorded::Another;
            }
        }
        Ok(recorded)
    }
}

/// Sends the result to the attempt that waits. It may have stopped waiting, which changes nothing.
fn answer(done: Done, result: Result<Recorded, StoreError>) {
    drop(done.send(result));
}
