//! The end of routing: publishes what follows from messages, and then acknowledges them.
//!
//! The ledger has every job, so jobs that their queue refuses are left to the reconciler. Dead letters
//! and held messages are kept in the ledger first (`kept`), and here until a queue has accepted them.

use std::time::{Duration, Instant};

use fanfare_broker::{PublishError, Publisher, Session, Settle, ack_all};
use fanfare_core::chain::chain;
use fanfare_core::ids::BatchKey;
use fanfare_failpoints::failpoint;
use fanfare_trace::propagation::first_recorded;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::Config;
use crate::batch_metrics::BatchMetrics;
use crate::error::RouterError;
use crate::kept::{Kept, record, settle};
use crate::outgoing::Outgoing;

/// The first and the longest pause before a refused message is published again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Messages that are decided: their events are in the ledger, unless they are refused or held.
pub(crate) struct Decided {
    pub(crate) began: Instant,
    pub(crate) events: usize,
    /// The keys of the events' batches.
    pub(crate) batches: Vec<BatchKey>,
    /// The spans of the events. What is done for several events belongs to the first one's trace.
    pub(crate) spans: Vec<Span>,
    /// Jobs. If a queue refuses one, the reconciler publishes it again.
    pub(crate) jobs: Outgoing,
    /// Dead letters and held messages.
    pub(crate) kept: Vec<Kept>,
    /// The rows of messages that came back and are routed.
    pub(crate) settled_rows: Vec<Uuid>,
    pub(crate) metrics: BatchMetrics,
    /// The settlements of messages that are done when their jobs are published.
    pub(crate) settles: Vec<Settle>,
    /// The settlements of messages that are done when `kept` is published too.
    pub(crate) kept_settles: Vec<Settle>,
}

impl Decided {
    /// Nothing, which began to be decided at `began`.
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            events: 0,
            batches: Vec::new(),
            spans: Vec::new(),
            jobs: Outgoing::new(),
            kept: Vec::new(),
            settled_rows: Vec::new(),
            metrics: BatchMetrics::default(),
            settles: Vec::new(),
            kept_settles: Vec::new(),
        }
    }
}

/// Publishes what follows from messages, and then acknowledges them. A queue that refuses dead letters
/// or held messages delays only the messages that have some.
pub(crate) async fn finish(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
    mut finishing: mpsc::Receiver<Decided>,
) -> Result<(), RouterError> {
    let publisher = session.publisher();
    // One at a time, because rows are copies of messages, which may be large.
    let recording = Mutex::new(());
    let recording = &recording;
    let mut keeping = FuturesUnordered::new();
    loop {
        let next = tokio::select! {
            next = finishing.recv() => next,
            Some(kept) = keeping.next(), if !keeping.is_empty() => {
                let kept: Result<(), RouterError> = kept;
                kept?;
                continue;
            }
        };
        let Some(decided) = next else { break };
        let Decided { began, events, batches, spans, jobs, kept, metrics, .. } = decided;
        publish_jobs(&publisher, jobs).instrument(first_recorded(&spans)).await?;
        failpoint!(RouterPublishes, batches.iter().copied());
        drop(spans);
        config.metrics.batch(events, began.elapsed());
        metrics.report(&config.metrics);
        let Decided { settles, kept_settles, settled_rows, .. } = decided;
        if kept_settles.is_empty() {
            settle(config, stop, settled_rows).await?;
            ack_all(settles).await?;
            failpoint!(RouterAcknowledges, batches);
            continue;
        }
        ack_all(settles).await?;
        failpoint!(RouterAcknowledges, batches);
        let publisher = publisher.clone();
        keeping.push(async move {
            let turn = recording.lock().await;
            let kept = record(config, stop, kept).await?;
            drop(turn);
            failpoint!(RouterRecordsKept);
            // Parts of a message that came back may be among the dead letters, whose rows are written
            // first.
            settle(config, stop, settled_rows).await?;
            keep(publisher, stop, kept, kept_settles).await
        });
    }
    while let Some(kept) = keeping.next().await {
        kept?;
    }
    Ok(())
}

/// Publishes jobs. Those that their queue refuses are left to the reconciler.
async fn publish_jobs(publisher: &Publisher, jobs: Outgoing) -> Result<(), RouterError> {
    let results = publisher.publish_each(jobs).await;
    let mut refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    let Some(first) = refused.pop() else { return Ok(()) };
    if !publisher.is_connected() {
        return Err(first.into());
    }
    tracing::warn!(
        jobs = refused.len() + 1,
        error = chain(&first),
        "a queue refuses jobs; they are published again later from the ledger"
    );
    Ok(())
}

/// Publishes dead letters and held messages until a queue has accepted all of them, and then
/// acknowledges the messages that they follow from. Meanwhile these count towards the prefetch, which
/// bounds how many wait.
async fn keep(
    publisher: Publisher,
    stop: &CancellationToken,
    mut kept: Outgoing,
    settles: Vec<Settle>,
) -> Result<(), RouterError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let results = publisher.publish_each(kept.clone()).await;
        let refused = kept.into_iter().zip(results).filter_map(|(message, result)| {
            let error = result.err()?;
            Some((message, error))
        });
        let (messages, mut errors): (Outgoing, Vec<PublishError>) = refused.unzip();
        let Some(error) = errors.pop() else { break };
        if !publisher.is_connected() {
            return Err(error.into());
        }
        kept = messages;
        tracing::warn!(
            messages = kept.len(),
            error = chain(&error),
            "a queue refuses dead letters or held events; trying again"
        );
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Err(RouterError::Stopping);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    failpoint!(RouterKeeps);
    ack_all(settles).await?;
    failpoint!(RouterAcknowledgesKept);
    Ok(())
}
