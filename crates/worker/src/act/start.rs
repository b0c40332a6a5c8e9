//! The last waits of an attempt that was decided: for a permit, for memory for its body, for its
//! payloads, and, if it is a solo attempt, until nothing else is under way.

use std::time::{Duration, Instant};

use fanfare_core::delivery::{Decision, Sending, decide};
use fanfare_core::outcome::DropReason;
use fanfare_core::webhook::Webhook;
use fanfare_store::attempts::{DeliveryHistory, PlannedEvent};

use super::{AT_ONCE, after_wait, not_begun};
use crate::attempt::attempt;
use crate::claimer::RECORD_MARGIN;
use crate::context::Context;
use crate::delivery::RetrySeries;
use crate::endpoint_limiter::Permit;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::guard::DeliveryGuard;
use crate::load::{Admission, Content, Loaded, admit_despite_hold, reload};
use crate::ready::{Attempt, Holds};

/// The delay of a solo attempt that can't be made while others are under way.
const WAIT_FOR_SOLO: Duration = Duration::from_secs(4);

/// Starts an attempt as it was decided, or puts it off.
pub(super) async fn start(
    context: &Context,
    mut loaded: Box<Loaded<'_>>,
    sending: Sending,
    guard: &mut DeliveryGuard,
) -> Result<Option<FollowUp>, WorkerError> {
    let delivery = loaded.delivery;
    let Some(mut webhook) = loaded.webhook.take() else {
        return not_begun(context, &loaded, delivery.again(AT_ONCE)).await;
    };
    let permit = match permit(context, &mut loaded, &webhook).await {
        Ok(permit) => permit,
        Err(follow_up) => return not_begun(context, &loaded, follow_up).await,
    };
    let Ok(memory) = context.reserve_memory(payload_size(&loaded)).await else {
        return not_begun(context, &loaded, delivery.again(AT_ONCE)).await;
    };
    let mut solo = None;
    if sending.solo {
        solo = Box::pin(context.solo.solo(context.config.timeout + RECORD_MARGIN)).await;
        if solo.is_none() {
            return not_begun(context, &loaded, delivery.again(WAIT_FOR_SOLO)).await;
        }
        if !Box::pin(renew_solo(context, &mut loaded)).await? {
            return Ok(Some(delivery.again(context.until_free())));
        }
        // The wait may have been long, so what was decided before it is decided again.
        Box::pin(reload(context, &mut loaded)).await?;
        match (decide(&loaded.facts), loaded.webhook.take()) {
            (Decision::Send(again), Some(current)) if again == sending => webhook = current,
            _ => return not_begun(context, &loaded, delivery.again(AT_ONCE)).await,
        }
    }
    if lacks_payload(&loaded) && !Box::pin(read_payload(context, &mut loaded)).await? {
        return not_begun(context, &loaded, delivery.again(AT_ONCE)).await;
    }
    let holds = Holds {
        permit,
        slot: delivery.slot,
        memory,
        from: loaded.from,
        held: loaded.held,
        is_solo: sending.solo,
        solo,
        guard,
    };
    let post = content(context, &loaded, &webhook, &sending);
    attempt(context, &post, holds).await
}

/// The permit of an attempt, or the follow-up with which it is put off.
async fn permit(
    context: &Context,
    loaded: &mut Loaded<'_>,
    webhook: &Webhook,
) -> Result<Permit, FollowUp> {
    let (delivery, arrival) = (loaded.delivery, loaded.arrival());
    match std::mem::replace(&mut loaded.admission, Admission::Unneeded) {
        Admission::Permit(permit) => Ok(permit),
        Admission::Deferred(deferred) => {
            let started_at = loaded.series.started_at;
            admit_despite_hold(context, webhook, (deferred, arrival), started_at)
                .await
                .map_err(|deferred| FollowUp::deferred(context, delivery.due, deferred))
        }
        // Its webhook was resumed in the meantime.
        Admission::Soon(_) | Admission::Unneeded | Admission::Unreadable => {
            Err(delivery.again(AT_ONCE))
        }
    }
}

