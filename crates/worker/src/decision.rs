//! The decision about a delivery whose attempt is due, from its claim, its history in the ledger, the
//! state of its webhook, and the present directory.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::filter::is_delete;
use fanfare_core::job::Due;
use fanfare_core::outcome::{DeadReason, DropReason, State, plan_holds};
use fanfare_core::resource::Resource;
use fanfare_core::suspect::Suspicion;
use fanfare_core::webhook::Webhook;
use fanfare_store::access::Question;
use fanfare_store::attempts::{DeliveryHistory, PlannedEvent};
use fanfare_store::claims::Claim;
use fanfare_store::directory::UserStatus;

use crate::context::Context;
use crate::due_delivery::DueDelivery;
use crate::error::WorkerError;
use crate::series::RetrySeries;
use crate::webhook_cache::Found;

/// How much later than its decision a row may be dated. The order of two times that are nearer than
/// this is not certain.
const CLOCKS: Duration = Duration::from_secs(30);

/// What to do with a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Attempt it with these of its events.
    Attempt {
        events: Vec<usize>,
        /// The plan alone decides: access was not checked again.
        by_plan: bool,
        /// It is to be a solo attempt.
        solo: bool,
    },
    /// End it with this reason.
    Drop(DropReason),
    /// Defer it, because another worker has the claim, or had it when it died.
    Contended,
    /// Defer it for a moment, because the worker that has the claim is probably dead.
    HolderGone,
    /// Defer it, because its time has not come: the wait is longer than the ladder, or the broker
    /// shortened it.
    NotYetDue,
    /// Defer it, because its webhook can't be read now.
    Unreadable,
    /// Defer it, because the directory can't decide about it now.
    DirectoryHeld,
    /// Give it up, because its workers ended each time, or it was deferred for too long.
    GiveUp(DeadReason),
    /// Make it a dead letter, because the database does not know it.
    Lost,
    /// Publish the follow-up of its last row again, which may have been lost. The attempt was made.
    RepublishFollowUp,
    /// Do nothing: the attempt was made.
    Superseded,
    /// Do nothing: the job is not for the next sequence number, although the attempt was not made.
    OutOfSequence,
}

/// The facts of a decision, except for what the owner may read.
struct Facts<'a> {
    claim: Claim,
    history: &'a DeliveryHistory,
    webhook: Option<&'a Webhook>,
    /// The webhook exists and can't be read.
    unreadable: bool,
    /// `None` when the directory does not know the owner.
    owner: Option<UserStatus>,
    now: DateTime<Utc>,
    deadline: Duration,
}

/// What to do with a delivery if its owner may read its resources.
fn decision(delivery: DueDelivery, facts: &Facts<'_>) -> Decision {
    let Facts { history, now, .. } = *facts;
    let suspicion = match facts.claim {
        Claim::Past if delivery.redelivered => return Decision::RepublishFollowUp,
        Claim::Past => return Decision::Superseded,
        Claim::HeldElsewhere => return Decision::Contended,
        Claim::HolderGone => return Decision::HolderGone,
        Claim::Ours(unrecorded) => unrecorded.suspicion(),
    };
    if history.events.is_empty() {
        return Decision::Lost;
    }
    if !is_next(delivery.due, history) {
        return Decision::OutOfSequence;
    }
    if time_left(history, now).is_some() {
        return Decision::NotYetDue;
    }
    if suspicion == Suspicion::Poison {
        return Decision::GiveUp(DeadReason::Poison);
    }
    if expired(history, now, facts.deadline) {
        return Decision::GiveUp(DeadReason::Expired);
    }
    let by_plan = is_by_plan(history, now);
    match (facts.webhook, facts.owner) {
        (None, _) if facts.unreadable => Decision::Unreadable,
        (None, _) => Decision::Drop(DropReason::WebhookDeleted),
        (Some(webhook), _) if webhook.paused => Decision::Drop(DropReason::WebhookPaused),
        // The refused document may have revoked this access.
        (Some(_), _) if history.held && !by_plan => Decision::DirectoryHeld,
        (Some(_), Some(UserStatus::Disabled)) if !by_plan => {
            Decision::Drop(DropReason::OwnerDisabled)
        }
        (Some(_), Some(UserStatus::Deleted) | None) if !by_plan => {
            Decision::Drop(DropReason::OwnerDeleted)
        }
        (Some(_), _) => Decision::Attempt {
            events: (0..history.events.len()).collect(),
            by_plan,
            solo: suspicion == Suspicion::Alone,
        },
    }
}

