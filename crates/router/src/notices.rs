//! Sends notices of what is wrong, to operators and to owners.
//!
//! Any number of routers do this at the same time: the database lets one of them check, and offers each
//! notice to one of them. A failure never stops routing.

use std::time::Duration;

use fanfare_broker::Session;
use fanfare_core::notice::Channel;
use fanfare_notices::Sent;
use fanfare_store::StoreError;
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
    let (notices, store) = (&config.notices, &config.store);
    // Boxed because they are large: they have the futures of a client of HTTP and of a mail server.
    let operators =
        async || Box::pin(fanfare_notices::round(notices, store, session, on_sent)).await;
    let owners = async || Box::pin(fanfare_notices::owners_round(notices, store, on_sent)).await;
    // Apart, so that the receiver of an owner does not delay operators.
    tokio::join!(repeat(config, stop, operators), repeat(config, stop, owners));
    Ok(())
}

/// Makes rounds until the router stops.
async fn repeat(
    config: &Config,
    stop: &CancellationToken,
    round: impl AsyncFn() -> Result<(), StoreError>,
) {
    let pause = config.notices.every.min(LONGEST_PAUSE);
    loop {
        match stop.run_until_cancelled(round()).await {
            None => return,
            Some(Ok(())) => {}
            // Most likely the database is away, which other parts of the router report.
            Some(Err(error)) => {
                tracing::debug!(error = error.chain(), "notices are sent later");
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}
