//! Sends operators notices of what is wrong.
//!
//! Any number of routers do this at the same time: the database lets one of them check, and offers each
//! notice to one of them. A failure never stops routing.

use std::time::Duration;

use fanfare_broker::Session;
use fanfare_core::notice::Channel;
use fanfare_notices::Sent;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// The longest pause between two rounds: what could not be sent is due again between two checks.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let on_sent = |channel: Channel, Sent { sent, failed }| {
        config.metrics.notices(channel.code(), sent, failed);
    };
    let pause = config.notices.every.min(LONGEST_PAUSE);
    loop {
        let round = fanfare_notices::round(&config.notices, &config.store, session, on_sent);
        // Boxed because it is large: it has the futures of a client of HTTP and of a mail server.
        let round = Box::pin(round);
        match stop.run_until_cancelled(round).await {
            None => return Ok(()),
            Some(Ok(())) => {}
            // Most likely the database is away, which other parts of the router report.
            Some(Err(error)) => {
                tracing::debug!(error = error.chain(), "notices are sent later");
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}
