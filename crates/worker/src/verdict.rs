//! What to do with a due job: decided from what was claimed, what the ledger says, how the webhook
//! stands, and what the directory says now.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::access::Resource;
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

/// An attempt that is due so soon is not put off any more: delays are exact to about a second.
const SOON: Duration = Duration::from_secs(2);

/// What to do with a due job.
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
    /// Its time has not come: the wait is longer than the ladder.
    Early,
    /// Its webhook can't be read for now.
    Unreadable,
    /// Its workers died of it, or it was deferred for too long.
    GiveUp(DeadReason),
    /// The database does not know it.
    Lost,
    /// The delivery has moved on; what followed from its row may have been lost.
    HandOnAgain,
    /// The delivery has moved on.
    Nothing,
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
        let webhook = found.webhooks.get(&taken.due.webhook);
        let suspicion = match claim {
            Claim::Ours(unrecorded) => unrecorded.suspicion(),
            Claim::Taken | Claim::Past => Suspicion::None,
        };
        let verdict = match (claim, webhook) {
            (Claim::Past, _) if taken.redelivered => Verdict::HandOnAgain,
            (Claim::Past, _) => Verdict::Nothing,
            (Claim::Taken, _) => Verdict::Later,
            (Claim::Ours(_), _) if standing.events.is_empty() => Verdict::Lost,
            (Claim::Ours(_), _) if !is_next(taken.due, standing) => Verdict::Nothing,
            (Claim::Ours(_), _) if early(context, standing).is_some() => Verdict::Early,
            (Claim::Ours(_), _) if suspicion == Suspicion::Poison => {
                Verdict::GiveUp(DeadReason::Poison)
            }
            (Claim::Ours(_), _) if expired(context, standing) => {
                Verdict::GiveUp(DeadReason::Expired)
            }
            (Claim::Ours(_), None) if found.unreadable.contains(&taken.due.webhook) => {
                Verdict::Unreadable
            }
            (Claim::Ours(_), None) => Verdict::Drop(DropReason::WebhookDeleted),
            (Claim::Ours(_), Some(webhook)) if webhook.paused => {
                Verdict::Drop(DropReason::WebhookPaused)
            }
            (Claim::Ours(_), Some(webhook)) => {
                let by_plan = is_by_plan(context, standing);
                let attempt = Verdict::Attempt {
                    events: (0..standing.events.len()).collect(),
                    by_plan,
                    alone: suspicion == Suspicion::Alone,
                };
                match users.get(webhook.owner.key()) {
                    _ if by_plan => attempt,
                    Some(UserStatus::Enabled) => {
                        let open = questions_of(standing, webhook);
                        askers.extend(open.iter().map(|(event, _)| (verdicts.len(), *event)));
                        questions.extend(open.into_iter().map(|(_, question)| question));
                        attempt
                    }
                    Some(UserStatus::Disabled) => Verdict::Drop(DropReason::OwnerDisabled),
                    Some(UserStatus::Deleted) | None => Verdict::Drop(DropReason::OwnerDeleted),
                }
            }
        };
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
fn is_by_plan(context: &Context, standing: &Standing) -> bool {
    let planned = standing.events.first().map(|event| event.received_at);
    standing.last.is_none() && planned.is_some_and(|at| plan_holds(at, context.now()))
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
fn expired(context: &Context, standing: &Standing) -> bool {
    let deadline = context.config.policy.deadline;
    let age = (context.now() - chain(standing).since).to_std().unwrap_or_default();
    !standing.events.is_empty() && age > deadline + deadline / 8 + CLOCKS
}

/// How long a retry still has to wait, if that is worth a delay.
pub(crate) fn early(context: &Context, standing: &Standing) -> Option<Duration> {
    let due = standing.last.as_ref()?.next_attempt_at?;
    (due - context.now()).to_std().ok().filter(|left| *left > SOON)
}

/// The questions of access that are open: none for what was decided at this very revision, nor for
/// a resource that is gone, of which the plan was the last word.
fn questions_of<'a>(
    standing: &'a Standing,
    webhook: &'a Webhook,
) -> Vec<(usize, (&'a str, Resource))> {
    let open = |event: &PlannedEvent| {
        let is_delete = event.event_type.to_ascii_lowercase().ends_with(".delete");
        !is_delete && !is_decided(standing, event)
    };
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
