//! Every attempt that is not a first one handed out for the first time.
//!
//! Asked in this order: is the delivery still where the job says (the ledger); is nobody else at it
//! (a claim); does the webhook still want it, and may its owner still have it (the directory, unless
//! it has not changed since this was decided last).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::Delay;
use fanfare_core::access::Resource;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::Due;
use fanfare_core::outcome::{DropReason, State};
use fanfare_core::webhook::Webhook;
use fanfare_store::attempts::{Claim, PlannedEvent, Question, Standing};
use fanfare_store::directory::UserStatus;
use futures_util::future::join_all;

use crate::attempt::{Chain, Ready, attempt, drop_delivery, give_up};
use crate::context::Context;
use crate::error::WorkerError;
use crate::follow_up::{DeadLetter, FollowUp};

/// A job that came back so often has ended that many workers, or sessions.
const POISON: u64 = 20;

/// Clocks of machines that run together differ by no more than this.
const CLOCKS: Duration = Duration::from_secs(30);

/// A due job with what the broker says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) due: Due,
    pub(crate) redelivered: bool,
    pub(crate) delivery_count: u64,
}

type Webhooks = HashMap<WebhookId, Arc<Webhook>>;

/// Sends first attempts on a way round, because they may be done or under way elsewhere: those of
/// which nothing is recorded come back as due jobs after `wait`, when this can be known.
pub(crate) async fn defer(
    context: &Context,
    dues: &[Due],
    delivery_count: u64,
    wait: Duration,
) -> Result<Vec<FollowUp>, WorkerError> {
    let (standings, webhooks) = look(context, dues).await?;
    let mut follow_ups = Vec::new();
    for (due, standing) in dues.iter().zip(&standings) {
        let webhook = webhooks.get(&due.webhook).map(AsRef::as_ref);
        if standing.last.is_some() {
            follow_ups.extend(FollowUp::again(context, *due, standing, webhook));
        } else if delivery_count >= POISON {
            follow_ups.extend(poison(context, *due, standing, webhook).await?);
        } else {
            follow_ups.push(FollowUp::Retry { due: *due, delay: Delay::at_least(wait) });
        }
    }
    Ok(follow_ups)
}

/// Attempts due jobs side by side; the answers are in their order, so that each job can be settled
/// on its own.
pub(crate) async fn attempt_each(
    context: &Context,
    taken: &[Taken],
) -> Result<Vec<Result<Option<FollowUp>, WorkerError>>, WorkerError> {
    let dues: Vec<Due> = taken.iter().map(|taken| taken.due).collect();
    let store = &context.config.store;
    let lease = context.lease();
    let claims = context.patiently(|| store.attempts_claim(&dues, lease)).await?;
    // Read after the claim: what was recorded just before it is seen here.
    let (standings, webhooks) = look(context, &dues).await?;
    let verdicts = verdicts(context, taken, &claims, &standings, &webhooks).await?;
    let mut each = Vec::with_capacity(taken.len());
    for ((taken, standing), verdict) in taken.iter().zip(&standings).zip(verdicts) {
        let webhook = webhooks.get(&taken.due.webhook).map(AsRef::as_ref);
        each.push(conclude(context, taken.due, standing, webhook, verdict));
    }
    Ok(join_all(each).await)
}

/// What to do with a due job.
enum Verdict {
    /// Attempt it with these of its events.
    Attempt(Vec<usize>),
    /// Not any more.
    Drop(DropReason),
    /// Somebody else is at it, or was when it died.
    Later,
    /// Its time has not come: the wait is longer than the ladder.
    Early,
    /// Its workers died of it.
    Poison,
    /// The delivery has moved on; what followed from its row may have been lost.
    HandOnAgain,
    /// The delivery has moved on.
    Nothing,
}

