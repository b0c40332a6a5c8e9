//! Publishes kept messages again that the broker has lost.
//!
//! - A dead letter queue that does not exist was lost, with all its letters. That is noted in the
//!   database before the queue is declared, because afterwards it can't be seen. Then one router
//!   publishes the letters again that the ledger keeps. A queue that a person emptied is not filled.
//! - A message that waits, or a letter that was replayed, is published again if its row is not settled
//!   in time, and no event waits for a router. If it comes twice, its event is recognised.

use std::time::Duration;

use fanfare_broker::dead_letters::{EncodedLetter, restore};
use fanfare_broker::{BrokerError, Queue, Session, is_missing};
use fanfare_core::chain::chain;
use fanfare_failpoints::failpoint;
use fanfare_letters::again;
use fanfare_store::StoreError;
use fanfare_store::kept::{Kept, LostQueue};
use fanfare_store::retry::retry_until_available;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// The pause between two rounds, and after a round that left something to do.
const EVERY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// The most messages that one round publishes again.
const AT_ONCE: i64 = 100;

/// The most waiting messages that one statement brings back.
const HASTENED_AT_ONCE: u64 = 1000;

/// Opens a session, and declares all queues. If the broker has lost the queue of dead events, and the
/// database is away, so that this can't be noted, that queue is left to [`declare_dead_events`]: the
/// others take in what is published meanwhile.
pub(crate) async fn open(config: &Config) -> Result<Session, BrokerError> {
    let is_lost = is_missing(&config.broker, Queue::EventsDead).await?;
    if is_lost && note(config, Queue::EventsDead.name()).await.is_err() {
        return Session::open(&config.broker).await;
    }
    Session::open(&config.broker.clone().declaring_all()).await
}

/// Declares the queue of dead events if it is missing, as soon as the database is available.
pub(crate) async fn declare_dead_events(
    config: &Config,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    if is_missing(&config.broker, Queue::EventsDead).await? {
        note_lost(config, stop, Queue::EventsDead.name()).await?;
        Session::open(&config.broker.clone().declaring_all()).await?.close().await;
    }
    Ok(())
}

/// Notes that a queue does not exist, before it is declared.
pub(crate) async fn note_lost(
    config: &Config,
    stop: &CancellationToken,
    queue: &str,
) -> Result<(), RouterError> {
    Ok(retry_until_available(stop, || note(config, queue)).await?)
}

async fn note(config: &Config, queue: &str) -> Result<(), StoreError> {
    if config.store.lost_queue_note(queue).await? {
        tracing::warn!(queue, "the broker has lost a queue; its dead letters are put back");
    }
    failpoint!(RouterNotesLostQueue);
    Ok(())
}

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    loop {
        let pause = match stop.run_until_cancelled(round(config, session)).await {
            None => return Ok(()),
            Some(Ok(true)) => PAUSE,
            Some(Ok(false)) => EVERY,
            Some(Err(error)) => {
                // Most likely the database or the broker is away, which other parts report.
                let error = chain(&error);
                tracing::debug!(error, "kept messages are published again later");
                EVERY
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

/// Publishes some messages again; returns whether there may be more.
async fn round(config: &Config, session: &Session) -> Result<bool, RouterError> {
    if let Some(lost) = config.store.lost_queue_lease().await? {
        put_back(config, session, &lost).await?;
    }
    // What waits to be taken by a router has not been lost. It would be published twice.
    if session.depth(Queue::Events).await?.ready > 0 {
        return Ok(false);
    }
    let overdue = config.store.kept_overdue(AT_ONCE).await?;
    if overdue.is_empty() {
        return Ok(false);
    }
    let count = overdue.len();
    let messages = overdue.into_iter().filter_map(again).collect();
    session.publisher().publish_all(messages).await?;
    tracing::warn!(count, "published messages again that did not come back");
    Ok(true)
}

/// Puts the letters of a lost queue back that the ledger keeps, and lets the messages that waited then
/// come back, whose queues are most likely lost too.
async fn put_back(config: &Config, session: &Session, lost: &LostQueue) -> Result<(), RouterError> {
    let most = i64::try_from(HASTENED_AT_ONCE).unwrap_or(i64::MAX);
    while config.store.lost_queue_hasten(lost, most).await? == HASTENED_AT_ONCE {}
    let page = async |after| {
        config.store.lost_queue_extend(lost).await?;
        let page = config.store.kept_letters(lost.missing_since, after).await?;
        Ok::<_, RouterError>(page.into_iter().map(encoded).collect())
    };
    let letters = restore(session, Queue::EventsDead, false, page).await?;
    failpoint!(RouterRestoresLetters);
    config.store.lost_queue_done(lost).await?;
    tracing::warn!(queue = lost.queue, letters, "put the dead letters of a lost queue back");
    Ok(())
}

fn encoded(Kept { id, properties, body, .. }: Kept) -> EncodedLetter {
    EncodedLetter { id, properties, body }
}
