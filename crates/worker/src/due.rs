//! Every attempt that is not a first one handed out for the first time.
//!
//! Asked in this order: may its endpoint get a request now (the gate); is nobody else at it
//! (a claim); and what `verdict` says of it.

use std::time::{Duration, Instant};

use fanfare_broker::Delay;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::{Due, Job};
use fanfare_core::outcome::{DeadReason, DropReason};
use fanfare_core::webhook::Webhook;
use fanfare_metrics::Deferral;
use fanfare_store::attempts::{Claim, PlannedEvent, Standing};
use futures_util::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::{self, Chain, Ready, attempt, drop_delivery};
use crate::context::Context;
use crate::error::WorkerError;
use crate::follow_up::{DeadLetter, FollowUp};
use crate::gate::{Deferred, Pass};
use crate::hand_on::HandOn;
use crate::verdict::{POISON, Verdict, early, verdicts};
use crate::webhooks::Found;

/// A wait as short as the ladder has.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Notifications of so many bytes are read for many deliveries at a time, larger ones alone.
const INLINE: usize = 16 * 1024;

/// A delivery of a due job with what the broker says of that.
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
        match (self.redelivered, self.first) {
            (true, true) => FollowUp::Alone { job: Job::First(vec![due]), delay },
            (true, false) => FollowUp::Alone { job: Job::Due(vec![due]), delay },
            (false, true) => FollowUp::First { due, delay },
            (false, false) => FollowUp::Retry { due, delay },
        }
    }
}

