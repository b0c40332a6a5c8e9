//! Repairs queues: declares those that are missing, and deletes and declares again the job queues that
//! are broken.
//!
//! A quorum queue can break so that it serves no client, and stays broken until it is deleted. The
//! ledger shows the jobs that such a queue held, so the reconciler publishes them again. Queues of
//! events and of dead letters are never deleted.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanfare_broker::{BrokerError, Condition, Probe, PublishError, Queue, probe, repair};
use fanfare_core::chain::chain;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::restoring::note_lost;

/// How often the queues are probed.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// How long a job queue must be broken until it is declared again. An election of its leader, or the
/// restart of a node, takes less.
const BROKEN_FOR: Duration = Duration::from_mins(2);

/// The pause after a queue has refused what the reconciler published.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

pub(crate) async fn run(config: &Config, stop: &CancellationToken) -> Result<(), RouterError> {
    let mut broken_since: HashMap<String, Instant> = HashMap::new();
    loop {
        match stop.run_until_cancelled(probe(&config.broker)).await {
            None => return Ok(()),
            Some(Ok(found)) => {
                for probe in found {
                    inspect(config, stop, &mut broken_since, probe).await;
                }
            }
            // The session notices too when the broker is away.
            Some(Err(error)) => {
                let error = chain(&error);
                tracing::debug!(error, "failed to probe the queues");
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await.is_none() {
            return Ok(());
        }
    }
}

/// Repairs one queue if its condition requires it.
async fn inspect(
    config: &Config,
    stop: &CancellationToken,
    broken_since: &mut HashMap<String, Instant>,
    probe: Probe,
) {
    let Probe { queue, repairable, condition } = probe;
    let reason = match condition {
        Condition::Answers => {
            if broken_since.remove(&queue).is_some() {
                tracing::info!(queue, "a queue has recovered");
            }
            return;
        }
        Condition::Missing => {
            let is_kept = queue == Queue::EventsDead.name();
            if is_kept && note_lost(config, stop, &queue).await.is_err() {
                return;
            }
            "it is missing".to_owned()
        }
        Condition::Broken(error) => {
            let since = broken_since.entry(queue.clone()).or_insert_with(|| {
                tracing::warn!(
                    queue,
                    error,
                    repairable,
                    "a queue does not answer; a job queue that stays so is declared again"
                );
                Instant::now()
            });
            if !repairable || since.elapsed() < BROKEN_FOR {
                return;
            }
            format!("it has not answered for {} s: {error}", since.elapsed().as_secs())
        }
    };
    match repair(&config.broker, &queue).await {
        Ok(true) => {
            broken_since.remove(&queue);
            tracing::warn!(
                queue,
                reason,
                "declared a queue again; what it held is published again from the ledger"
            );
        }
        Ok(false) | Err(BrokerError::Forbidden { .. }) => {}
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(queue, error, "failed to declare a queue again; trying again");
        }
    }
}

/// Runs `work` again when a queue refuses its messages, because one broken queue must not end the
/// session that all other work uses.
pub(crate) async fn unless_refused<Work>(
    stop: &CancellationToken,
    mut work: impl FnMut() -> Work,
) -> Result<(), RouterError>
where
    Work: Future<Output = Result<(), RouterError>>,
{
    loop {
        let error = match work().await {
            Err(RouterError::Broker(BrokerError::Publish(
                error @ (PublishError::Refused { .. }
                | PublishError::Unroutable { .. }
                | PublishError::NoConfirm { .. }),
            ))) => chain(&error),
            ended => return ended,
        };
        tracing::warn!(error, "failed to publish lost jobs; trying again");
        if stop.run_until_cancelled(tokio::time::sleep(REFUSED_PAUSE)).await.is_none() {
            return Ok(());
        }
    }
}
