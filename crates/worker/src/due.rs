//! Every attempt that is not a first one handed out for the first time.
//!
//! Asked in this order: may its endpoint get a request now (the gate); is nobody else at it
//! (a claim); and what `verdict` says of it.

mod begin;

use std::time::Duration;

use fanfare_broker::Delay;
use fanfare_core::chain::chain as chain_of;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::{Due, Job, Unit};
use fanfare_core::outcome::{DeadReason, DropReason, decided_again};
use fanfare_core::suspect::Unrecorded;
use fanfare_core::webhook::Webhook;
use fanfare_metrics::Deferral;
use fanfare_store::attempts::{PlannedEvent, Standing};
use fanfare_store::claims::Claim;
use futures_util::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::{self, Chain, drop_delivery};
use crate::context::{Context, Held};
use crate::error::WorkerError;
use crate::follow_up::{DeadLetter, FollowUp};
use crate::gate::{Deferred, Pass};
use crate::hand_on::HandOn;
use crate::hold::{Hold, JobHold};
use crate::lost;
use crate::verdict::{Verdict, early, verdicts};
use crate::webhooks::Found;
use begin::Begin;

/// A wait as short as the ladder has.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long a delivery waits that is to be attempted alone while others are.
const WAIT_FOR_TURN: Duration = Duration::from_secs(4);

/// Notifications of so many bytes are read for many deliveries at a time, larger ones alone.
const INLINE: usize = 16 * 1024;

/// Deliveries that only go round need none.
const NO_PAYLOAD: usize = 0;

/// A delivery of a due job with what the broker says of that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) due: Due,
    /// Whether its job is one for first attempts.
    pub(crate) first: bool,
    pub(crate) redelivered: bool,
}

impl Taken {
    /// A first attempt, of a job that is handed out for the first time.
    pub(crate) fn first(due: Due) -> Self {
        Self { due, first: true, redelivered: false }
    }

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
/// which nothing is recorded come back as due jobs after `wait`, when this can be known. `units` is
/// what their job carries.
pub(crate) async fn defer(
    context: &Context,
    hand_on: &HandOn,
    dues: &[Due],
    units: &[Unit],
    wait: Duration,
) -> Result<(), WorkerError> {
    let (standings, found) = look(context, dues, NO_PAYLOAD).await?;
    let mut follow_ups = Vec::new();
    for (due, standing) in dues.iter().zip(&standings) {
        let webhook = found.webhooks.get(&due.webhook).map(AsRef::as_ref);
        if standing.last.is_some() {
            let standing = whole(context, *due).await?;
            follow_ups.extend(FollowUp::again(context, *due, &standing, webhook));
        } else if standing.events.is_empty() {
            follow_ups.push(lost::letter(context, *due, units, webhook)?);
        } else {
            context.config.metrics.deferred(Deferral::Uncertain);
            follow_ups.push(FollowUp::First { due: *due, delay: Delay::at_least(wait) });
        }
    }
    hand_on.hand_on(follow_ups).await
}

/// Attempts what is due side by side, records it and hands on what follows. Each gives its share of
/// `permit` back when it is over or slow, and its hold on its job, so that each job is settled on its
/// own. `units` is what the job carries, if it is one that carries something.
pub(crate) async fn attempt_each(
    context: &Context,
    hand_on: &HandOn,
    taken: Vec<(Taken, JobHold)>,
    units: &[Unit],
    mut permit: OwnedSemaphorePermit,
) {
    let (taken, jobs): (Vec<Taken>, Vec<JobHold>) = taken.into_iter().unzip();
    let prepared = match prepare(context, hand_on, &taken, units.is_empty()).await {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return,
        Err(error) => {
            // One reason for all of them is told once.
            tracing::warn!(error = chain_of(&error), "due jobs were not done; they come again");
            return jobs.into_iter().for_each(|job| job.fail(WorkerError::NotHandedOn));
        }
    };
    let Prepared { entries, deferred, standings, verdicts, found, held } = prepared;
    let mut gone = standings.iter().zip(verdicts);
    let mut each = Vec::with_capacity(taken.len());
    for (((taken, deferred), entry), job) in taken.iter().zip(deferred).zip(entries).zip(jobs) {
        let mut hold = Hold::new(job, permit.split(1));
        let webhook = found.webhooks.get(&taken.due.webhook).map(AsRef::as_ref);
        let next = if deferred.is_none() { gone.next() } else { None };
        each.push(async move {
            let follow_up = match (deferred, next) {
                (None, Some((standing, verdict))) => {
                    let asked = Asked { taken: *taken, standing, units, webhook, held };
                    conclude(context, asked, verdict, entry, &mut hold).await
                }
                (deferred, _) => Ok(deferred.map(|it| FollowUp::deferred(context, taken.due, it))),
            };
            hold.free_slot();
            let result = match follow_up {
                Ok(follow_up) => hand_on.hand_on(follow_up).await,
                Err(error) => Err(error),
            };
            hold.end(result);
        });
    }
    drop(permit);
    join_all(each).await;
}

/// What is known of deliveries before they are attempted.
struct Prepared {
    /// How the gate answered, in the order of the deliveries, …
    entries: Vec<Entry>,
    /// … and which of them are deferred.
    deferred: Vec<Option<Deferred>>,
    /// What the ledger says of the others, and what is to be done.
    standings: Vec<Standing>,
    verdicts: Vec<Verdict>,
    found: Found,
    held: Held,
}

/// Asks the gate, claims what may go, and reads what the ledger knows; `None` when all of it was
/// deferred.
async fn prepare(
    context: &Context,
    hand_on: &HandOn,
    taken: &[Taken],
    again: bool,
) -> Result<Option<Prepared>, WorkerError> {
    // What comes by reference may have been deferred before.
    let entries = enter(context, taken, again).await?;
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
        return Ok(None);
    }
    let (claims, held) = context.claim(&dues).await?;
    // Read after the claim: what was recorded just before it is seen here.
    let (standings, found) = look(context, &dues, INLINE).await?;
    let verdicts = verdicts(context, &going, &claims, &standings, &found).await?;
    Ok(Some(Prepared { entries, deferred, standings, verdicts, found, held }))
}

