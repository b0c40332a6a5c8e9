//! Every attempt that is not a first one handed out for the first time.
//!
//! Asked in this order: may its endpoint get a request now (the gate); is nobody else at it
//! (a claim); and what `verdict` says of it.

mod begin;
mod entry;
mod prepare;

use std::time::Duration;

use fanfare_broker::Delay;
use fanfare_core::chain::chain as chain_of;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::{Due, Job, Unit};
use fanfare_core::outcome::{DeadReason, DropReason, decided_again};
use fanfare_core::webhook::Webhook;
use fanfare_metrics::Deferral;
use fanfare_store::attempts::{PlannedEvent, Standing};
use futures_util::future::{join, join_all};
use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::{self, Chain, drop_delivery};
use crate::context::{Context, Held};
use crate::error::WorkerError;
use crate::follow_up::{DeadLetter, FollowUp};
use crate::gate::Deferred;
use crate::hand_on::HandOn;
use crate::hold::{Hold, JobHold};
use crate::lost;
use crate::pacer::Slot;
use crate::verdict::{Verdict, early};
use crate::webhooks::Found;
use begin::Begin;
use entry::{Entry, enter};
use prepare::{Prepared, prepare};

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
    /// The slot that it has, if its webhook has a pace.
    pub(crate) slot: Option<Slot>,
}

impl Taken {
    /// A first attempt, of a job that is handed out for the first time.
    pub(crate) fn first(due: Due) -> Self {
        Self { due, first: true, redelivered: false, slot: None }
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
    // What comes by reference may have been deferred before.
    let again = units.is_empty();
    let each: Vec<Taken> = taken.iter().map(|(taken, _)| *taken).collect();
    let entries = match enter(context, &each, again).await {
        Ok(entries) => entries,
        Err(error) => return fail_all(&error, taken),
    };
    // Each of those whose slot comes soon is attempted then, and the others need not wait for it.
    let (mut now, mut now_entries, mut soon) = (Vec::new(), Vec::new(), Vec::new());
    for ((taken, job), entry) in taken.into_iter().zip(entries) {
        if let Entry::Soon(waiting) = entry {
            let share = permit.split(1);
            soon.push(async move {
                let taken = Taken { slot: Some(waiting.wait().await), ..taken };
                match enter(context, &[taken], again).await {
                    Ok(entries) => {
                        let taken = vec![(taken, job)];
                        attempt_now(context, hand_on, (taken, entries), units, share).await;
                    }
                    Err(error) => fail_all(&error, vec![(taken, job)]),
                }
            });
        } else {
            now.push((taken, job));
            now_entries.push(entry);
        }
    }
    let at_once = attempt_now(context, hand_on, (now, now_entries), units, Some(permit));
    join(Box::pin(at_once), join_all(soon.into_iter().map(Box::pin))).await;
}

/// Attempts what the pacer and the gate were asked about.
async fn attempt_now(
    context: &Context,
    hand_on: &HandOn,
    (taken, entries): (Vec<(Taken, JobHold)>, Vec<Entry>),
    units: &[Unit],
    mut permit: Option<OwnedSemaphorePermit>,
) {
    let each: Vec<Taken> = taken.iter().map(|(taken, _)| *taken).collect();
    let prepared = match prepare(context, hand_on, &each, &entries).await {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return,
        Err(error) => return fail_all(&error, taken),
    };
    let Prepared { deferred, standings, verdicts, found, held } = prepared;
    let mut gone = standings.into_iter().zip(verdicts);
    let mut each = Vec::with_capacity(taken.len());
    for (((taken, job), deferred), entry) in taken.into_iter().zip(deferred).zip(entries) {
        let share = permit.as_mut().and_then(|permit| permit.split(1));
        let mut hold = Hold::new(job, share);
        let webhook = found.webhooks.get(&taken.due.webhook).map(AsRef::as_ref);
        let next = if deferred.is_none() { gone.next() } else { None };
        each.push(async move {
            let follow_up = match (deferred, next) {
                (None, Some((standing, verdict))) => {
                    let standing = &standing;
                    let asked = Asked { taken, standing, units, webhook, held };
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

/// Lets the jobs of deliveries come again of which nothing could be found out.
fn fail_all(error: &WorkerError, taken: Vec<(Taken, JobHold)>) {
    // One reason for all of them is logged once.
    tracing::warn!(error = chain_of(error), "due jobs were not done; they come again");
    for (_, job) in taken {
        job.fail(WorkerError::NotHandedOn);
    }
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
                    let since = chain(standing).since;
                    match entry::despite_hold(context, webhook, deferred, since).await {
                        Ok(pass) => pass,
                        Err(deferred) => {
                            let again = FollowUp::deferred(context, due, deferred);
                            return not_begun(context, asked, again).await;
                        }
                    }
                }
                // It was resumed in between.
                Entry::Soon(_) | Entry::NoNeed | Entry::Unreadable => {
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
            // What it holds of the endpoint is for those whose time has come.
            drop(entry);
            came_early(context, asked).await
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

/// Sends a retry round that came before its time, as all do while a policy of the broker lets messages
/// expire sooner than the delay ladder's queues do. It pauses first, so that such a policy can't make
/// the same jobs come again without a rest.
async fn came_early(context: &Context, asked: Asked<'_>) -> Result<Option<FollowUp>, WorkerError> {
    context.config.metrics.deferred(Deferral::Early);
    context.release(asked.taken.due, asked.held).await?;
    let left = || early(asked.standing, context.now()).unwrap_or_default();
    tokio::time::sleep(left().min(AT_ONCE)).await;
    Ok(Some(asked.taken.again(left())))
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
