//! Gauges of the whole system, which no process can count: how much waits, and for how long.
//!
//! They serve only the metrics, so a failure never stops the router: the gauge keeps its value.

use std::time::{Duration, Instant};

use fanfare_broker::{Queue, Session};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// A pause is at least this many times as long as the measurement before it. A ledger with a long
/// backlog makes a measurement slow.
const PAUSE_FACTOR: u32 = 20;

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let Some(every) = config.sample_every else {
        return Ok(());
    };
    loop {
        let began = Instant::now();
        if stop.run_until_cancelled(sample(config, session)).await.is_none() {
            return Ok(());
        }
        let pause = every.max(began.elapsed() * PAUSE_FACTOR);
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

async fn sample(config: &Config, session: &Session) {
    for queue in Queue::all(config.broker.delivery_queues()) {
        match session.depth(queue).await {
            Ok(depth) => config.metrics.system().queue(queue.name(), depth.ready),
            Err(error) => {
                tracing::debug!(%error, "failed to measure a queue");
                return;
            }
        }
    }
    match session.ladder().await {
        Ok(levels) => config.metrics.system().retries_waiting(levels),
        Err(error) => {
            tracing::debug!(%error, "failed to measure the delay ladder");
            return;
        }
    }
    match config.store.paces_held().await {
        Ok(held) => config.metrics.system().webhooks_held(held),
        Err(error) => {
            let error = error.chain();
            tracing::debug!(error, "failed to count the webhooks on hold");
        }
    }
    match config.store.notice_causes().await {
        Ok(open) => config.metrics.system().notice_causes(&open),
        Err(error) => {
            let error = error.chain();
            tracing::debug!(error, "failed to count the causes of notices");
        }
    }
    match config.store.coverage(config.keep).await {
        Ok(coverage) => {
            config.metrics.system().partitions(coverage.ahead, coverage.longest_overdue());
        }
        Err(error) => {
            let error = error.chain();
            tracing::debug!(error, "failed to measure the ledger's partitions");
        }
    }
    match config.store.oldest_unsettled().await {
        Ok(oldest) => {
            let age = oldest.and_then(|oldest| ((config.clock)() - oldest).to_std().ok());
            config.metrics.system().oldest_unsettled(age.unwrap_or(Duration::ZERO));
        }
        Err(error) => {
            let error = error.chain();
            tracing::debug!(error, "failed to measure the ledger");
        }
    }
}
