//! Looks every second which workers have died, so that it is known when their jobs come back.

use std::time::{Duration, Instant};

use fanfare_store::workers::SETTLE_TIME;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// A look that takes longer may have been through an outage of the database without an error.
const SLOW: Duration = Duration::from_secs(2);

pub(crate) async fn run(config: &Config, stop: &CancellationToken) -> Result<(), RouterError> {
    // A process that has just started knows of no earlier time.
    let mut available_since = Instant::now();
    loop {
        let began = Instant::now();
        let settled = available_since.elapsed() > SETTLE_TIME;
        let looked = config.store.workers_look(settled).await;
        if looked.is_err() || began.elapsed() > SLOW {
            available_since = Instant::now();
        }
        if let Err(error) = looked {
            tracing::debug!(error = error.chain(), "failed to look which workers live");
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return Ok(());
        }
    }
}
