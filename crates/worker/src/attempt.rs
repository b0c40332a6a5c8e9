//! One attempt: the POST, what follows from its answer, and its row in the ledger.
//!
//! The only place that sends. First attempts and later ones come here alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use fanfare_broker::Delay;
use fanfare_core::answer::{Answer, Trace};
use fanfare_core::job::Due;
use fanfare_core::notification::render;
use fanfare_core::outcome::{
    DeadReason, DropReason, Next, Outcome, Progress, State, decide, plan_holds,
};
use fanfare_core::request::UnsignedRequest;
use fanfare_core::webhook::{PauseReason, Webhook};
use fanfare_store::attempts::{Entry, Post};
use futures_util::future::{OptionFuture, join};

use tokio::sync::SemaphorePermit;

use crate::context::{Context, Held, SLACK, chance};
use crate::error::WorkerError;
use crate::follow_up::{DeadLetter, FollowUp};
use crate::gate::Pass;
use crate::hold::Hold;
use crate::pacer::Slot;
use crate::solo::{Alone, Beside};
use crate::webhooks::TRUSTED;
use crate::{measure, release, traced};

/// How long what is known of a webhook may be old before it is looked at once more: less than it
/// takes to wait for the limiter, for memory or for the recorder.
const MOMENT: Duration = Duration::from_millis(500);

/// A delivery that may be attempted.
pub(crate) struct Ready<'a> {
    /// The delivery, and the number of the row that the attempt writes.
    pub(crate) due: Due,
    pub(crate) webhook: &'a Webhook,
    pub(crate) pass: Pass,
    /// When it may begin, if its webhook has a pace.
    pub(crate) slot: Option<Slot>,
    /// The memory for its body.
    pub(crate) room: Option<SemaphorePermit<'a>>,
    /// Since when it is surely nobody else's.
    pub(crate) from: Instant,
    /// The claim, of an attempt that has one.
    pub(crate) held: Option<Held>,
    /// The right to make it alone, if it must be.
    pub(crate) alone: Option<Alone<'a>>,
    /// Whether it is made alone.
    pub(crate) is_alone: bool,
    /// Its job and its slot.
    pub(crate) hold: &'a mut Hold,
    /// Whether it is a first attempt that the plan alone decided about.
    pub(crate) by_plan: bool,
    pub(crate) chain: Chain,
    pub(crate) event_ids: Vec<&'a str>,
    pub(crate) notifications: Vec<&'a str>,
    pub(crate) traceparent: Option<&'a str>,
    /// What is left out, and why.
    pub(crate) detail: Option<String>,
}

/// How far a delivery has come before this attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    /// POSTs so far.
    pub(crate) attempts: i32,
    /// POSTs in this chain so far.
    pub(crate) tries: i32,
    /// When this chain began.
    pub(crate) since: DateTime<Utc>,
    /// The directory revision at which this attempt was allowed, or an older one; 0 when only the
    /// plan allowed it.
    pub(crate) revision: i64,
}

