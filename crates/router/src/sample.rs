//! A look now and then at what no process can count: how much waits, and for how long.
//!
//! Only for the metrics, and so never in the way of the work: what can't be had is left as it was.

use std::time::{Duration, Instant};

use fanfare_broker::{Queue, Session};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// A pause is at least so many times as long as the look before it, which a ledger with a long
/// backlog makes slow.
const REST: u32 = 20;

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
        if stop.run_until_cancelled(look(config, session)).await.is_none() {
            return Ok(());
        }
        let pause = every.max(began.elapsed() * REST);
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

async fn look(config: &Config, session: &Session) {
    for queue in Queue::all(config.broker.delivery_queues()) {
        match session.depth(queue).await {
            Ok(depth) => config.metrics.standing().queue(queue.name(), depth.ready),
            Err(error) => {
                tracing::debug!(%error, "failed to look at a queue for the metrics");
                return;
            }
        }
    }
    match session.ladder().await {
        Ok(levels) => config.metrics.standing().retries_waiting(levels),
        Err(error) => {
            tracing::debug!(%error, "failed to look at the delay ladder for the metrics");
            return;
        }
    }
    match config.store.paces_held().await {
        Ok(held) => config.metrics.standing().webhooks_held(held),
        Err(error) => {
            let error = error.chain();
            tracing::debug!(error, "failed to count the webhooks on hold for the metrics");
        }
    }
    match config.store.oldest_unsettled().await {
        Ok(oldest) => {
            let age = oldest.and_then(|oldest| ((config.clock)() - oldest).to_std().ok());
            config.metrics.standing().oldest_unsettled(age.unwrap_or(Duration::ZERO));
        }
        Err(error) => {
            let error = error.chain();
            tracing::debug!(error, "failed to look at the ledger for the metrics");
        }
    }
}
