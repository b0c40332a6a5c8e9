//! The reconciler: looks at the ledger for what is owed and is on nobody's way.
//!
//! Every router runs one; the database lets one look at a time. While jobs wait in a queue, none of
//! those who wait can be called lost, so nothing is published again then; a wiped broker has empty
//! queues, and gets everything anew.

use std::time::Instant;

use fanfare_broker::{BrokerError, Queue, Session};
use fanfare_store::patience::patiently;
use fanfare_store::reconcile::Idle;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::jobs;

/// Events looked at in one statement: few, because others wait for the database meanwhile.
const AT_A_TIME: i64 = 250;

pub(crate) async fn run(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), RouterError> {
    loop {
        let began = Instant::now();
        let more = look(config, session, stop).await?;
        // While there is much to look at, half of the time is for others.
        let pause = if more { began.elapsed() } else { config.reconcile_every };
        let pause = tokio::time::sleep(pause);
        if stop.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
    }
}

/// Looks once; returns whether there may be more to look at.
async fn look(
    config: &Config,
    session: &Session,
    stop: &CancellationToken,
) -> Result<bool, RouterError> {
    if stop.is_cancelled() {
        return Ok(false);
    }
    let idle = Idle {
        deliveries: is_empty(session, Queue::Deliveries).await?,
        retries: is_empty(session, Queue::Retries).await?,
    };
    let found = patiently(stop, || config.store.reconcile(AT_A_TIME, idle)).await?;
    let Some(found) = found else { return Ok(false) };
    if !found.unattempted.is_empty() || !found.overdue.is_empty() {
        tracing::warn!(
            unattempted = found.unattempted.len(),
            overdue = found.overdue.len(),
            "some deliveries are owed but on nobody's way; their jobs are published again"
        );
    }
    let mut outgoing = jobs::copies(&found.unattempted)?;
    outgoing.extend(jobs::due(&found.overdue)?);
    session.publisher().publish_all(outgoing).await?;
    config.metrics.republished(found.unattempted.len() + found.overdue.len());
    Ok(i64::try_from(found.looked).unwrap_or(i64::MAX) >= AT_A_TIME)
}

async fn is_empty(session: &Session, queue: Queue) -> Result<bool, BrokerError> {
    Ok(session.depth(queue).await?.ready == 0)
}