/// Makes an attempt and records it. What is left to do afterwards is returned.
pub(crate) async fn attempt(
    context: &Context,
    mut ready: Ready<'_>,
) -> Result<Option<FollowUp>, WorkerError> {
    context.recorder.ready().await;
    let (due, id) = (ready.due, ready.due.id());
    let number = ready.chain.attempts + 1;
    // Until the row is written.
    let _turn = match ready.alone.take() {
        Some(alone) => Turn::Alone(alone),
        None => Turn::Beside(context.solo.beside().await),
    };
    if let Some(slot) = ready.slot {
        slot.wait().await;
    }
    let mut read = None;
    if !is_current(context, &ready, &mut read).await? {
        let delay = Delay::at_least(Duration::from_secs(1));
        let is_first = due.entry == 1;
        let again =
            if is_first { FollowUp::First { due, delay } } else { FollowUp::Retry { due, delay } };
        return put_off(context, &ready, again).await;
    }
    let webhook = read.as_deref().unwrap_or(ready.webhook);
    // Its receiver may have asked to wait while this one waited for its limits.
    if let Some(deferred) = context.pacer.held(context, webhook, ready.chain.since) {
        return put_off(context, &ready, FollowUp::deferred(context, due, deferred)).await;
    }
    // Held until the body is gone.
    let _room = ready.room.take();
    let at = context.now();
    let body: Bytes =
        render(id, number, &webhook.properties, ready.notifications.iter().copied()).into();
    let tracer = &context.config.tracer;
    let span = traced::begin(tracer, ready.traceparent, webhook, due, number);
    let own = span.as_ref().map(|span| span.context().to_string());
    let traceparent = own.as_deref().or(ready.traceparent);
    let (own, secrets) = (&webhook.headers, &webhook.secrets);
    let headers = UnsignedRequest { own, secrets, id, at, traceparent, body: &body }.sign();
    let in_flight = context.config.metrics.in_flight();
    let began = Instant::now();
    let client = &context.config.client;
    // Boxed, as what is large, so that thousands of deliveries that wait are small.
    let mut sending = Box::pin(client.post_traced(&webhook.uri, &headers, body.clone()));
    let (answer, trace) = release::answer(context, &mut ready, sending.as_mut()).await;
    drop(sending);
    let duration = began.elapsed();
    drop(in_flight);
    traced::end(span, &answer);
    ready.pass.end(is_success(&answer), duration);
    let feedback = context.pacer.heed(context, webhook, &answer, at);
    let next = next(context, &ready.chain, &answer);
    if next == Next::Gone {
        // Before the row: a worker that dies in between attempts again and learns it again.
        let store = &context.config.store;
        let pause = || store.address_pause(webhook.id, &webhook.uri, &PauseReason::Gone);
        Box::pin(context.patiently(pause)).await?;
    }
    let (state, reason, delay) = match next {
        Next::Delivered | Next::Gone => (State::Delivered, None, None),
        Next::RetryIn(wait) => (State::Retrying, None, Some(wait)),
        Next::Dead(reason) => (State::Dead, Some(reason), None),
    };
    let status = match &answer {
        Answer::Response { status, .. } => Some(*status),
        Answer::Failed { .. } => None,
    };
    let entry = Entry {
        due,
        attempt: number,
        tries: ready.chain.tries + 1,
        since: ready.chain.since,
        state,
        reason: reason.map(DeadReason::code),
        detail: ready.detail.clone(),
        post: Some(post(&answer, duration, trace)),
        at,
        next_attempt_at: delay.map(|wait| context.now() + signed(wait)),
        revision: ready.chain.revision,
    };
    report(webhook, &entry);
    // Beside the record, which must not wait for it: the POST was made, whatever becomes of the pace.
    let learn = |feedback| Box::pin(context.pacer.learn(context, webhook, feedback));
    let learned = OptionFuture::from(feedback.map(learn));
    let (recorded, _) = join(context.recorder.record(entry), learned).await;
    recorded?;
    measure::attempt(context, &answer, duration, next, ready.chain.since);
    if let Some(health) = changed_health(webhook, &ready.chain, is_success(&answer)) {
        // Boxed, as what is rare, so that thousands of attempts under way have small futures.
        Box::pin(note_health(context, webhook, health)).await?;
    }
    let next_entry = Due { entry: due.entry + 1, ..due };
    Ok(match (delay, reason) {
        (Some(wait), _) => Some(FollowUp::Retry { due: next_entry, delay: Delay::at_least(wait) }),
        (None, Some(reason)) => Some(FollowUp::Dead(Box::new(DeadLetter {
            due,
            reason: reason.code().to_owned(),
            owner: webhook.owner.to_string(),
            events: ready.event_ids.iter().map(|id| (*id).to_owned()).collect(),
            attempts: number,
            last_status: status.map(i32::from),
            body,
        }))),
        (None, None) => None,
    })
}

