//! Every attempt that is not a first one handed out for the first time.
//!
//! Asked in this order: is the delivery still where the job says (the ledger); is nobody else at it
//! (a claim); does the webhook still want it, and may its owner still have it (the directory, unless
//! it has not changed since this was decided last).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_broker::Delay;
use fanfare_core::access::Resource;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::Due;
use fanfare_core::outcome::{DeadReason, DropReason, State};
use fanfare_core::webhook::Webhook;
use fanfare_metrics::Deferral;
use fanfare_store::access::Question;
use fanfare_store::attempts::{Claim, PlannedEvent, Standing};
use fanfare_store::directory::UserStatus;
use futures_util::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::{self, Chain, Ready, attempt, drop_delivery};
use crate::context::Context;
use crate::error::WorkerError;
use crate::follow_up::{DeadLetter, FollowUp};
use crate::gate::{Deferred, Pass};

/// A job that came back so often has ended that many workers, or sessions.
const POISON: u64 = 20;

/// A wait as short as the ladder has.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Notifications of so many bytes are read for many deliveries at a time, larger ones alone.
const INLINE: usize = 16 * 1024;

/// Clocks of machines that run together differ by no more than this.
const CLOCKS: Duration = Duration::from_secs(30);

/// A due job with what the broker says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) due: Due,
    /// Whether it is a first attempt that the plan decided about.
    pub(crate) first: bool,
    pub(crate) redelivered: bool,
    pub(crate) delivery_count: u64,
}

impl Taken {
    /// The same job once more after a while.
    fn again(self, wait: Duration) -> FollowUp {
        let (due, delay) = (self.due, Delay::at_least(wait));
        if self.first { FollowUp::First { due, delay } } else { FollowUp::Retry { due, delay } }
    }
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
            let standing = whole(context, *due).await?;
            follow_ups.extend(FollowUp::again(context, *due, &standing, webhook));
        } else if delivery_count >= POISON {
            let reason = DeadReason::Poison;
            follow_ups.extend(give_up(context, *due, standing, webhook, reason).await?);
        } else {
            context.config.metrics.deferred(Deferral::Uncertain);
            follow_ups.push(FollowUp::First { due: *due, delay: Delay::at_least(wait) });
        }
    }
    Ok(follow_ups)
}

/// Attempts due jobs side by side; the answers are in their order, so that each job can be settled
/// on its own. Each gives its share of `permit` back when it is over.
pub(crate) async fn attempt_each(
    context: &Context,
    taken: &[Taken],
    mut permit: OwnedSemaphorePermit,
) -> Result<Vec<Result<Option<FollowUp>, WorkerError>>, WorkerError> {
    let mut entries = enter(context, taken).await?;
    let deferred = still_owed(context, taken, &entries).await?;
    let (going, dues): (Vec<Taken>, Vec<Due>) = taken
        .iter()
        .zip(&deferred)
        .filter_map(|(taken, deferred)| deferred.is_none().then_some((*taken, taken.due)))
        .unzip();
    if dues.is_empty() {
        let again = |(taken, deferred): (&Taken, Option<Deferred>)| {
            Ok(deferred.map(|it| FollowUp::deferred(context, taken.due, it)))
        };
        return Ok(taken.iter().zip(deferred).map(again).collect());
    }
    let store = &context.config.store;
    let lease = context.lease();
    let claimed = Instant::now();
    let claims = context.patiently(|| store.attempts_claim(&dues, lease)).await?;
    // Read after the claim: what was recorded just before it is seen here.
    let (standings, webhooks) = look(context, &dues).await?;
    let verdicts = verdicts(context, &going, &claims, &standings, &webhooks).await?;
    let mut gone = standings.iter().zip(verdicts);
    let mut each = Vec::with_capacity(taken.len());
    for ((taken, deferred), entry) in taken.iter().zip(deferred).zip(&mut entries) {
        let share = permit.split(1);
        let webhook = webhooks.get(&taken.due.webhook).map(AsRef::as_ref);
        let next = if deferred.is_none() { gone.next() } else { None };
        let entry = std::mem::replace(entry, Entry::NoNeed);
        each.push(async move {
            let _share = share;
            match (deferred, next) {
                (None, Some((standing, verdict))) => {
                    conclude(context, *taken, standing, webhook, verdict, entry, claimed).await
                }
                (deferred, _) => Ok(deferred.map(|it| FollowUp::deferred(context, taken.due, it))),
            }
        });
    }
    drop(permit);
    Ok(join_all(each).await)
}

