//! Retention: makes the ledger's partitions ahead, drops those that are no longer kept, and removes
//! payloads that are too old.
//!
//! Every router does this each minute, and measures what the database holds. The database lets one at a time do it; the others find nothing to
//! do. A failure never stops routing: rows without a partition are stored in the default ones.

use std::time::{Duration, Instant};

use fanfare_store::StoreError;
use fanfare_store::retention::{DAYS_AHEAD, Step};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// The pause between two rounds.
const EVERY: Duration = Duration::from_mins(1);

/// The pause between two steps of a round, so that routing is not kept waiting twice in a row.
const PAUSE: Duration = Duration::from_secs(2);

/// The most steps of a round.
const STEPS: usize = 10;

/// The time of a round in which payloads are removed. A step removes those of a thousand batches, so
/// that even a ledger that was never cleaned before catches up within hours.
const PAYLOAD_TIME: Duration = Duration::from_secs(30);

/// The pause between two steps that remove payloads, so that the database has time for others.
const PAYLOAD_PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(config: &Config, stop: &CancellationToken) -> Result<(), RouterError> {
    loop {
        match stop.run_until_cancelled(round(config)).await {
            None => return Ok(()),
            Some(Ok(())) => {}
            // Most likely the database is away, which other parts of the router report.
            Some(Err(error)) => tracing::debug!(error = error.chain(), "retention is tried later"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return Ok(());
        }
    }
}

async fn round(config: &Config) -> Result<(), StoreError> {
    match config.store.partitions_make(DAYS_AHEAD).await? {
        None => tracing::debug!("partitions are made later: a lock was not free in time"),
        Some(0) => {}
        Some(count) => tracing::info!(count, "made partitions of the ledger"),
    }
    for _ in 0..STEPS {
        match config.store.retention_step(config.keep).await? {
            Step::Done => break,
            // Everything waits behind a try, so there is one in a minute.
            Step::Busy => {
                tracing::debug!("a lock was not free in time; dropping is tried again later");
                break;
            }
            Step::Swept(rows) => tracing::debug!(rows, "removed rows that were kept until now"),
            Step::Dropped { partition, kept } => {
                tracing::info!(partition, kept, "dropped a partition that is no longer kept");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    remove_payloads(config).await?;
    for one in config.store.sizes().await?.kinds {
        config.metrics.system().database_size(one.kind.name(), one.bytes);
    }
    Ok(())
}

/// Removes payloads that are too old, for a part of the round.
async fn remove_payloads(config: &Config) -> Result<(), StoreError> {
    let Some(age) = config.keep.payloads else { return Ok(()) };
    let (until, mut events, mut answers) = (Instant::now() + PAYLOAD_TIME, 0, 0);
    while Instant::now() < until
        && let Some(removed) = config.store.payloads_remove(age).await?
    {
        (events, answers) = (events + removed.events, answers + removed.answers);
        if !removed.more {
            break;
        }
        tokio::time::sleep(PAYLOAD_PAUSE).await;
    }
    let mended = config.store.kept_mended_remove(age).await?;
    if events > 0 || answers > 0 || mended > 0 {
        tracing::info!(events, answers, mended, "removed payloads that are no longer kept");
    }
    Ok(())
}
