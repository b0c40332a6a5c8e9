//! Tells operators what is wrong, once for each cause.
//!
//! Any number of routers do this at the same time: the database lets one of them look, and offers each
//! notice to one of them. A failure never stops routing.

use std::time::Duration;

use fanfare_broker::Session;
use fanfare_notices::{Told, Way};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// The longest pause between two rounds: what could not be told is due again between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let on_told = |way: Way, Told { told, failed }| {
        config.metrics.notices(way.code(), told, failed);
    };
    let pause = config.notices.every.min(LONGEST_PAUSE);
    loop {
        let round = fanfare_notices::round(&config.notices, &config.store, session, on_told);
        match stop.run_until_cancelled(round).await {
            None => return Ok(()),
            Some(Ok(())) => {}
            // Most likely the database is away, which other parts of the router report.
            Some(Err(error)) => {
                tracing::debug!(error = error.chain(), "notices are told later");
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}
