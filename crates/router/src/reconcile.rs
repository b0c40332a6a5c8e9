//! The reconciler: looks at the ledger for what is owed and is on nobody's way.
//!
//! Every router runs one; the database lets one look at a time. While jobs wait in a queue, none of
//! those who wait can be called lost, so nothing is published again then; a wiped broker has empty
//! queues, and gets everything anew.
//!
//! Jobs for first attempts may wait in delivery queues beyond those of this router's setting, if
//! another router has, or had, a higher one. These are looked at only when something seems lost:
//! each one that is not there is an error in the broker's log.

use std::time::Instant;

use fanfare_broker::{BrokerError, Queue, Session};
use fanfare_core::job::Due;
use fanfare_core::share::{Share, Shares};
use fanfare_store::patience::patiently;
use fanfare_store::reconcile::Idle;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;
use crate::jobs;

/// Events looked at in one statement: few, because others wait for the database meanwhile.
const AT_A_TIME: i64 = 100;

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
    let shares = config.broker.delivery_queues();
    let idle = Idle {
        deliveries: waiting(session, shares.all()).await?.is_none(),
        retries: is_empty(session, Queue::Retries).await?,
    };
    let found = patiently(stop, || config.store.reconcile(AT_A_TIME, idle)).await?;
    let Some(mut found) = found else { return Ok(false) };
    found.unattempted = without_jobs(found.unattempted, session, shares).await?;
    if !found.unattempted.is_empty() || !found.overdue.is_empty() {
        tracing::warn!(
            unattempted = found.unattempted.len(),
            overdue = found.overdue.len(),
            "some deliveries are owed but on nobody's way; their jobs are published again"
        );
    }
    let mut outgoing = jobs::copies(&found.unattempted, shares)?;
    outgoing.extend(jobs::due(&found.overdue)?);
    session.publisher().publish_all(outgoing).await?;
    config.metrics.republished(found.unattempted.len() + found.overdue.len());
    Ok(i64::try_from(found.looked).unwrap_or(i64::MAX) >= AT_A_TIME)
}

/// Of deliveries that were never attempted those whose jobs can't be waiting in a queue that this
/// router doesn't use: all or none. The others are looked at again in five minutes.
async fn without_jobs(
    unattempted: Vec<Due>,
    session: &Session,
    shares: Shares,
) -> Result<Vec<Due>, BrokerError> {
    if unattempted.is_empty() {
        return Ok(unattempted);
    }
    let Some(queue) = waiting(session, shares.beyond()).await? else {
        return Ok(unattempted);
    };
    tracing::warn!(
        unattempted = unattempted.len(),
        queue = queue.name(),
        used = shares.count(),
        "jobs wait in a delivery queue that routers with this FANFARE_DELIVERY_QUEUES don't use; \
         until workers have emptied it nothing is taken for lost"
    );
    Ok(Vec::new())
}

/// The first of these delivery queues in which jobs wait. What is not there holds nothing.
async fn waiting(
    session: &Session,
    shares: impl Iterator<Item = Share>,
) -> Result<Option<Queue>, BrokerError> {
    for queue in shares.map(Queue::Deliveries) {
        match is_empty(session, queue).await {
            Ok(true) => {}
            Ok(false) => return Ok(Some(queue)),
            Err(BrokerError::Missing { .. }) if queue != Queue::DELIVERIES => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn is_empty(session: &Session, queue: Queue) -> Result<bool, BrokerError> {
    Ok(session.depth(queue).await?.ready == 0)
}
