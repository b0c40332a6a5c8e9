//! The last waits of an attempt that was decided: for a permit, for memory for its body, for its
//! payloads, and, if it is a solo attempt, until nothing else is under way.

use std::time::Instant;

use fanfare_core::webhook::Webhook;
use fanfare_store::attempts::PlannedEvent;

use super::admission::{Admission, admit_despite_hold};
use super::{AT_ONCE, Claimed, WAIT_FOR_SOLO, after_wait, left_out, not_begun};
use crate::attempt::attempt;
use crate::claimer::RECORD_MARGIN;
use crate::context::Context;
use crate::endpoint_limiter::Permit;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::guard::DeliveryGuard;
use crate::ready::{Attempt, Holds, Ready};
use crate::series::RetrySeries;

/// An attempt that was decided and has not begun.
pub(super) struct Start<'a> {
    pub(super) webhook: &'a Webhook,
    pub(super) events: Vec<usize>,
    pub(super) by_plan: bool,
    pub(super) solo: bool,
    pub(super) guard: &'a mut DeliveryGuard,
}

impl<'a> Start<'a> {
    pub(super) async fn attempt(
        self,
        context: &Context,
        mut claimed: Claimed<'_>,
        admission: Admission,
    ) -> Result<Option<FollowUp>, WorkerError> {
        let Claimed { delivery, history, .. } = claimed;
        let permit = match permit(context, claimed, self.webhook, admission).await {
            Ok(permit) => permit,
            Err(follow_up) => return not_begun(context, claimed, follow_up).await,
        };
        let size = history.events.iter().map(|event| event.size).sum();
        let Ok(memory) = context.reserve_memory(size).await else {
            return not_begun(context, claimed, delivery.again(AT_ONCE)).await;
        };
        let read;
        let planned = if history.events.iter().all(|event| event.notification.is_some()) {
            &history.events
        } else {
            let Some(events) = payloads(context, claimed).await? else {
                return not_begun(context, claimed, delivery.again(AT_ONCE)).await;
            };
            read = events;
            &read
        };
        let solo = if self.solo {
            let Some(solo) = context.solo.solo(context.config.timeout + RECORD_MARGIN).await else {
                return not_begun(context, claimed, delivery.again(WAIT_FOR_SOLO)).await;
            };
            claimed.held.from = Instant::now();
            if !claim_alone(context, claimed).await? {
                return Ok(Some(delivery.again(context.until_free())));
            }
            Some(solo)
        } else {
            None
        };
        let payload = self.content(context, claimed, planned);
        let holds = Holds {
            permit,
            slot: delivery.slot,
            memory,
            from: claimed.held.from,
            held: Some(claimed.held),
            is_solo: self.solo,
            solo,
            guard: self.guard,
        };
        attempt(context, Ready { attempt: payload, holds }).await
    }

    /// The delivery and its payload. `planned` are its events, with their payloads.
    fn content<'b>(
        &self,
        context: &Context,
        claimed: Claimed<'_>,
        planned: &'b [PlannedEvent],
    ) -> Attempt<'b>
    where
        'a: 'b,
    {
        let (Claimed { delivery, history, .. }, webhook) = (claimed, self.webhook);
        let detail = left_out(history, webhook, &self.events)
            .map(|detail| after_wait(context, history, detail));
        context.config.metrics.partial(detail.is_some());
        let events: Vec<&PlannedEvent> =
            self.events.iter().filter_map(|index| planned.get(*index)).collect();
        let series = RetrySeries::of(history);
        Attempt {
            due: delivery.due,
            webhook,
            by_plan: self.by_plan,
            // A first attempt that the plan allowed was checked at no later revision.
            series: if self.by_plan { RetrySeries { revision: 0, ..series } } else { series },
            event_ids: events.iter().map(|event| event.event_id.as_str()).collect(),
            notifications: events.iter().filter_map(|it| it.notification.as_deref()).collect(),
            traceparent: events.first().and_then(|event| event.traceparent.as_deref()),
            detail,
        }
    }
}

/// The permit of an attempt, or the follow-up with which it is put off.
async fn permit(
    context: &Context,
    claimed: Claimed<'_>,
    webhook: &Webhook,
    admission: Admission,
) -> Result<Permit, FollowUp> {
    let Claimed { delivery, history, .. } = claimed;
    match admission {
        Admission::Permit(permit) => Ok(permit),
        Admission::Deferred(deferred) => {
            let started_at = RetrySeries::of(history).started_at;
            admit_despite_hold(context, webhook, deferred, started_at)
                .await
                .map_err(|deferred| FollowUp::deferred(context, delivery.due, deferred))
        }
        // Its webhook was resumed in the meantime.
        Admission::Soon(_) | Admission::Unneeded | Admission::Unreadable => {
            Err(delivery.again(AT_ONCE))
        }
    }
}

/// Reads the events of a delivery with their payloads; `None` if they are not those of the decision.
///
/// Only the payloads are read a second time. Everything else is what the decision was made from: the
/// row must not name a newer revision than the decision used.
async fn payloads(
    context: &Context,
    claimed: Claimed<'_>,
) -> Result<Option<Vec<PlannedEvent>>, WorkerError> {
    let Claimed { delivery, history, .. } = claimed;
    let store = &context.config.store;
    let read = context.retry_until_available(|| store.delivery_events(delivery.due)).await?;
    let id = |event: &PlannedEvent| event.event_id.clone();
    Ok(read.iter().map(id).eq(history.events.iter().map(id)).then_some(read))
}

/// Renews the claim of an attempt for a solo attempt; false if the claim is no longer held.
async fn claim_alone(context: &Context, claimed: Claimed<'_>) -> Result<bool, WorkerError> {
    let Claimed { delivery, held, .. } = claimed;
    let due = delivery.due;
    let store = &context.config.store;
    let is_held = context.retry_until_available(|| store.claim_alone(due, held.lease)).await?;
    if is_held {
        tracing::warn!(
            webhook.id = %due.webhook, delivery.id = %due.id(),
            "attempting a delivery alone: several attempts of it began and were never recorded"
        );
    }
    Ok(is_held)
}