/// Gives the claim of an attempt back that is not made now.
async fn put_off(
    context: &Context,
    ready: &Ready<'_>,
    follow_up: FollowUp,
) -> Result<Option<FollowUp>, WorkerError> {
    if let Some(held) = ready.held {
        context.release(ready.due, held).await?;
    }
    Ok(Some(follow_up))
}

/// The right to make an attempt, held until it is recorded.
#[expect(dead_code, reason = "held, not read")]
enum Turn<'a> {
    Beside(Beside<'a>),
    Alone(Alone<'a>),
}

/// Whether an attempt may begin now: its webhook still takes what it is sent, the plan still holds if
/// only that decided, and nobody else can have begun it. The webhook goes into `read` if it had to be looked at once more, since what it
/// was before the waits for the limiter, for memory and for the recorder may be out of date.
async fn is_current(
    context: &Context,
    ready: &Ready<'_>,
    read: &mut Option<Arc<Webhook>>,
) -> Result<bool, WorkerError> {
    if ready.by_plan && !plan_holds(ready.chain.since, context.now()) {
        return Ok(false);
    }
    let (mut known, mut longest) = (ready.from, MOMENT);
    // After `SLACK` others may take the attempt for lost: it is asked after before it is sent.
    while ready.from.elapsed() <= SLACK {
        if known.elapsed() <= longest {
            return Ok(true);
        }
        (known, longest) = (Instant::now(), TRUSTED);
        let ids = [ready.webhook.id];
        let mut found = context.patiently(|| context.webhooks.get(&ids)).await?;
        *read = found.webhooks.remove(&ready.webhook.id).filter(|webhook| !webhook.paused);
        if read.is_none() {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Whether the endpoint takes what it is sent. One that is gone says so without trouble.
fn is_success(answer: &Answer) -> bool {
    matches!(answer, Answer::Response { status: 200..=299 | 410, .. })
}

/// What an attempt changes about what is known of its webhook.
enum Health {
    /// It works again.
    Mended,
    /// It has begun to fail.
    Failing,
    /// It still fails, since then.
    StillFailing(DateTime<Utc>),
}

/// A single failure that its retry mends changes nothing.
fn changed_health(webhook: &Webhook, chain: &Chain, success: bool) -> Option<Health> {
    match (success, webhook.failing_since) {
        (true, Some(_)) => Some(Health::Mended),
        (false, None) if chain.tries > 0 => Some(Health::Failing),
        (false, Some(since)) if chain.tries > 0 => Some(Health::StillFailing(since)),
        _ => None,
    }
}

/// Failures farther apart than this, or than two retries of a delivery, are not one long failure:
/// nothing was sent in between.
const SILENCE: Duration = Duration::from_hours(1);

/// Notes since when a webhook's address fails, and pauses a webhook whose address failed for too
/// long.
async fn note_health(
    context: &Context,
    webhook: &Webhook,
    health: Health,
) -> Result<(), WorkerError> {
    let store = &context.config.store;
    let (id, uri) = (webhook.id, &webhook.uri);
    match health {
        Health::Mended => context.patiently(|| store.address_failing(id, uri, None)).await,
        Health::Failing => {
            let since = Some(context.now());
            context.patiently(|| store.address_failing(id, uri, since)).await
        }
        Health::StillFailing(since) => {
            let pause_after = context.config.pause_after;
            let failing = (context.now() - since).to_std().unwrap_or_default();
            if failing < pause_after {
                return Ok(());
            }
            let gap = SILENCE.max(2 * context.config.policy.max_delay);
            let pause = || store.address_pause_failing(id, uri, pause_after, gap);
            if context.patiently(pause).await? {
                tracing::warn!(
                    webhook.id = %id, webhook.origin = uri.origin(), %since,
                    "paused a webhook whose attempts all failed for too long"
                );
            }
            Ok(())
        }
    }
}

/// Records that a delivery is not sent any more.
pub(crate) async fn drop_delivery(
    context: &Context,
    due: Due,
    chain: Chain,
    reason: DropReason,
    detail: String,
) -> Result<(), WorkerError> {
    let code = reason.code();
    tracing::info!(webhook.id = %due.webhook, delivery.id = %due.id(), reason = code, detail, "dropped a delivery");
    context.config.metrics.dropped(reason);
    let entry = without_post(context, due, chain, State::Dropped, code);
    let entry = Entry { detail: Some(detail), ..entry };
    context.recorder.record(entry).await
}

/// Records that a delivery is given up without another attempt.
pub(crate) async fn give_up(
    context: &Context,
    due: Due,
    chain: Chain,
    reason: DeadReason,
) -> Result<(), WorkerError> {
    let code = reason.code();
    tracing::warn!(webhook.id = %due.webhook, delivery.id = %due.id(), reason = code, "gave up a delivery");
    context.config.metrics.dead_letter(reason);
    let entry = without_post(context, due, chain, State::Dead, code);
    context.recorder.record(entry).await
}

fn without_post(
    context: &Context,
    due: Due,
    chain: Chain,
    state: State,
    reason: &'static str,
) -> Entry {
    Entry {
        due,
        attempt: chain.attempts,
        tries: chain.tries,
        since: chain.since,
        state,
        reason: Some(reason),
        detail: None,
        post: None,
        at: context.now(),
        next_attempt_at: None,
        revision: chain.revision,
    }
}

fn next(context: &Context, chain: &Chain, answer: &Answer) -> Next {
    let progress = Progress {
        tries: u32::try_from(chain.tries + 1).unwrap_or(u32::MAX),
        since: chain.since,
        now: context.now(),
    };
    decide(&context.config.policy, answer, progress, chance())
}

fn post(answer: &Answer, duration: Duration, trace: Option<Box<Trace>>) -> Post {
    let outcome = Outcome::of(answer).code();
    match answer {
        Answer::Response { status, body, .. } => Post {
            duration,
            outcome,
            status: Some(*status),
            error: None,
            response_body: (!body.is_empty()).then(|| body.clone()),
            trace,
        },
        Answer::Failed { detail, .. } => Post {
            duration,
            outcome,
            status: None,
            error: Some(detail.clone()),
            response_body: None,
            trace,
        },
    }
}

/// When a retry is due: as the ladder makes it, or, for a wait longer than the ladder, as asked.
fn signed(wait: Duration) -> TimeDelta {
    TimeDelta::from_std(wait.max(Delay::at_least(wait).duration())).unwrap_or(TimeDelta::MAX)
}

/// One line about an attempt: a debug line when it went well, for there are thousands a second.
fn report(webhook: &Webhook, entry: &Entry) {
    let Some(post) = &entry.post else { return };
    let (id, attempt, outcome) = (entry.due.id(), entry.attempt, post.outcome);
    let duration_ms = post.duration.as_millis();
    if entry.state == State::Delivered {
        tracing::debug!(webhook.id = %webhook.id, delivery.id = %id, attempt, outcome, duration_ms, "delivered a notification");
    } else {
        tracing::info!(
            webhook.id = %webhook.id, webhook.origin = webhook.uri.origin(), delivery.id = %id,
            attempt, outcome, status = post.status, state = entry.state.name(), duration_ms,
            "an attempt failed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::retry::RetryPolicy;

    #[test]
    fn all_attempts_of_the_default_policy_fit_into_its_deadline() {
        let policy = RetryPolicy::default();
        let latest = |tries| signed(policy.delay(tries, 1.0));
        let all: TimeDelta = (1..policy.attempts).map(latest).sum();
        // With an hour for the attempts themselves.
        assert!(all + TimeDelta::hours(1) < TimeDelta::from_std(policy.deadline).unwrap(), "{all}");
    }
}