/// Sends first attempts on a way round, because they may be done or under way elsewhere: those of
/// which nothing is recorded come back as due jobs after `wait`, when this can be known.
pub(crate) async fn defer(
    context: &Context,
    hand_on: &HandOn,
    dues: &[Due],
    delivery_count: u64,
    wait: Duration,
) -> Result<(), WorkerError> {
    let (standings, found) = look(context, dues).await?;
    let mut follow_ups = Vec::new();
    for (due, standing) in dues.iter().zip(&standings) {
        let webhook = found.webhooks.get(&due.webhook).map(AsRef::as_ref);
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
    hand_on.hand_on(follow_ups).await
}

/// Attempts what is due side by side, records it and hands on what follows; the answers are in their
/// order, so that each job can be settled on its own. Each gives its share of `permit` back when it
/// is over.
pub(crate) async fn attempt_each(
    context: &Context,
    hand_on: &HandOn,
    taken: &[Taken],
    mut permit: OwnedSemaphorePermit,
) -> Result<Vec<Result<(), WorkerError>>, WorkerError> {
    let mut entries = enter(context, taken).await?;
    let deferred = still_owed(context, taken, &entries).await?;
    let (going, dues): (Vec<Taken>, Vec<Due>) = taken
        .iter()
        .zip(&deferred)
        .filter_map(|(taken, deferred)| deferred.is_none().then_some((*taken, taken.due)))
        .unzip();
    if dues.is_empty() {
        let again = |(taken, deferred): (&Taken, Option<Deferred>)| {
            deferred.map(|it| FollowUp::deferred(context, taken.due, it))
        };
        hand_on.hand_on(taken.iter().zip(deferred).filter_map(again)).await?;
        return Ok(taken.iter().map(|_| Ok(())).collect());
    }
    let store = &context.config.store;
    let lease = context.lease();
    let claimed = Instant::now();
    let claims = context.patiently(|| store.attempts_claim(&dues, lease)).await?;
    // Read after the claim: what was recorded just before it is seen here.
    let (standings, found) = look(context, &dues).await?;
    let verdicts = verdicts(context, &going, &claims, &standings, &found).await?;
    let mut gone = standings.iter().zip(verdicts);
    let mut each = Vec::with_capacity(taken.len());
    for ((taken, deferred), entry) in taken.iter().zip(deferred).zip(&mut entries) {
        let share = permit.split(1);
        let webhook = found.webhooks.get(&taken.due.webhook).map(AsRef::as_ref);
        let next = if deferred.is_none() { gone.next() } else { None };
        let entry = std::mem::replace(entry, Entry::NoNeed);
        each.push(async move {
            let follow_up = match (deferred, next) {
                (None, Some((standing, verdict))) => {
                    conclude(context, *taken, standing, webhook, verdict, entry, claimed).await
                }
                (deferred, _) => Ok(deferred.map(|it| FollowUp::deferred(context, taken.due, it))),
            };
            drop(share);
            hand_on.hand_on(follow_up?).await
        });
    }
    drop(permit);
    Ok(join_all(each).await)
}

/// Sends deliveries whose job came back several times on separate ways: a worker may have ended of
/// one of them, and the others must not end with it. What is recorded already is handed on again.
pub(crate) async fn part(
    context: &Context,
    hand_on: &HandOn,
    taken: &[Taken],
) -> Result<(), WorkerError> {
    let dues: Vec<Due> = taken.iter().map(|taken| taken.due).collect();
    let (standings, found) = look(context, &dues).await?;
    let mut follow_ups = Vec::with_capacity(taken.len());
    for (taken, standing) in taken.iter().zip(&standings) {
        let webhook = found.webhooks.get(&taken.due.webhook).map(AsRef::as_ref);
        if standing.last.as_ref().is_some_and(|last| last.entry >= taken.due.entry) {
            let standing = whole(context, taken.due).await?;
            follow_ups.extend(FollowUp::again(context, taken.due, &standing, webhook));
        } else {
            follow_ups.push(taken.again(AT_ONCE));
        }
    }
    hand_on.hand_on(follow_ups).await
}

/// How the gate answered for a delivery.
enum Entry {
    /// It may go.
    Pass(Pass),
    /// It may not go now.
    Deferred(Deferred),
    /// It was not asked: the webhook gets nothing.
    NoNeed,
    /// Nobody knows what the webhook wants.
    Unreadable,
}

async fn enter(context: &Context, taken: &[Taken]) -> Result<Vec<Entry>, WorkerError> {
    let ids: Vec<WebhookId> = taken.iter().map(|taken| taken.due.webhook).collect();
    let Found { webhooks, unreadable } = context.patiently(|| context.webhooks.get(&ids)).await?;
    let enter = async |id: &WebhookId| match webhooks.get(id).filter(|webhook| !webhook.paused) {
        None if unreadable.contains(id) => Entry::Unreadable,
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
        Entry::Pass(_) | Entry::NoNeed | Entry::Unreadable => None,
    };
    let deferred: Vec<Option<(Taken, Deferred)>> = taken.iter().zip(entries).map(of).collect();
    let (asked, dues): (Vec<Taken>, Vec<Due>) =
        deferred.iter().flatten().map(|(taken, _)| (*taken, taken.due)).unzip();
    let unreadable =
        |entry: &Entry| matches!(entry, Entry::Unreadable).then_some(Deferred::UNREADABLE);
    if asked.is_empty() {
        return Ok(entries.iter().map(unreadable).collect());
    }
    let (standings, found) = look(context, &dues).await?;
    let claims = vec![Claim::Ours; asked.len()];
    let verdicts = verdicts(context, &asked, &claims, &standings, &found).await?;
    let mut verdicts = verdicts.into_iter();
    let again = |(deferred, entry): (Option<(Taken, Deferred)>, &Entry)| {
        let Some((_, deferred)) = deferred else { return unreadable(entry) };
        matches!(verdicts.next(), Some(Verdict::Attempt(_))).then_some(deferred)
    };
    Ok(deferred.into_iter().zip(entries).map(again).collect())
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
                Entry::NoNeed | Entry::Unreadable => {
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

pub(crate) fn chain(standing: &Standing) -> Chain {
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

async fn look(context: &Context, dues: &[Due]) -> Result<(Vec<Standing>, Found), WorkerError> {
    let store = &context.config.store;
    let standings = context.patiently(|| store.attempts_standing(dues, INLINE)).await?;
    let ids: Vec<WebhookId> = dues.iter().map(|due| due.webhook).collect();
    let found = context.patiently(|| context.webhooks.get(&ids)).await?;
    Ok((standings, found))
}
