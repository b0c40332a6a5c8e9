//! First attempts of jobs that carry their events.

use std::time::Instant;

use futures_util::future::join_all;

use fanfare_core::ids::WebhookId;
use fanfare_core::job::{Addressee, Due, Unit};
use fanfare_core::outcome::{DropReason, plan_holds};
use fanfare_core::webhook::Webhook;
use fanfare_failpoints::failpoint;

use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::attempt;
use crate::context::{Context, InFlight};
use crate::due_delivery::DueDelivery;
use crate::ending::drop_delivery;
use crate::endpoint_limiter::{Arrival, Deferred};
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::follow_up_publisher::FollowUpPublisher;
use crate::guard::{DeliveryGuard, JobGuard};
use crate::later_attempt::attempt_each;
use crate::pacer::Turn;
use crate::ready::{Attempt, Holds, Ready};
use crate::series::RetrySeries;
use crate::units::{attempt_refs, notifications};

/// Attempts all deliveries of a job concurrently, records the attempts and publishes their follow-ups.
/// Each delivery gives back its part of `permit` and releases its job when it is over or slow, so that
/// a slow delivery keeps no more than its own part.
pub(crate) async fn attempt_all(
    context: &Context,
    publisher: &FollowUpPublisher,
    units: &[Unit],
    mut permit: OwnedSemaphorePermit,
    job: JobGuard,
) {
    let now = context.now();
    if !units.iter().all(|unit| plan_holds(unit.received_at, now)) {
        // The job waited too long in its queue, so access is decided again, as for retries.
        let first = |due| (DueDelivery::first(due), job.clone());
        let deliveries = attempt_refs(units).into_iter().map(first).collect();
        drop(job);
        return Box::pin(attempt_each(context, publisher, deliveries, units, permit)).await;
    }
    // Tracked before the first await: when the session is lost, all attempts must be claimed.
    let _in_flight: Vec<InFlight<'_>> =
        attempt_refs(units).into_iter().map(|due| context.track(due)).collect();
    let from = Instant::now();
    let ids: Vec<WebhookId> = attempt_refs(units).iter().map(|due| due.webhook).collect();
    let found = match context.retry_until_available(|| context.webhooks.get(&ids)).await {
        Ok(found) => found,
        Err(error) => return job.fail(error),
    };
    failpoint!(WorkerBegins, attempt_refs(units));
    let mut attempts = Vec::with_capacity(ids.len());
    for unit in units {
        for to in &unit.deliveries {
            let mut guard = DeliveryGuard::new(job.clone(), permit.split(1));
            let webhook = found.webhooks.get(&to.webhook).map(AsRef::as_ref);
            let unreadable = found.unreadable.contains(&to.webhook);
            let addressed = Addressed { unit, to, webhook, from };
            let due = Due { batch: unit.batch, webhook: to.webhook, entry: 1 };
            attempts.push(async move {
                let follow_up = if unreadable {
                    Ok(Some(FollowUp::deferred(context, due, Deferred::UNREADABLE)))
                } else {
                    one(context, addressed, &mut guard).await
                };
                guard.release_permit();
                let result = match follow_up {
                    Ok(follow_up) => publisher
                        .publish(follow_up)
                        .await
                        .inspect(|()| failpoint!(WorkerPublishes, [due])),
                    Err(error) => Err(error),
                };
                guard.end(result);
            });
        }
    }
    // From here on, each delivery holds only its own part.
    drop((permit, job));
    join_all(attempts).await;
}

/// A delivery of a job.
#[derive(Clone, Copy)]
struct Addressed<'a> {
    unit: &'a Unit,
    to: &'a Addressee,
    webhook: Option<&'a Webhook>,
    /// When this worker began to work on it.
    from: Instant,
}

async fn one(
    context: &Context,
    addressed: Addressed<'_>,
    guard: &mut DeliveryGuard,
) -> Result<Option<FollowUp>, WorkerError> {
    let Addressed { unit, to, webhook, from } = addressed;
    let due = Due { batch: unit.batch, webhook: to.webhook, entry: 1 };
    let series = RetrySeries::first(unit.received_at, 0);
    let webhook = match webhook {
        None => {
            return Box::pin(drop_for(context, due, series, DropReason::WebhookDeleted)).await;
        }
        Some(webhook) if webhook.paused => {
            return Box::pin(drop_for(context, due, series, DropReason::WebhookPaused)).await;
        }
        Some(webhook) => webhook,
    };
    let defer = |deferred| Ok(Some(FollowUp::deferred(context, due, deferred)));
    let slot = match context.pacer.turn(webhook, Arrival::New).await? {
        Turn::Free => None,
        Turn::Soon(waiting) => Some(waiting.wait().await),
        Turn::Defer(deferred) => {
            match context.pacer.but_for_deadline(webhook.id, deferred, series.started_at) {
                Some(deferred) => return defer(deferred),
                None => None,
            }
        }
    };
    let permit = match context.limiter.acquire(webhook, Arrival::New).await {
        Ok(permit) => permit,
        Err(deferred) => return defer(deferred),
    };
    let holds =
        Holds { permit, slot, memory: None, from, held: None, solo: None, is_solo: false, guard };
    let first = Attempt {
        due,
        webhook,
        by_plan: true,
        series,
        event_ids: unit.event_ids.iter().map(String::as_str).collect(),
        notifications: notifications(unit, to),
        traceparent: unit.traceparent.as_deref(),
        detail: None,
    };
    attempt(context, Ready { attempt: first, holds }).await
}

/// Drops a delivery for a reason that depends on the webhook alone.
async fn drop_for(
    context: &Context,
    due: Due,
    series: RetrySeries,
    reason: DropReason,
) -> Result<Option<FollowUp>, WorkerError> {
    drop_delivery(context, due, series, reason, reason.sentence("", &[], 0)).await
}