/// How the gate answered for a delivery.
enum Entry {
    /// It may go.
    Pass(Pass),
    /// It may not go now.
    Deferred(Deferred),
    /// It was not asked: the webhook gets nothing.
    NoNeed,
}

async fn enter(context: &Context, taken: &[Taken]) -> Result<Vec<Entry>, WorkerError> {
    let ids: Vec<WebhookId> = taken.iter().map(|taken| taken.due.webhook).collect();
    let webhooks = context.patiently(|| context.webhooks.get(&ids)).await?;
    let enter = async |id: &WebhookId| match webhooks.get(id).filter(|webhook| !webhook.paused) {
        None => Entry::NoNeed,
        Some(webhook) => match context.gate.enter(webhook, true).await {
            Ok(pass) => Entry::Pass(pass),
            Err(deferred) => Entry::Deferred(deferred),
        },
    };
    Ok(join_all(ids.iter().map(enter)).await)
}

/// Which deliveries go round once more: those that were deferred, unless they are not owed any
/// more, which is then recorded as for any other.
async fn still_owed(
    context: &Context,
    taken: &[Taken],
    entries: &[Entry],
) -> Result<Vec<Option<Deferred>>, WorkerError> {
    let of = |(taken, entry): (&Taken, &Entry)| match entry {
        Entry::Deferred(deferred) => Some((*taken, *deferred)),
        Entry::Pass(_) | Entry::NoNeed => None,
    };
    let deferred: Vec<Option<(Taken, Deferred)>> = taken.iter().zip(entries).map(of).collect();
    let (asked, dues): (Vec<Taken>, Vec<Due>) =
        deferred.iter().flatten().map(|(taken, _)| (*taken, taken.due)).unzip();
    if asked.is_empty() {
        return Ok(taken.iter().map(|_| None).collect());
    }
    let (standings, webhooks) = look(context, &dues).await?;
    let claims = vec![Claim::Ours; asked.len()];
    let verdicts = verdicts(context, &asked, &claims, &standings, &webhooks).await?;
    let mut verdicts = verdicts.into_iter();
    let again = |deferred: Option<(Taken, Deferred)>| {
        let (_, deferred) = deferred?;
        matches!(verdicts.next(), Some(Verdict::Attempt(_))).then_some(deferred)
    };
    Ok(deferred.into_iter().map(again).collect())
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
    /// Its workers died of it, or it was deferred for too long.
    GiveUp(DeadReason),
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
            (Claim::Ours, _) if taken.delivery_count >= POISON => {
                Verdict::GiveUp(DeadReason::Poison)
            }
            (Claim::Ours, _) if expired(context, standing) => Verdict::GiveUp(DeadReason::Expired),
            (Claim::Ours, None) => Verdict::Drop(DropReason::WebhookDeleted),
            (Claim::Ours, Some(webhook)) if webhook.paused => {
                Verdict::Drop(DropReason::WebhookPaused)
            }
            (Claim::Ours, Some(webhook)) => match users.get(webhook.owner.key()) {
                Some(UserStatus::Enabled) => {
                    let open = match taken.first && standing.last.is_none() {
                        true => Vec::new(),
                        false => questions_of(standing, webhook),
                    };
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

/// Whether a delivery that was deferred over and over is past its deadline. A retry is never due so
/// late, even if the ladder lengthens its wait by an eighth.
fn expired(context: &Context, standing: &Standing) -> bool {
    let deadline = context.config.policy.deadline;
    let age = (context.now() - chain(standing).since).to_std().unwrap_or_default();
    !standing.events.is_empty() && age > deadline + deadline / 8 + CLOCKS
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

async fn conclude(
    context: &Context,
    taken: Taken,
    standing: &Standing,
    webhook: Option<&Webhook>,
    verdict: Verdict,
    entry: Entry,
    claimed: Instant,
) -> Result<Option<FollowUp>, WorkerError> {
    let due = taken.due;
    match (verdict, webhook) {
        (Verdict::Attempt(events), Some(webhook)) => {
            let pass = match entry {
                Entry::Pass(pass) => pass,
                Entry::Deferred(deferred) => {
                    return Ok(Some(FollowUp::deferred(context, due, deferred)));
                }
                // It was resumed in between.
                Entry::NoNeed => {
                    return Ok(Some(taken.again(AT_ONCE)));
                }
            };
            let size = standing.events.iter().map(|event| event.size).sum();
            let Ok(room) = context.room_for(size).await else {
                return Ok(Some(taken.again(AT_ONCE)));
            };
            let read;
            let standing = if standing.events.iter().all(|event| event.notification.is_some()) {
                standing
            } else {
                read = whole(context, due).await?;
                &read
            };
            let detail = left_out(standing, webhook, &events);
            context.config.metrics.partial(detail.is_some());
            let events: Vec<&PlannedEvent> =
                events.into_iter().filter_map(|index| standing.events.get(index)).collect();
            let ready = Ready {
                due,
                webhook,
                pass,
                room,
                from: claimed,
                first: taken.first,
                chain: chain(standing),
                event_ids: events.iter().map(|event| event.event_id.as_str()).collect(),
                notifications: events.iter().filter_map(|it| it.notification.as_deref()).collect(),
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
            context.config.metrics.deferred(Deferral::Claimed);
            Ok(Some(taken.again(context.lease())))
        }
        (Verdict::Early, _) => {
            context.config.metrics.deferred(Deferral::Early);
            Ok(Some(taken.again(early(context, standing).unwrap_or_default())))
        }
        (Verdict::GiveUp(reason), webhook) => {
            self::give_up(context, due, standing, webhook, reason).await
        }
        (Verdict::HandOnAgain, webhook) => {
            Ok(FollowUp::again(context, due, &whole(context, due).await?, webhook))
        }
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

async fn give_up(
    context: &Context,
    due: Due,
    standing: &Standing,
    webhook: Option<&Webhook>,
    reason: DeadReason,
) -> Result<Option<FollowUp>, WorkerError> {
    attempt::give_up(context, due, chain(standing), reason).await?;
    let standing = whole(context, due).await?;
    let dead = standing.last.as_ref().map(|last| DeadLetter::of(due, last, &standing, webhook));
    Ok(dead.map(|letter| FollowUp::Dead(Box::new(letter))))
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

/// A delivery with its notifications, however large.
async fn whole(context: &Context, due: Due) -> Result<Standing, WorkerError> {
    let store = &context.config.store;
    let mut found = context
        .patiently(|| store.attempts_standing(std::slice::from_ref(&due), usize::MAX))
        .await?;
    // One question has one answer.
    found.pop().ok_or(WorkerError::Stopping)
}

async fn look(context: &Context, dues: &[Due]) -> Result<(Vec<Standing>, Webhooks), WorkerError> {
    let store = &context.config.store;
    let standings = context.patiently(|| store.attempts_standing(dues, INLINE)).await?;
    let ids: Vec<WebhookId> = dues.iter().map(|due| due.webhook).collect();
    let webhooks = context.patiently(|| context.webhooks.get(&ids)).await?;
    Ok((standings, webhooks))
}
