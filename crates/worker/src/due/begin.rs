//! What an attempt that may be made still waits for: memory for its body, its payloads, and, for one
//! that ended its workers before, that nothing else is under way.

use std::time::Instant;

use fanfare_core::webhook::Webhook;
use fanfare_store::attempts::PlannedEvent;

use super::{AT_ONCE, Asked, WAIT_FOR_TURN, after_wait, chain, left_out, not_begun};
use crate::attempt::{Chain, Ready, attempt};
use crate::context::{Context, SLACK};
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::gate::Pass;
use crate::hold::Hold;

/// What an attempt is to be made with.
pub(super) struct Begin<'a> {
    pub(super) events: Vec<usize>,
    pub(super) by_plan: bool,
    pub(super) alone: bool,
    pub(super) hold: &'a mut Hold,
}

impl Begin<'_> {
    pub(super) async fn attempt(
        self,
        context: &Context,
        asked: Asked<'_>,
        webhook: &Webhook,
        pass: Pass,
    ) -> Result<Option<FollowUp>, WorkerError> {
        let Asked { taken, standing, mut held, .. } = asked;
        let due = taken.due;
        let size = standing.events.iter().map(|event| event.size).sum();
        let Ok(room) = context.room_for(size).await else {
            return not_begun(context, asked, taken.again(AT_ONCE)).await;
        };
        // Payloads alone are read again. The rest is what was decided by: the revision that the row
        // will have must not be newer than the decision.
        let read;
        let planned = if standing.events.iter().all(|event| event.notification.is_some()) {
            &standing.events
        } else {
            let store = &context.config.store;
            read = context.patiently(|| store.delivery_events(due)).await?;
            let id = |event: &PlannedEvent| event.event_id.clone();
            if !read.iter().map(id).eq(standing.events.iter().map(id)) {
                return not_begun(context, asked, taken.again(AT_ONCE)).await;
            }
            &read
        };
        let alone = if self.alone {
            let Some(alone) = context.solo.alone(context.config.timeout + SLACK).await else {
                return not_begun(context, asked, taken.again(WAIT_FOR_TURN)).await;
            };
            held.from = Instant::now();
            let store = &context.config.store;
            if !context.patiently(|| store.claim_alone(due, held.lease)).await? {
                return Ok(Some(taken.again(context.until_free())));
            }
            tracing::warn!(
                webhook.id = %due.webhook, delivery.id = %due.id(),
                "attempting a delivery alone: several attempts of it began and were never recorded"
            );
            Some(alone)
        } else {
            None
        };
        let detail = left_out(standing, webhook, &self.events)
            .map(|detail| after_wait(context, standing, detail));
        context.config.metrics.partial(detail.is_some());
        let events: Vec<&PlannedEvent> =
            self.events.iter().filter_map(|index| planned.get(*index)).collect();
        let chain = chain(standing);
        let ready = Ready {
            due,
            webhook,
            pass,
            slot: taken.slot,
            room,
            from: held.from,
            held: Some(held),
            is_alone: self.alone,
            alone,
            hold: self.hold,
            by_plan: self.by_plan,
            // What the plan allowed was not asked at any later revision.
            chain: if self.by_plan { Chain { revision: 0, ..chain } } else { chain },
            event_ids: events.iter().map(|event| event.event_id.as_str()).collect(),
            notifications: events.iter().filter_map(|it| it.notification.as_deref()).collect(),
            traceparent: events.first().and_then(|event| event.traceparent.as_deref()),
            detail,
        };
        attempt(context, ready).await
    }
}
