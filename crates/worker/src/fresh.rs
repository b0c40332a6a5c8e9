//! First attempts, straight from what the router sent.

use std::time::Instant;

use futures_util::future::join_all;

use fanfare_core::ids::WebhookId;
use fanfare_core::job::{Addressee, Due, Unit};
use fanfare_core::outcome::{DropReason, plan_holds};
use fanfare_core::webhook::Webhook;

use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::{Chain, Ready, attempt, drop_delivery};
use crate::context::{Context, UnderWay};
use crate::due::{Taken, attempt_each};
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::gate::Deferred;
use crate::hand_on::HandOn;
use crate::hold::{Hold, JobHold};
use crate::pacer::Turn;

/// Attempts all deliveries of a job side by side, records them and hands on what follows. Each gives
/// its share of `permit` back when it is over or slow, and its hold on the job, so that a slow one
/// holds no more than its own.
pub(crate) async fn attempt_all(
    context: &Context,
    hand_on: &HandOn,
    units: &[Unit],
    mut permit: OwnedSemaphorePermit,
    job: JobHold,
) {
    let now = context.now();
    if !units.iter().all(|unit| plan_holds(unit.received_at, now)) {
        // They waited too long in the queue: whether they may still be sent is asked as for retries.
        let first = |due| (Taken::first(due), job.clone());
        let taken = dues(units).into_iter().map(first).collect();
        drop(job);
        return Box::pin(attempt_each(context, hand_on, taken, units, permit)).await;
    }
    // Noted before anything is waited for: what is claimed for a lost session must be all of it.
    let _under_way: Vec<UnderWay<'_>> =
        dues(units).into_iter().map(|due| context.note(due)).collect();
    let from = Instant::now();
    let ids: Vec<WebhookId> = dues(units).iter().map(|due| due.webhook).collect();
    let found = match context.patiently(|| context.webhooks.get(&ids)).await {
        Ok(found) => found,
        Err(error) => return job.fail(error),
    };
    let mut attempts = Vec::with_capacity(ids.len());
    for unit in units {
        for to in &unit.deliveries {
            let mut hold = Hold::new(job.clone(), permit.split(1));
            let webhook = found.webhooks.get(&to.webhook).map(AsRef::as_ref);
            let unreadable = found.unreadable.contains(&to.webhook);
            let addressed = Addressed { unit, to, webhook, from };
            attempts.push(async move {
                let follow_up = if unreadable {
                    let due = Due { batch: unit.batch, webhook: to.webhook, entry: 1 };
                    Ok(Some(FollowUp::deferred(context, due, Deferred::UNREADABLE)))
                } else {
                    one(context, addressed, &mut hold).await
                };
                hold.free_slot();
                let result = match follow_up {
                    Ok(follow_up) => hand_on.hand_on(follow_up).await,
                    Err(error) => Err(error),
                };
                hold.end(result);
            });
        }
    }
    // From here on each holds its own part.
    drop((permit, job));
    join_all(attempts).await;
}

/// The deliveries of a job.
pub(crate) fn dues(units: &[Unit]) -> Vec<Due> {
    let due = |unit: &Unit, webhook: WebhookId| Due { batch: unit.batch, webhook, entry: 1 };
    units.iter().flat_map(|unit| unit.deliveries.iter().map(|to| due(unit, to.webhook))).collect()
}

/// A delivery of a job.
#[derive(Clone, Copy)]
struct Addressed<'a> {
    unit: &'a Unit,
    to: &'a Addressee,
    webhook: Option<&'a Webhook>,
    /// Since when it is this worker's.
    from: Instant,
}

async fn one(
    context: &Context,
    addressed: Addressed<'_>,
    hold: &mut Hold,
) -> Result<Option<FollowUp>, WorkerError> {
    let Addressed { unit, to, webhook, from } = addressed;
    let due = Due { batch: unit.batch, webhook: to.webhook, entry: 1 };
    let chain = Chain { attempts: 0, tries: 0, since: unit.received_at, revision: 0 };
    let webhook = match webhook {
        None => {
            return Box::pin(drop_for(context, due, chain, DropReason::WebhookDeleted)).await;
        }
        Some(webhook) if webhook.paused => {
            return Box::pin(drop_for(context, due, chain, DropReason::WebhookPaused)).await;
        }
        Some(webhook) => webhook,
    };
    let defer = |deferred| Ok(Some(FollowUp::deferred(context, due, deferred)));
    let slot = match context.pacer.turn(context, webhook, false).await? {
        Turn::Free => None,
        Turn::Soon(waiting) => Some(waiting.wait().await),
        Turn::Defer(deferred) => {
            let pacer = &context.pacer;
            match pacer.but_for_deadline(context, webhook.id, deferred, chain.since) {
                Some(deferred) => return defer(deferred),
                None => None,
            }
        }
    };
    let pass = match context.gate.enter(webhook, false).await {
        Ok(pass) => pass,
        Err(deferred) => return defer(deferred),
    };
    let ready = Ready {
        due,
        webhook,
        pass,
        slot,
        room: None,
        from,
        held: None,
        alone: None,
        is_alone: false,
        hold,
        by_plan: true,
        chain,
        event_ids: unit.event_ids.iter().map(String::as_str).collect(),
        notifications: notifications(unit, to),
        traceparent: unit.traceparent.as_deref(),
        detail: None,
    };
    attempt(context, ready).await
}

/// Drops for a reason that is the webhook's alone.
async fn drop_for(
    context: &Context,
    due: Due,
    chain: Chain,
    reason: DropReason,
) -> Result<Option<FollowUp>, WorkerError> {
    drop_delivery(context, due, chain, reason, reason.sentence("", &[], 0)).await.map(|()| None)
}

/// The notifications of a unit that a webhook gets.
pub(crate) fn notifications<'a>(unit: &'a Unit, to: &Addressee) -> Vec<&'a str> {
    let all: Vec<&str> = unit.notifications.iter().map(|raw| raw.get()).collect();
    match &to.only {
        None => all,
        Some(only) => only.iter().filter_map(|index| all.get(*index).copied()).collect(),
    }
}
