//! One attempt: its POST, its row in the ledger, and its follow-up.
//!
//! Only this module sends notifications. First attempts and later ones use the same function.

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
use fanfare_trace::propagation;
use futures_util::future::{OptionFuture, join};

use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use crate::context::{Context, HeldLease, RECORD_MARGIN, chance};
use crate::endpoint_limiter::Permit;
use crate::error::WorkerError;
use crate::follow_up::{DeadLetter, FollowUp};
use crate::guard::DeliveryGuard;
use crate::pacer::Slot;
use crate::recorder::Recorded;
use crate::solo::{SharedGuard, SoloGuard};
use crate::webhook_cache::TRUSTED;
use crate::{metrics, slow_attempt, telemetry};

/// The age after which a webhook is read again before its request is sent. It is shorter than a wait
/// for the limiter, for memory or for the recorder.
const RECHECK_AFTER: Duration = Duration::from_millis(500);

/// A delivery that may be attempted.
pub(crate) struct Ready<'a> {
    /// The delivery, and the number of the row that the attempt writes.
    pub(crate) due: Due,
    pub(crate) webhook: &'a Webhook,
    pub(crate) permit: Permit,
    /// The time at which it may begin, if its webhook has a pace.
    pub(crate) slot: Option<Slot>,
    /// The memory that is reserved for its body.
    pub(crate) memory: Option<SemaphorePermit<'a>>,
    /// The time from which surely no other worker has the attempt.
    pub(crate) from: Instant,
    /// The claim, if the attempt has one.
    pub(crate) held: Option<HeldLease>,
    /// The exclusive right of a solo attempt.
    pub(crate) solo: Option<SoloGuard<'a>>,
    /// Whether it is a solo attempt.
    pub(crate) is_solo: bool,
    /// Its hold on its job and on its permit.
    pub(crate) guard: &'a mut DeliveryGuard,
    /// Whether it is a first attempt that the plan alone decided about.
    pub(crate) by_plan: bool,
    pub(crate) series: RetrySeries,
    pub(crate) event_ids: Vec<&'a str>,
    pub(crate) notifications: Vec<&'a str>,
    pub(crate) traceparent: Option<&'a str>,
    /// Which events are left out, and why.
    pub(crate) detail: Option<String>,
}

/// The series of a delivery before this attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetrySeries {
    /// POSTs so far.
    pub(crate) attempts: i32,
    /// POSTs in this series so far.
    pub(crate) attempts_in_series: i32,
    /// When this series began.
    pub(crate) started_at: DateTime<Utc>,
    /// The directory revision at which this attempt was allowed, or an older one; 0 when only the
    /// plan allowed it.
    pub(crate) revision: i64,
}

/// Makes an attempt and records it; returns the follow-up.
pub(crate) async fn attempt(
    context: &Context,
    ready: Ready<'_>,
) -> Result<Option<FollowUp>, WorkerError> {
    let span = telemetry::deliver(ready.traceparent, ready.due);
    send_and_record(context, ready).instrument(span).await
}

