//! What an attempt that was decided still waits for: memory for its body, its payloads, and, for a
//! solo attempt, that nothing else is under way.

use std::time::Instant;

use fanfare_core::webhook::Webhook;
use fanfare_store::attempts::PlannedEvent;

use super::{AT_ONCE, Claimed, WAIT_FOR_SOLO, after_wait, left_out, not_begun, series};
use crate::attempt::{Ready, RetrySeries, attempt};
use crate::context::{Context, RECORD_MARGIN};
use crate::endpoint_limiter::Permit;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::guard::DeliveryGuard;

/// An attempt that was decided and has not begun.
pub(super) struct Start<'a> {
    pub(super) events: Vec<usize>,
    pub(super) by_plan: bool,
    pub(super) solo: bool,
    pub(super) guard: &'a mut DeliveryGuard,
}

impl Start<'_> {
    pub(super) async fn attempt(
        self,
        context: &Context,
        claimed: Claimed<'_>,
        webhook: &Webhook,
        permit: Permit,
    ) -> Result<Option<FollowUp>, WorkerError> {
        let Claimed { delivery, history, mut held, .. } = claimed;
        let due = delivery.due;
        let size = history.events.iter().map(|event| event.size).sum();
        let Ok(memory) = context.reserve_memory(size).await else {
            return not_begun(context, claimed, delivery.again(AT_ONCE)).await;
        };
        // Only the payloads are read a second time. Everything else is what the decision was made
        // from: the row must not name a newer revision than the decision used.
        let read;
        let planned = if history.events.iter().all(|event| event.notification.is_some()) {
            &history.events
        } else {
            let store = &context.config.store;
            read = context.retry_until_available(|| store.delivery_events(due)).await?;
            let id = |event: &PlannedEvent| event.event_id.clone();
            if !read.iter().map(id).eq(history.events.iter().map(id)) {
                return not_begun(context, claimed, delivery.again(AT_ONCE)).await;
            }
            &read
        };
        let solo = if self.solo {
            let Some(solo) = context.solo.solo(context.config.timeout + RECORD_MARGIN).await else {
                return not_begun(context, claimed, delivery.again(WAIT_FOR_SOLO)).await;
            };
            held.from = Instant::now();
            let store = &context.config.store;
            if !context.retry_until_available(|| store.claim_alone(due, held.lease)).await? {
                return Ok(Some(delivery.again(context.until_free())));
            }
            tracing::warn!(
                webhook.id = %due.webhook, delivery.id = %due.id(),
                "attempting a delivery alone: several attempts of it began and were never recorded"
            );
            Some(solo)
        } else {
            None
        };
        let detail = left_out(history, webhook, &self.events)
            .map(|detail| after_wait(context, history, detail));
        context.config.metrics.partial(detail.is_some());
        let events: Vec<&PlannedEvent> =
            self.events.iter().filter_map(|index| planned.get(*index)).collect();
        let series = series(history);
        let ready = Ready {
            due,
            webhook,
            permit,
            slot: delivery.slot,
            memory,
            from: held.from,
            held: Some(held),
            is_solo: self.solo,
            solo,
            guard: self.guard,
            by_plan: self.by_plan,
            // A first attempt that the plan allowed was checked at no later revision.
            series: if self.by_plan { RetrySeries { revision: 0, ..series } } else { series },
            event_ids: events.iter().map(|event| event.event_id.as_str()).collect(),
            notifications: events.iter().filter_map(|it| it.notification.as_deref()).collect(),
            traceparent: events.first().and_then(|event| event.traceparent.as_deref()),
            detail,
        };
        attempt(context, ready).await
    }
}