/// What to do with deliveries, in their order.
pub(crate) async fn decisions(
    context: &Context,
    deliveries: &[DueDelivery],
    claims: &[Claim],
    histories: &[DeliveryHistory],
    found: &Found,
) -> Result<Vec<Decision>, WorkerError> {
    let keys: Vec<&str> = found.webhooks.values().map(|webhook| webhook.owner.key()).collect();
    let store = &context.config.store;
    let users = context.retry_until_available(|| store.user_status(&keys)).await?;
    let (mut decisions, mut questions, mut checked) = (Vec::new(), Vec::new(), Vec::new());
    for ((delivery, claim), history) in deliveries.iter().zip(claims).zip(histories) {
        let webhook = found.webhooks.get(&delivery.due.webhook).map(AsRef::as_ref);
        let facts = Facts {
            claim: *claim,
            history,
            webhook,
            unreadable: found.unreadable.contains(&delivery.due.webhook),
            owner: webhook.and_then(|webhook| users.get(webhook.owner.key()).copied()),
            now: context.now(),
            deadline: context.config.policy.deadline,
        };
        let decision = decision(*delivery, &facts);
        if let (Decision::Attempt { by_plan: false, .. }, Some(webhook)) = (&decision, webhook) {
            let open = questions_of(history, webhook);
            checked.extend(open.iter().map(|(event, _)| (decisions.len(), *event)));
            questions.extend(open.into_iter().map(|(_, question)| question));
        }
        decisions.push(decision);
    }
    if questions.is_empty() {
        return Ok(decisions);
    }
    let resources = questions.iter().map(|(key, resource)| Question {
        user_key: key,
        scopes: resource.read_scopes().into_iter().map(|(s, t)| (s.name(), t)).collect(),
    });
    let checks: Vec<Question<'_>> = resources.collect();
    let may = context.retry_until_available(|| store.may_read(&checks)).await?;
    for ((decision, event), may) in checked.into_iter().zip(may) {
        if !may && let Some(Decision::Attempt { events, .. }) = decisions.get_mut(decision) {
            events.retain(|kept| *kept != event);
        }
    }
    for decision in &mut decisions {
        if matches!(decision, Decision::Attempt { events, .. } if events.is_empty()) {
            *decision = Decision::Drop(DropReason::AccessRevoked);
        }
    }
    Ok(decisions)
}

/// Whether it is a first attempt about which the plan still decides, even if it was deferred.
fn is_by_plan(history: &DeliveryHistory, now: DateTime<Utc>) -> bool {
    let planned = history.events.first().map(|event| event.received_at);
    history.last.is_none() && planned.is_some_and(|at| plan_holds(at, now))
}

/// Whether the job is for the next row.
fn is_next(due: Due, history: &DeliveryHistory) -> bool {
    let open = |state: State| !state.is_final();
    match &history.last {
        None => due.entry == 1,
        Some(last) => last.entry + 1 == due.entry && open(last.state),
    }
}

/// Whether a delivery that was deferred many times is past its deadline. A retry is never due so late,
/// even if the ladder lengthens its wait by an eighth.
fn expired(history: &DeliveryHistory, now: DateTime<Utc>, deadline: Duration) -> bool {
    let age = (now - RetrySeries::of(history).started_at).to_std().unwrap_or_default();
    !history.events.is_empty() && age > deadline + deadline / 8 + CLOCKS
}

/// The time that a retry still has to wait; `None` if its time has come.
pub(crate) fn time_left(history: &DeliveryHistory, now: DateTime<Utc>) -> Option<Duration> {
    let due = history.last.as_ref()?.next_attempt_at?;
    (due - now).to_std().ok().filter(|left| !left.is_zero())
}

/// The access checks that have to be made. An event that was decided at the present revision needs
/// none, and neither does the deletion of a resource, about which the plan has the last word.
fn questions_of<'a>(
    history: &'a DeliveryHistory,
    webhook: &'a Webhook,
) -> Vec<(usize, (&'a str, Resource))> {
    let open = |event: &PlannedEvent| !is_delete(&event.event_type) && !is_decided(history, event);
    let question = |(index, event): (usize, &'a PlannedEvent)| {
        let resource = Resource::parse(&event.subject).ok()?;
        Some((index, (webhook.owner.key(), resource)))
    };
    history
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| open(event))
        .filter_map(question)
        .collect()
}

/// Whether an event was decided for this delivery by the present state of the directory. A document
/// that came late changes the state of a revision. So decisions from before it, or by a clock that may
/// be behind, are made again.
fn is_decided(history: &DeliveryHistory, event: &PlannedEvent) -> bool {
    let last = history.last.as_ref().filter(|last| last.whole);
    let last = last.map(|last| (last.revision, last.at));
    let planned = (event.decided_revision, event.received_at);
    let after_late = |at: DateTime<Utc>| {
        history.late_at.is_none_or(|late| (at - late).to_std().is_ok_and(|since| since > CLOCKS))
    };
    [last, Some(planned)]
        .into_iter()
        .flatten()
        .any(|(revision, at)| revision == history.revision && after_late(at))
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
