//! What to do with a due job: decided from what was claimed, what the ledger says, how the webhook
//! stands, and what the directory says now.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::access::Resource;
use fanfare_core::filter::is_delete;
use fanfare_core::job::Due;
use fanfare_core::outcome::{DeadReason, DropReason, State, plan_holds};
use fanfare_core::suspect::Suspicion;
use fanfare_core::webhook::Webhook;
use fanfare_store::access::Question;
use fanfare_store::attempts::{PlannedEvent, Standing};
use fanfare_store::claims::Claim;
use fanfare_store::directory::UserStatus;

use crate::context::Context;
use crate::due::{Taken, chain};
use crate::error::WorkerError;
use crate::webhooks::Found;

/// How much later than its decision a row may be dated, and so how near two times may be of which
/// the order matters.
const CLOCKS: Duration = Duration::from_secs(30);

/// What to do with a due job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Attempt it with these of its events.
    Attempt {
        events: Vec<usize>,
        /// The plan alone decides: nothing was asked.
        by_plan: bool,
        /// While the worker does nothing else.
        alone: bool,
    },
    /// Not any more.
    Drop(DropReason),
    /// Somebody else is at it, or was when it died.
    Later,
    /// Its time has not come: the wait is longer than the ladder, or the broker shortened it.
    Early,
    /// Its webhook can't be read for now.
    Unreadable,
    /// The directory can't decide about it for now.
    DirectoryHeld,
    /// Its workers died of it, or it was deferred for too long.
    GiveUp(DeadReason),
    /// The database does not know it.
    Lost,
    /// The delivery has moved on; what followed from its row may have been lost.
    HandOnAgain,
    /// The delivery has moved on.
    Nothing,
    /// It is not for the entry that comes next, though nobody has made the attempt.
    NotNext,
}

/// What a verdict rests on, but for what the owner may read.
struct Facts<'a> {
    claim: Claim,
    standing: &'a Standing,
    webhook: Option<&'a Webhook>,
    /// The webhook is there, and can't be read.
    unreadable: bool,
    /// `None` when the directory does not know the owner.
    owner: Option<UserStatus>,
    now: DateTime<Utc>,
    deadline: Duration,
}

/// What to do with a due job, if its owner may read what it is about.
fn verdict(taken: Taken, facts: &Facts<'_>) -> Verdict {
    let Facts { standing, now, .. } = *facts;
    let suspicion = match facts.claim {
        Claim::Past if taken.redelivered => return Verdict::HandOnAgain,
        Claim::Past => return Verdict::Nothing,
        Claim::Taken => return Verdict::Later,
        Claim::Ours(unrecorded) => unrecorded.suspicion(),
    };
    if standing.events.is_empty() {
        return Verdict::Lost;
    }
    if !is_next(taken.due, standing) {
        return Verdict::NotNext;
    }
    if early(standing, now).is_some() {
        return Verdict::Early;
    }
    if suspicion == Suspicion::Poison {
        return Verdict::GiveUp(DeadReason::Poison);
    }
    if expired(standing, now, facts.deadline) {
        return Verdict::GiveUp(DeadReason::Expired);
    }
    let by_plan = is_by_plan(standing, now);
    match (facts.webhook, facts.owner) {
        (None, _) if facts.unreadable => Verdict::Unreadable,
        (None, _) => Verdict::Drop(DropReason::WebhookDeleted),
        (Some(webhook), _) if webhook.paused => Verdict::Drop(DropReason::WebhookPaused),
        // What was refused may have taken this access away.
        (Some(_), _) if standing.held && !by_plan => Verdict::DirectoryHeld,
        (Some(_), Some(UserStatus::Disabled)) if !by_plan => {
            Verdict::Drop(DropReason::OwnerDisabled)
        }
        (Some(_), Some(UserStatus::Deleted) | None) if !by_plan => {
            Verdict::Drop(DropReason::OwnerDeleted)
        }
        (Some(_), _) => Verdict::Attempt {
            events: (0..standing.events.len()).collect(),
            by_plan,
            alone: suspicion == Suspicion::Alone,
        },
    }
}

