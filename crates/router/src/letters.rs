//! Keeps the queues of dead letters and their index in the ledger the same.
//!
//! The messages of settled letters leave their queue. What the broker itself or another program put into a
//! queue comes into the index. A queue is read only when there is something to remove, or when it differs
//! from the index for longer than letters are on their way.

use std::time::Duration;

use fanfare_broker::Session;
use fanfare_core::chain::chain;
use fanfare_core::dead_letter::Kind;
use fanfare_letters::{LettersError, difference, sweep, take_census};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// The pause between two comparisons.
const EVERY: Duration = Duration::from_secs(5);

/// For how long a settled letter stays in the index.
const KEEP_SETTLED: Duration = Duration::from_hours(30 * 24);
/// The most settled letters that one round removes from the index.
const TRIMMED_AT_ONCE: i64 = 2000;

/// The differences that the last round found.
#[derive(Default)]
struct Seen {
    of_events: i64,
    of_deliveries: i64,
}

impl Seen {
    fn of(&mut self, kind: Kind) -> &mut i64 {
        match kind {
            Kind::Events => &mut self.of_events,
            Kind::Deliveries => &mut self.of_deliveries,
        }
    }
}

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    let mut seen = Seen::default();
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        match stop.run_until_cancelled(round(config, session, &mut seen)).await {
            None => return Ok(()),
            Some(Ok(())) => {}
            // Most likely the database or the broker is away, which other parts report.
            Some(Err(error)) => {
                let error = chain(&error);
                tracing::debug!(error, "dead letters are compared with their queues later");
            }
        }
    }
    Ok(())
}

async fn round(config: &Config, session: &Session, seen: &mut Seen) -> Result<(), LettersError> {
    let store = &config.store;
    for kind in Kind::ALL {
        let swept = sweep(session, store, kind, Duration::ZERO, |_| {}).await?;
        if swept > 0 {
            tracing::info!(swept, queue = kind.name(), "settled dead letters left their queue");
        }
        let now = difference(session, store, kind).await?;
        let before = std::mem::replace(seen.of(kind), now);
        // The same sign twice: the difference is not a letter that is being published.
        if now.signum() * before.signum() > 0 {
            let now = (config.clock)();
            take_census((session, store), kind, now, None, Duration::ZERO).await?;
        }
    }
    store.letters_trim(KEEP_SETTLED, TRIMMED_AT_ONCE).await?;
    Ok(())
}