/// The bytes of a delivery's notifications, if they are not in memory already.
fn payload_size(loaded: &Loaded<'_>) -> usize {
    match &loaded.content {
        Content::Inline { .. } => 0,
        Content::Ledger(history) => history.events.iter().map(|event| event.size).sum(),
    }
}

fn lacks_payload(loaded: &Loaded<'_>) -> bool {
    match &loaded.content {
        Content::Inline { .. } => false,
        Content::Ledger(history) => history.events.iter().any(|event| event.notification.is_none()),
    }
}

/// Reads the events of a delivery with their payloads; false if they are not those of the decision.
///
/// Only the payloads are read a second time. Everything else is what the decision was made from: the
/// row must not name a newer revision than the decision used.
async fn read_payload(context: &Context, loaded: &mut Loaded<'_>) -> Result<bool, WorkerError> {
    let Content::Ledger(history) = &mut loaded.content else { return Ok(true) };
    let (store, due) = (&context.config.store, loaded.delivery.due);
    let read = context.retry_until_available(|| store.delivery_events(due)).await?;
    let id = |event: &PlannedEvent| event.event_id.clone();
    let is_same = read.iter().map(id).eq(history.events.iter().map(id));
    history.events = read;
    Ok(is_same)
}

/// Renews the lease of a solo attempt, after nothing else is under way; false if the lease is no longer
/// held.
async fn renew_solo(context: &Context, loaded: &mut Loaded<'_>) -> Result<bool, WorkerError> {
    let (due, Some(held)) = (loaded.delivery.due, loaded.held) else { return Ok(false) };
    loaded.from = Instant::now();
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

/// The content of a POST.
fn content<'a>(
    context: &Context,
    loaded: &'a Loaded<'_>,
    webhook: &'a Webhook,
    sending: &Sending,
) -> Attempt<'a> {
    let Loaded { delivery, series, .. } = *loaded;
    let by_plan = sending.by_plan;
    // A first attempt that the plan allowed was checked at no later revision.
    let series = if by_plan { RetrySeries { revision: 0, ..series } } else { series };
    let attempt = Attempt {
        due: delivery.due,
        webhook,
        by_plan,
        series,
        event_ids: Vec::new(),
        notifications: Vec::new(),
        traceparent: None,
        detail: None,
    };
    match &loaded.content {
        Content::Inline { group, to } => Attempt {
            event_ids: group.event_ids.iter().map(String::as_str).collect(),
            notifications: group.notifications_for(to),
            traceparent: group.traceparent.as_deref(),
            ..attempt
        },
        Content::Ledger(history) => {
            let detail = left_out(history, webhook, &sending.left_out)
                .map(|detail| after_wait(context, loaded, detail));
            context.config.metrics.partial(detail.is_some());
            let events = history.events.iter().enumerate();
            let is_sent = |(index, _): &(usize, _)| !sending.left_out.contains(index);
            let events: Vec<&PlannedEvent> =
                events.filter(is_sent).map(|(_, event)| event).collect();
            Attempt {
                event_ids: events.iter().map(|event| event.event_id.as_str()).collect(),
                notifications: events.iter().filter_map(|it| it.notification.as_deref()).collect(),
                traceparent: events.first().and_then(|event| event.traceparent.as_deref()),
                detail,
                ..attempt
            }
        }
    }
}

/// The reason why some of a delivery's events are left out; `None` if all are sent.
fn left_out(history: &DeliveryHistory, webhook: &Webhook, left_out: &[usize]) -> Option<String> {
    let subject = |index: &usize| history.events.get(*index).map(|event| event.subject.as_str());
    let subjects: Vec<&str> = left_out.iter().filter_map(subject).collect();
    let why = DropReason::AccessRevoked;
    let why = || why.sentence(webhook.owner.as_str(), &subjects, history.revision);
    (!subjects.is_empty()).then(|| format!("{} events left out: {}", subjects.len(), why()))
}