/// What to do with due jobs, in their order, given what was claimed and read.
pub(crate) async fn verdicts(
    context: &Context,
    taken: &[Taken],
    claims: &[Claim],
    standings: &[Standing],
    found: &Found,
) -> Result<Vec<Verdict>, WorkerError> {
    let keys: Vec<&str> = found.webhooks.values().map(|webhook| webhook.owner.key()).collect();
    let store = &context.config.store;
    let users = context.patiently(|| store.user_status(&keys)).await?;
    let (mut verdicts, mut questions, mut askers) = (Vec::new(), Vec::new(), Vec::new());
    for ((taken, claim), standing) in taken.iter().zip(claims).zip(standings) {
        let webhook = found.webhooks.get(&taken.due.webhook).map(AsRef::as_ref);
        let facts = Facts {
            claim: *claim,
            standing,
            webhook,
            unreadable: found.unreadable.contains(&taken.due.webhook),
            owner: webhook.and_then(|webhook| users.get(webhook.owner.key()).copied()),
            now: context.now(),
            deadline: context.config.policy.deadline,
        };
        let verdict = verdict(*taken, &facts);
        if let (Verdict::Attempt { by_plan: false, .. }, Some(webhook)) = (&verdict, webhook) {
            let open = questions_of(standing, webhook);
            askers.extend(open.iter().map(|(event, _)| (verdicts.len(), *event)));
            questions.extend(open.into_iter().map(|(_, question)| question));
        }
        verdicts.push(verdict);
    }
    if questions.is_empty() {
        return Ok(verdicts);
    }
    let resources = questions.iter().map(|(key, resource)| Question {
        user_key: key,
        scopes: resource.read_scopes().into_iter().map(|(s, t)| (s.name(), t)).collect(),
    });
    let asked: Vec<Question<'_>> = resources.collect();
    let may = context.patiently(|| store.may_read(&asked)).await?;
    for ((verdict, event), may) in askers.into_iter().zip(may) {
        if !may && let Some(Verdict::Attempt { events, .. }) = verdicts.get_mut(verdict) {
            events.retain(|kept| *kept != event);
        }
    }
    for verdict in &mut verdicts {
        if matches!(verdict, Verdict::Attempt { events, .. } if events.is_empty()) {
            *verdict = Verdict::Drop(DropReason::AccessRevoked);
        }
    }
    Ok(verdicts)
}

/// Whether it is a first attempt about which the plan still decides, whatever put it off.
fn is_by_plan(standing: &Standing, now: DateTime<Utc>) -> bool {
    let planned = standing.events.first().map(|event| event.received_at);
    standing.last.is_none() && planned.is_some_and(|at| plan_holds(at, now))
}

/// Whether the job is for the row that comes next.
fn is_next(due: Due, standing: &Standing) -> bool {
    let open = |state: State| !state.is_final();
    match &standing.last {
        None => due.entry == 1,
        Some(last) => last.entry + 1 == due.entry && open(last.state),
    }
}

/// Whether a delivery that was deferred over and over is past its deadline. A retry is never due so
/// late, even if the ladder lengthens its wait by an eighth.
fn expired(standing: &Standing, now: DateTime<Utc>, deadline: Duration) -> bool {
    let age = (now - chain(standing).since).to_std().unwrap_or_default();
    !standing.events.is_empty() && age > deadline + deadline / 8 + CLOCKS
}

/// How long a retry still has to wait, if its time has not come.
pub(crate) fn early(standing: &Standing, now: DateTime<Utc>) -> Option<Duration> {
    let due = standing.last.as_ref()?.next_attempt_at?;
    (due - now).to_std().ok().filter(|left| !left.is_zero())
}

/// The questions of access that are open: none for what was decided at this very revision, nor for
/// a resource that is gone, of which the plan was the last word.
fn questions_of<'a>(
    standing: &'a Standing,
    webhook: &'a Webhook,
) -> Vec<(usize, (&'a str, Resource))> {
    let open = |event: &PlannedEvent| !is_delete(&event.event_type) && !is_decided(standing, event);
    let question = |(index, event): (usize, &'a PlannedEvent)| {
        let resource = Resource::parse(&event.subject).ok()?;
        Some((index, (webhook.owner.key(), resource)))
    };
    standing
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| open(event))
        .filter_map(question)
        .collect()
}

/// Whether an event was decided for this delivery by what the directory says now. A document that
/// came late changes what a revision says, so what was decided before it, or by a clock that may be
/// behind, is decided again.
fn is_decided(standing: &Standing, event: &PlannedEvent) -> bool {
    let last = standing.last.as_ref().filter(|last| last.whole);
    let last = last.map(|last| (last.revision, last.at));
    let planned = (event.decided_revision, event.received_at);
    let after_late = |at: DateTime<Utc>| {
        standing.late_at.is_none_or(|late| (at - late).to_std().is_ok_and(|since| since > CLOCKS))
    };
    [last, Some(planned)]
        .into_iter()
        .flatten()
        .any(|(revision, at)| revision == standing.revision && after_late(at))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