async fn send_and_record(
    context: &Context,
    mut ready: Ready<'_>,
) -> Result<Option<FollowUp>, WorkerError> {
    context.recorder.ready().await;
    let (due, id) = (ready.due, ready.due.id());
    let number = ready.series.attempts + 1;
    // Held until the row is written.
    let _solo_turn = match ready.solo.take() {
        Some(solo) => SoloTurn::Solo(solo),
        None => SoloTurn::Shared(context.solo.shared().await),
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
    // The receiver may have asked for a wait while this attempt waited for its limiters.
    if let Some(deferred) = context.pacer.held(context, webhook, ready.series.started_at) {
        return put_off(context, &ready, FollowUp::deferred(context, due, deferred)).await;
    }
    // Held until the body is gone.
    let _memory = ready.memory.take();
    let at = context.now();
    let body: Bytes =
        render(id, number, &webhook.properties, ready.notifications.iter().copied()).into();
    let span = telemetry::post(webhook, due, number);
    let traceparent = propagation::traceparent(&span, ready.traceparent);
    let traceparent = traceparent.as_deref();
    let (own, secrets) = (&webhook.headers, &webhook.secrets);
    let headers = UnsignedRequest { own, secrets, id, at, traceparent, body: &body }.sign();
    let in_flight = context.config.metrics.in_flight();
    let began = Instant::now();
    let client = &context.config.client;
    // Boxed because it is large: thousands of deliveries may wait here.
    let mut sending = Box::pin(client.post_traced(&webhook.uri, &headers, body.clone()));
    let (answer, trace) = slow_attempt::answer(context, &mut ready, sending.as_mut()).await;
    drop(sending);
    let duration = began.elapsed();
    drop(in_flight);
    telemetry::end(&span, &answer);
    drop(span);
    ready.permit.end(is_success(&answer), duration);
    let feedback = context.pacer.feedback(context, webhook, &answer, at);
    let next = next(context, &ready.series, &answer);
    if next == Next::Gone {
        // Paused before the row is written: if the worker dies in between, the next attempt pauses it.
        let store = &context.config.store;
        let pause = || store.address_pause(webhook.id, &webhook.uri, &PauseReason::Gone);
        Box::pin(context.retry_until_available(pause)).await?;
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
        tries: ready.series.attempts_in_series + 1,
        since: ready.series.started_at,
        state,
        reason: reason.map(DeadReason::code),
        detail: ready.detail.clone(),
        post: Some(post(&answer, duration, trace)),
        at,
        next_attempt_at: delay.map(|wait| context.now() + retry_delay(wait)),
        revision: ready.series.revision,
    };
    log_attempt(webhook, &entry);
    // Concurrent with the record, which must not wait for it: the POST was made, even if its feedback
    // can't be stored.
    let learn = |feedback| Box::pin(context.pacer.learn(context, webhook, feedback));
    let learned = OptionFuture::from(feedback.map(learn));
    let (recorded, _) = join(context.recorder.record(entry), learned).await;
    let recorded = recorded?;
    metrics::attempt(context, &answer, duration, next, ready.series.started_at);
    if let Some(health) = changed_health(webhook, &ready.series, is_success(&answer)) {
        // Boxed because it is rare: the futures of thousands of attempts stay small.
        Box::pin(note_health(context, webhook, health)).await?;
    }
    if recorded == Recorded::Another {
        return Box::pin(FollowUp::of_row(context, due, Some(webhook))).await;
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

/// Releases the claim of an attempt that is not made now.
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
enum SoloTurn<'a> {
    Shared(SharedGuard<'a>),
    Solo(SoloGuard<'a>),
}

/// Whether an attempt may begin now: its webhook is not paused or deleted, the plan still holds if it
/// alone decided, and no other worker can have begun it. The waits for the limiter, for memory and for
/// the recorder may have been long: then the webhook is read again, into `read`.
async fn is_current(
    context: &Context,
    ready: &Ready<'_>,
    read: &mut Option<Arc<Webhook>>,
) -> Result<bool, WorkerError> {
    if ready.by_plan && !plan_holds(ready.series.started_at, context.now()) {
        return Ok(false);
    }
    let (mut known, mut longest) = (ready.from, RECHECK_AFTER);
    // After `RECORD_MARGIN` another worker may consider the attempt lost, so it needs a claim first.
    while ready.from.elapsed() <= RECORD_MARGIN {
        if known.elapsed() <= longest {
            return Ok(true);
        }
        (known, longest) = (Instant::now(), TRUSTED);
        let ids = [ready.webhook.id];
        let mut found = context.retry_until_available(|| context.webhooks.get(&ids)).await?;
        *read = found.webhooks.remove(&ready.webhook.id).filter(|webhook| !webhook.paused);
        if read.is_none() {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Whether the endpoint counts as healthy: a 2xx, or a 410, which is an orderly refusal.
fn is_success(answer: &Answer) -> bool {
    matches!(answer, Answer::Response { status: 200..=299 | 410, .. })
}

/// A change of a webhook's health by an attempt.
enum Health {
    /// It has recovered.
    Recovered,
    /// It has begun to fail.
    Failing,
    /// It still fails; it began at this time.
    StillFailing(DateTime<Utc>),
}

/// The change of a webhook's health. A single failure whose retry succeeds changes nothing.
fn changed_health(webhook: &Webhook, series: &RetrySeries, success: bool) -> Option<Health> {
    match (success, webhook.failing_since) {
        (true, Some(_)) => Some(Health::Recovered),
        (false, None) if series.attempts_in_series > 0 => Some(Health::Failing),
        (false, Some(since)) if series.attempts_in_series > 0 => Some(Health::StillFailing(since)),
        _ => None,
    }
}

/// Failures that are farther apart than this, and than two retries of a delivery, do not count as one
/// long failure, because nothing was sent in between.
const SILENCE: Duration = Duration::from_hours(1);

/// Stores when a webhook's address began to fail, and pauses the webhook when it has failed for too
/// long.
async fn note_health(
    context: &Context,
    webhook: &Webhook,
    health: Health,
) -> Result<(), WorkerError> {
    let store = &context.config.store;
    let (id, uri) = (webhook.id, &webhook.uri);
    match health {
        Health::Recovered => {
            context.retry_until_available(|| store.address_failing(id, uri, None)).await
        }
        Health::Failing => {
            let since = Some(context.now());
            context.retry_until_available(|| store.address_failing(id, uri, since)).await
        }
        Health::StillFailing(since) => {
            let pause_after = context.config.pause_after;
            let failing = (context.now() - since).to_std().unwrap_or_default();
            if failing < pause_after {
                return Ok(());
            }
            let gap = SILENCE.max(2 * context.config.policy.max_delay);
            let pause = || store.address_pause_failing(id, uri, pause_after, gap);
            if context.retry_until_available(pause).await? {
                tracing::warn!(
                    webhook.id = %id, webhook.origin = uri.origin(), %since,
                    "paused a webhook whose attempts all failed for too long"
                );
            }
            Ok(())
        }
    }
}

/// Records that a delivery is dropped. Returns the follow-up if another attempt wrote the row before.
pub(crate) async fn drop_delivery(
    context: &Context,
    due: Due,
    series: RetrySeries,
    reason: DropReason,
    detail: String,
) -> Result<Option<FollowUp>, WorkerError> {
    let code = reason.code();
    tracing::info!(webhook.id = %due.webhook, delivery.id = %due.id(), reason = code, detail, "dropped a delivery");
    context.config.metrics.dropped(reason);
    let entry = without_post(context, due, series, State::Dropped, code);
    let entry = Entry { detail: Some(detail), ..entry };
    match context.recorder.record(entry).await? {
        Recorded::Ours => Ok(None),
        Recorded::Another => FollowUp::of_row(context, due, None).await,
    }
}

/// Records that a delivery is given up without another attempt.
pub(crate) async fn give_up(
    context: &Context,
    due: Due,
    series: RetrySeries,
    reason: DeadReason,
) -> Result<Recorded, WorkerError> {
    let code = reason.code();
    tracing::warn!(webhook.id = %due.webhook, delivery.id = %due.id(), reason = code, "gave up a delivery");
    context.config.metrics.dead_letter(reason);
    let entry = without_post(context, due, series, State::Dead, code);
    context.recorder.record(entry).await
}

fn without_post(
    context: &Context,
    due: Due,
    series: RetrySeries,
    state: State,
    reason: &'static str,
) -> Entry {
    Entry {
        due,
        attempt: series.attempts,
        tries: series.attempts_in_series,
        since: series.started_at,
        state,
        reason: Some(reason),
        detail: None,
        post: None,
        at: context.now(),
        next_attempt_at: None,
        revision: series.revision,
    }
}

fn next(context: &Context, series: &RetrySeries, answer: &Answer) -> Next {
    let progress = Progress {
        tries: u32::try_from(series.attempts_in_series + 1).unwrap_or(u32::MAX),
        since: series.started_at,
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

/// The delay of a retry: what the ladder makes of the wait, or the wait itself if it is longer than the
/// ladder.
fn retry_delay(wait: Duration) -> TimeDelta {
    TimeDelta::from_std(wait.max(Delay::at_least(wait).duration())).unwrap_or(TimeDelta::MAX)
}

/// Logs an attempt. A success is a debug line, because there are thousands a second.
fn log_attempt(webhook: &Webhook, entry: &Entry) {
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
    fn the_retries_of_the_default_policy_end_before_its_deadline() {
        let policy = RetryPolicy::default();
        let latest = |tries| retry_delay(policy.delay(tries, 1.0));
        let all: TimeDelta = (1..policy.attempts).map(latest).sum();
        // With an hour for the attempts themselves.
        assert!(all + TimeDelta::hours(1) < TimeDelta::from_std(policy.deadline).unwrap(), "{all}");
    }
}
