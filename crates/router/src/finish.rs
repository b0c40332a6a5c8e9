//! The end of routing: what follows from messages goes to the broker, and then they are acknowledged.
//!
//! Jobs are in the ledger as well: those that their queue does not take are left to the reconciler.
//! Dead letters and messages that go round are nowhere else, and are kept here until a queue has
//! them.

use std::time::{Duration, Instant};

use fanfare_broker::{PublishError, Publisher, Session, Settle, ack_all};
use fanfare_core::chain::chain;
use fanfare_trace::propagation::first_recorded;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::Config;
use crate::error::RouterError;
use crate::taken::Outgoing;
use crate::tally::Tally;

/// The pause before what a queue has not taken is tried again, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Messages whose events are in the ledger, as far as they belong there.
pub(crate) struct Decided {
    pub(crate) began: Instant,
    pub(crate) events: usize,
    /// Of the events. What is done for several at once is a part of the first one's trace.
    pub(crate) spans: Vec<Span>,
    /// What the ledger knows of: if its queue does not take it, the reconciler publishes it.
    pub(crate) jobs: Outgoing,
    /// What nobody else knows of: dead letters, and messages that go round.
    pub(crate) kept: Outgoing,
    pub(crate) tally: Tally,
    /// Of messages that are done with their jobs.
    pub(crate) settles: Vec<Settle>,
    /// Of messages that are done when the rest is published too.
    pub(crate) kept_settles: Vec<Settle>,
}

/// Publishes what follows from messages, then acknowledges them. A queue that does not take dead
/// letters, or messages that go round, holds up only those that have some.
pub(crate) async fn finish(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
    mut decided: mpsc::Receiver<Decided>,
) -> Result<(), RouterError> {
    let publisher = session.publisher();
    let mut keeping = FuturesUnordered::new();
    loop {
        let next = tokio::select! {
            next = decided.recv() => next,
            Some(kept) = keeping.next(), if !keeping.is_empty() => {
                let kept: Result<(), RouterError> = kept;
                kept?;
                continue;
            }
        };
        let Some(Decided { began, events, spans, jobs, kept, tally, settles, kept_settles }) = next
        else {
            break;
        };
        publish_jobs(&publisher, jobs).instrument(first_recorded(&spans)).await?;
        drop(spans);
        config.metrics.batch(events, began.elapsed());
        tally.count(&config.metrics);
        ack_all(settles).await?;
        if !kept_settles.is_empty() {
            keeping.push(keep(publisher.clone(), stop, kept, kept_settles));
        }
    }
    while let Some(kept) = keeping.next().await {
        kept?;
    }
    Ok(())
}

/// Publishes jobs. Those that their queue does not take are left to the reconciler.
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
        "a queue does not take jobs; they are left to the ledger and published again later"
    );
    Ok(())
}

/// Publishes what nobody else knows of, however long that takes, and then acknowledges the messages
/// that it follows from. Meanwhile they count towards the prefetch, which bounds how many wait.
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
            "a queue does not take dead letters or held events; trying again"
        );
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Err(RouterError::Stopping);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(ack_all(settles).await?)
}