/// Sends deliveries whose job came back several times on separate ways: a worker may have ended of
/// one of them, and the others must not end with it. What is recorded already is handed on again.
pub(crate) async fn part(
    context: &Context,
    hand_on: &HandOn,
    taken: &[Taken],
) -> Result<(), WorkerError> {
    let dues: Vec<Due> = taken.iter().map(|taken| taken.due).collect();
    let (standings, found) = look(context, &dues, NO_PAYLOAD).await?;
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

async fn enter(context: &Context, taken: &[Taken], again: bool) -> Result<Vec<Entry>, WorkerError> {
    let ids: Vec<WebhookId> = taken.iter().map(|taken| taken.due.webhook).collect();
    let Found { webhooks, unreadable } = context.patiently(|| context.webhooks.get(&ids)).await?;
    let enter = async |id: &WebhookId| match webhooks.get(id).filter(|webhook| !webhook.paused) {
        None if unreadable.contains(id) => Entry::Unreadable,
        None => Entry::NoNeed,
        Some(webhook) => match context.gate.enter(webhook, again).await {
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
    let (standings, found) = look(context, &dues, NO_PAYLOAD).await?;
    let claims = vec![Claim::Ours(Unrecorded::default()); asked.len()];
    let verdicts = verdicts(context, &asked, &claims, &standings, &found).await?;
    let mut verdicts = verdicts.into_iter();
    let again = |(deferred, entry): (Option<(Taken, Deferred)>, &Entry)| {
        let Some((_, deferred)) = deferred else { return unreadable(entry) };
        matches!(verdicts.next(), Some(Verdict::Attempt { .. })).then_some(deferred)
    };
    Ok(deferred.into_iter().zip(entries).map(again).collect())
}

/// A delivery that was claimed, with what was read of it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    taken: Taken,
    standing: &'a Standing,
    /// What its job carries.
    units: &'a [Unit],
    webhook: Option<&'a Webhook>,
    held: Held,
}

async fn conclude(
    context: &Context,
    asked: Asked<'_>,
    verdict: Verdict,
    entry: Entry,
    hold: &mut Hold,
) -> Result<Option<FollowUp>, WorkerError> {
    let Asked { taken, standing, webhook, .. } = asked;
    let due = taken.due;
    match verdict {
        Verdict::Attempt { events, by_plan, alone } => {
            let Some(webhook) = webhook else { return Ok(None) };
            let pass = match entry {
                Entry::Pass(pass) => pass,
                Entry::Deferred(deferred) => {
                    let again = FollowUp::deferred(context, due, deferred);
                    return not_begun(context, asked, again).await;
                }
                // It was resumed in between.
                Entry::NoNeed | Entry::Unreadable => {
                    return not_begun(context, asked, taken.again(AT_ONCE)).await;
                }
            };
            let begin = Begin { events, by_plan, alone, hold };
            // Boxed, as what is large, so that thousands of deliveries that wait are small.
            Box::pin(begin.attempt(context, asked, webhook, pass)).await
        }
        Verdict::Drop(reason) => {
            let owner = webhook.map_or("", |webhook| webhook.owner.as_str());
            let subjects: Vec<&str> =
                standing.events.iter().map(|event| event.subject.as_str()).collect();
            let detail = reason.sentence(owner, &subjects, standing.revision);
            let detail = match reason {
                DropReason::WebhookDeleted | DropReason::WebhookPaused => detail,
                DropReason::OwnerDisabled
                | DropReason::OwnerDeleted
                | DropReason::AccessRevoked => after_wait(context, standing, detail),
            };
            drop_delivery(context, due, chain(standing), reason, detail).await.map(|()| None)
        }
        Verdict::Later => {
            context.config.metrics.deferred(Deferral::Claimed);
            Ok(Some(taken.again(context.until_free())))
        }
        Verdict::DirectoryHeld => {
            let again = FollowUp::deferred(context, due, Deferred::DIRECTORY_HELD);
            not_begun(context, asked, again).await
        }
        Verdict::Unreadable => {
            let again = FollowUp::deferred(context, due, Deferred::UNREADABLE);
            not_begun(context, asked, again).await
        }
        Verdict::Early => {
            context.config.metrics.deferred(Deferral::Early);
            let again = taken.again(early(standing, context.now()).unwrap_or_default());
            not_begun(context, asked, again).await
        }
        Verdict::GiveUp(reason) => self::give_up(context, due, standing, webhook, reason).await,
        Verdict::Lost => {
            let letter = lost::letter(context, due, asked.units, webhook)?;
            not_begun(context, asked, letter).await
        }
        Verdict::HandOnAgain => {
            Ok(FollowUp::again(context, due, &whole(context, due).await?, webhook))
        }
        Verdict::NotNext => {
            context.release(due, asked.held).await?;
            Ok(None)
        }
        Verdict::Nothing => Ok(None),
    }
}

/// Gives the claim of an attempt back that is not begun now.
async fn not_begun(
    context: &Context,
    asked: Asked<'_>,
    follow_up: FollowUp,
) -> Result<Option<FollowUp>, WorkerError> {
    context.release(asked.taken.due, asked.held).await?;
    Ok(Some(follow_up))
}

/// Adds to the reason of a decision that the first attempt had waited for too long, if that is so.
fn after_wait(context: &Context, standing: &Standing, detail: String) -> String {
    match (&standing.last, standing.events.first()) {
        (None, Some(event)) => decided_again(&detail, event.received_at, context.now()),
        _ => detail,
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

/// What the ledger knows of deliveries, with their notifications if these have no more than `inline`
/// bytes; and their webhooks.
async fn look(
    context: &Context,
    dues: &[Due],
    inline: usize,
) -> Result<(Vec<Standing>, Found), WorkerError> {
    let store = &context.config.store;
    let standings = context.patiently(|| store.attempts_standing(dues, inline)).await?;
    let ids: Vec<WebhookId> = dues.iter().map(|due| due.webhook).collect();
    let found = context.patiently(|| context.webhooks.get(&ids)).await?;
    Ok((standings, found))
}