async fn verdicts(
    context: &Context,
    taken: &[Taken],
    claims: &[Claim],
    standings: &[Standing],
    webhooks: &Webhooks,
) -> Result<Vec<Verdict>, WorkerError> {
    let keys: Vec<&str> = webhooks.values().map(|webhook| webhook.owner.key()).collect();
    let store = &context.config.store;
    let users = context.patiently(|| store.user_status(&keys)).await?;
    let (mut verdicts, mut questions, mut askers) = (Vec::new(), Vec::new(), Vec::new());
    for ((taken, claim), standing) in taken.iter().zip(claims).zip(standings) {
        let webhook = webhooks.get(&taken.due.webhook);
        let verdict = match (claim, webhook) {
            (Claim::Past, _) if taken.redelivered => Verdict::HandOnAgain,
            (Claim::Past, _) => Verdict::Nothing,
            (Claim::Taken, _) => Verdict::Later,
            (Claim::Ours, _) if !is_next(taken.due, standing) => Verdict::Nothing,
            (Claim::Ours, _) if early(context, standing).is_some() => Verdict::Early,
            (Claim::Ours, _) if taken.delivery_count >= POISON => Verdict::Poison,
            (Claim::Ours, None) => Verdict::Drop(DropReason::WebhookDeleted),
            (Claim::Ours, Some(webhook)) if webhook.paused => {
                Verdict::Drop(DropReason::WebhookPaused)
            }
            (Claim::Ours, Some(webhook)) => match users.get(webhook.owner.key()) {
                Some(UserStatus::Enabled) => {
                    let open = questions_of(standing, webhook);
                    askers.extend(open.iter().map(|(event, _)| (verdicts.len(), *event)));
                    questions.extend(open.into_iter().map(|(_, question)| question));
                    Verdict::Attempt((0..standing.events.len()).collect())
                }
                Some(UserStatus::Disabled) => Verdict::Drop(DropReason::OwnerDisabled),
                Some(UserStatus::Deleted) | None => Verdict::Drop(DropReason::OwnerDeleted),
            },
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
        if !may && let Some(Verdict::Attempt(events)) = verdicts.get_mut(verdict) {
            events.retain(|kept| *kept != event);
        }
    }
    for verdict in &mut verdicts {
        if matches!(verdict, Verdict::Attempt(events) if events.is_empty()) {
            *verdict = Verdict::Drop(DropReason::AccessRevoked);
        }
    }
    Ok(verdicts)
}

/// Whether the job is for the row that comes next.
fn is_next(due: Due, standing: &Standing) -> bool {
    let open = |state: State| !state.is_final();
    match &standing.last {
        None => due.entry == 1,
        Some(last) => last.entry + 1 == due.entry && open(last.state),
    }
}

/// How long a retry still has to wait, if that is more than the clocks of two machines may differ.
fn early(context: &Context, standing: &Standing) -> Option<Duration> {
    let due = standing.last.as_ref()?.next_attempt_at?;
    (due - context.now()).to_std().ok().filter(|left| *left > CLOCKS)
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
    let last = standing.last.as_ref().map(|last| (last.revision, last.at));
    let planned = (event.decided_revision, event.received_at);
    let after_late = |at: DateTime<Utc>| {
        standing.late_at.is_none_or(|late| (at - late).to_std().is_ok_and(|since| since > CLOCKS))
    };
    [last, Some(planned)]
        .into_iter()
        .flatten()
        .any(|(revision, at)| revision == standing.revision && after_late(at))
}

async fn conclude(
    context: &Context,
    due: Due,
    standing: &Standing,
    webhook: Option<&Webhook>,
    verdict: Verdict,
) -> Result<Option<FollowUp>, WorkerError> {
    match (verdict, webhook) {
        (Verdict::Attempt(events), Some(webhook)) => {
            let detail = left_out(standing, webhook, &events);
            let events: Vec<&PlannedEvent> =
                events.into_iter().filter_map(|index| standing.events.get(index)).collect();
            let ready = Ready {
                due,
                webhook,
                chain: chain(standing),
                event_ids: events.iter().map(|event| event.event_id.as_str()).collect(),
                notifications: events.iter().map(|event| event.notification.as_str()).collect(),
                traceparent: events.first().and_then(|event| event.traceparent.as_deref()),
                detail,
            };
            attempt(context, ready).await
        }
        (Verdict::Drop(reason), webhook) => {
            let owner = webhook.map_or("", |webhook| webhook.owner.as_str());
            let subjects: Vec<&str> =
                standing.events.iter().map(|event| event.subject.as_str()).collect();
            let detail = reason.sentence(owner, &subjects, standing.revision);
            drop_delivery(context, due, chain(standing), reason, detail).await.map(|()| None)
        }
        (Verdict::Later, _) => {
            Ok(Some(FollowUp::Retry { due, delay: Delay::at_least(context.lease()) }))
        }
        (Verdict::Early, _) => {
            let delay = Delay::at_least(early(context, standing).unwrap_or_default());
            Ok(Some(FollowUp::Retry { due, delay }))
        }
        (Verdict::Poison, webhook) => poison(context, due, standing, webhook).await,
        (Verdict::HandOnAgain, webhook) => Ok(FollowUp::again(context, due, standing, webhook)),
        (Verdict::Nothing | Verdict::Attempt(_), _) => Ok(None),
    }
}

/// Which of a delivery's events are not sent, though others are, and why.
fn left_out(standing: &Standing, webhook: &Webhook, sent: &[usize]) -> Option<String> {
    let out = |(index, event): (usize, &'_ PlannedEvent)| {
        (!sent.contains(&index)).then(|| event.subject.clone())
    };
    let subjects: Vec<String> = standing.events.iter().enumerate().filter_map(out).collect();
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let why = DropReason::AccessRevoked;
    let why = || why.sentence(webhook.owner.as_str(), &subjects, standing.revision);
    (!subjects.is_empty()).then(|| format!("{} events left out: {}", subjects.len(), why()))
}

async fn poison(
    context: &Context,
    due: Due,
    standing: &Standing,
    webhook: Option<&Webhook>,
) -> Result<Option<FollowUp>, WorkerError> {
    give_up(context, due, chain(standing)).await?;
    let (standings, _) = look(context, &[due]).await?;
    let dead = standings.first().and_then(|standing| {
        let last = standing.last.as_ref()?;
        Some(FollowUp::Dead(Box::new(DeadLetter::of(due, last, standing, webhook))))
    });
    Ok(dead)
}

fn chain(standing: &Standing) -> Chain {
    let received_at = standing.events.first().map(|event| event.received_at);
    match &standing.last {
        Some(last) => Chain {
            attempts: last.attempt,
            tries: last.tries,
            since: last.since,
            revision: standing.revision,
        },
        None => Chain {
            attempts: 0,
            tries: 0,
            since: received_at.unwrap_or_default(),
            revision: standing.revision,
        },
    }
}

async fn look(context: &Context, dues: &[Due]) -> Result<(Vec<Standing>, Webhooks), WorkerError> {
    let store = &context.config.store;
    let standings = context.patiently(|| store.attempts_standing(dues)).await?;
    let ids: Vec<WebhookId> = dues.iter().map(|due| due.webhook).collect();
    let webhooks = context.patiently(|| context.webhooks.get(&ids)).await?;
    Ok((standings, webhooks))
}
