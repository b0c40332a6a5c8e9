//! One attempt: its POST, its row in the ledger, and its follow-up.
//!
//! Only this module sends notifications. First attempts and later ones use the same function.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use fanfare_broker::Delay;
use fanfare_broker::dead_letters::DeadDelivery;
use fanfare_core::answer::{Answer, Trace};
use fanfare_core::chain::chain;
use fanfare_core::job::AttemptRef;
use fanfare_core::notification::render;
use fanfare_core::outcome::{DeadReason, Next, Outcome, Progress, State, decide, plan_holds};
use fanfare_core::request::UnsignedRequest;
use fanfare_core::webhook::{PauseReason, Webhook};
use fanfare_failpoints::failpoint;
use fanfare_store::attempts::{Entry, Post};
use fanfare_trace::propagation;
use futures_util::future::{OptionFuture, join};
use tracing::Instrument as _;

use crate::claimer::RECORD_MARGIN;
use crate::context::Context;
use crate::delivery::RetrySeries;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::ready::{Attempt, Holds};
use crate::recorder::Recorded;
use crate::solo::{SharedGuard, SoloGuard};
use crate::webhook_cache::TRUSTED;
use crate::webhook_health::{changed_health, note_health};
use crate::{metrics, slow_attempt, telemetry};

/// The age after which a webhook is read again before its request is sent. It is shorter than a wait
/// for the limiter, for memory or for the recorder.
const RECHECK_AFTER: Duration = Duration::from_millis(500);

/// Makes an attempt and records it; returns the follow-up.
pub(crate) fn attempt<'a>(
    context: &'a Context,
    attempt: &'a Attempt<'_>,
    holds: Holds<'a>,
) -> impl Future<Output = Result<Option<FollowUp>, WorkerError>> + 'a {
    let span = telemetry::deliver(attempt.traceparent, attempt.due);
    send_and_record(context, attempt, holds).instrument(span)
}

async fn send_and_record(
    context: &Context,
    attempt: &Attempt<'_>,
    mut holds: Holds<'_>,
) -> Result<Option<FollowUp>, WorkerError> {
    context.recorder.ready().await;
    // Held until the row is written.
    let _solo_turn = match holds.solo.take() {
        Some(solo) => SoloTurn::Solo(solo),
        None => SoloTurn::Shared(context.solo.shared().await),
    };
    if let Some(slot) = holds.slot {
        slot.wait().await;
    }
    let mut read = None;
    if let Some(follow_up) = postpone(context, attempt, &holds, &mut read).await? {
        if let Some(held) = holds.held {
            Box::pin(context.release(attempt.due, held)).await?;
        }
        failpoint!(WorkerPostpones, [attempt.due]);
        return Ok(Some(follow_up));
    }
    let webhook = read.as_deref().unwrap_or(attempt.webhook);
    // Held until the body is gone.
    let _memory = holds.memory.take();
    let sent = send(context, attempt, &mut holds, webhook).await;
    failpoint!(WorkerSends, [attempt.due]);
    holds.permit.end(sent.is_success(), sent.duration);
    conclude(context, attempt, webhook, sent).await
}

/// The follow-up of an attempt that may not begin now; `None` if it may. A webhook that is read again
/// is put into `read`.
async fn postpone(
    context: &Context,
    attempt: &Attempt<'_>,
    holds: &Holds<'_>,
    read: &mut Option<Arc<Webhook>>,
) -> Result<Option<FollowUp>, WorkerError> {
    let due = attempt.due;
    let is_current = is_current(context, attempt, holds.from, read).await?;
    if !is_current || !holds.held.is_none_or(|held| context.may_begin(held)) {
        let delay = Delay::at_least(Duration::from_secs(1));
        return Ok(Some(if due.sequence == 1 {
            FollowUp::First { due, delay }
        } else {
            FollowUp::Retry { due, delay }
        }));
    }
    // The receiver may have asked for a wait while this attempt waited for its limiters.
    let webhook = read.as_deref().unwrap_or(attempt.webhook);
    let deferred = context.pacer.held(webhook, attempt.series.started_at);
    Ok(deferred.map(|deferred| FollowUp::deferred(context, due, deferred)))
}

/// A POST that was made, and what came of it.
struct Sent {
    /// When it began, by the database's clock.
    at: DateTime<Utc>,
    body: Bytes,
    answer: Answer,
    trace: Option<Box<Trace>>,
    duration: Duration,
}

impl Sent {
    /// Whether the endpoint counts as healthy: a 2xx, or a 410, which is an orderly refusal.
    fn is_success(&self) -> bool {
        matches!(self.answer, Answer::Response { status: 200..=299 | 410, .. })
    }

    fn status(&self) -> Option<u16> {
        match &self.answer {
            Answer::Response { status, .. } => Some(*status),
            Answer::Failed { .. } => None,
        }
    }
}

/// Renders, signs and sends a notification.
async fn send(
    context: &Context,
    attempt: &Attempt<'_>,
    holds: &mut Holds<'_>,
    webhook: &Webhook,
) -> Sent {
    let (due, id, number) = (attempt.due, attempt.due.id(), attempt.number());
    let at = context.now();
    let notifications = attempt.notifications.iter().copied();
    let body: Bytes = render(id, number, &webhook.properties, notifications).into();
    let span = telemetry::post(webhook, due, number);
    let traceparent = propagation::traceparent(&span, attempt.traceparent);
    let traceparent = traceparent.as_deref();
    let (own, secrets) = (&webhook.headers, &webhook.secrets);
    let headers = UnsignedRequest { own, secrets, id, at, traceparent, body: &body }.sign();
    let in_flight = context.config.metrics.in_flight();
    let began = Instant::now();
    let client = &context.config.client;
    // Boxed because it is large: thousands of deliveries may wait here.
    let mut sending = Box::pin(client.post_traced(&webhook.uri, &headers, body.clone()));
    let (answer, trace) = slow_attempt::answer(context, attempt, holds, sending.as_mut()).await;
    drop(sending);
    let duration = began.elapsed();
    drop(in_flight);
    telemetry::end(&span, &answer);
    Sent { at, body, answer, trace, duration }
}

/// Decides what follows from a POST, and records it; returns the follow-up.
async fn conclude(
    context: &Context,
    attempt: &Attempt<'_>,
    webhook: &Webhook,
    mut sent: Sent,
) -> Result<Option<FollowUp>, WorkerError> {
    let series = &attempt.series;
    let feedback = context.pacer.feedback(webhook, &sent.answer, sent.at);
    let next = next(context, series, &sent.answer);
    if next == Next::Gone {
        Box::pin(pause_gone(context, webhook)).await;
        failpoint!(WorkerPauses, [attempt.due]);
    }
    let entry = entry(context, attempt, &mut sent, next);
    log_attempt(webhook, &entry);
    // Concurrent with the record, which must not wait for it: the POST was made, even if its feedback
    // can't be stored.
    let learn = |feedback| Box::pin(context.pacer.learn(webhook, feedback));
    let learned = OptionFuture::from(feedback.map(learn));
    let (recorded, _) = join(context.recorder.record(entry), learned).await;
    let recorded = recorded?;
    failpoint!(WorkerRecords, [attempt.due]);
    metrics::attempt(context, &sent.answer, sent.duration, next, series.started_at);
    if let Some(health) = changed_health(webhook, series, sent.is_success()) {
        // Boxed because it is rare: the futures of thousands of attempts stay small.
        Box::pin(note_health(context, webhook, health)).await?;
    }
    match recorded {
        Recorded::Ours => Ok(follow_up(attempt, webhook, sent, next)),
        Recorded::Another => Box::pin(FollowUp::of_row(context, attempt.due)).await,
    }
}

/// Pauses a webhook whose receiver answered 410, before the row is written: if the worker dies in
/// between, the next attempt pauses it. The row is written in any case, because the POST was made.
async fn pause_gone(context: &Context, webhook: &Webhook) {
    let store = &context.config.store;
    let pause = || store.address_pause(webhook.id, &webhook.uri, &PauseReason::Gone);
    match context.recorder.retry_until_available(pause).await {
        Ok(true) => {
            context.config.metrics.paused(&PauseReason::Gone);
            tracing::warn!(
                webhook.id = %webhook.id, webhook.origin = webhook.uri.origin(),
                "paused a webhook whose receiver answered 410"
            );
        }
        // It was paused already, or has another address now.
        Ok(false) => {}
        Err(error) => tracing::warn!(
            webhook.id = %webhook.id, error = chain(&error),
            "failed to pause a webhook whose receiver answered 410; its next delivery pauses it"
        ),
    }
}

/// The row of an attempt.
fn entry(context: &Context, attempt: &Attempt<'_>, sent: &mut Sent, next: Next) -> Entry {
    let (state, reason, delay) = match next {
        Next::Delivered | Next::Gone => (State::Delivered, None, None),
        Next::RetryIn(wait) => (State::Retrying, None, Some(wait)),
        Next::Dead(reason) => (State::Dead, Some(reason), None),
    };
    Entry {
        due: attempt.due,
        attempt: attempt.number(),
        tries: attempt.series.attempts_in_series + 1,
        since: attempt.series.started_at,
        state,
        reason: reason.map(DeadReason::code),
        detail: attempt.detail.clone(),
        post: Some(post(&sent.answer, sent.duration, sent.trace.take())),
        at: sent.at,
        next_attempt_at: delay.map(|wait| context.now() + retry_delay(wait)),
        revision: attempt.series.revision,
    }
}

/// The follow-up of an attempt that is in the ledger.
fn follow_up(attempt: &Attempt<'_>, webhook: &Webhook, sent: Sent, next: Next) -> Option<FollowUp> {
    let due = attempt.due;
    match next {
        Next::Delivered | Next::Gone => None,
        Next::RetryIn(wait) => {
            let due = AttemptRef { sequence: due.sequence + 1, ..due };
            Some(FollowUp::Retry { due, delay: Delay::at_least(wait) })
        }
        Next::Dead(reason) => Some(FollowUp::Dead(Box::new(DeadDelivery {
            due,
            reason: reason.code().to_owned(),
            owner: webhook.owner.to_string(),
            events: attempt.event_ids.iter().map(|id| (*id).to_owned()).collect(),
            attempts: attempt.number(),
            last_status: sent.status().map(i32::from),
            body: sent.body,
        }))),
    }
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
    attempt: &Attempt<'_>,
    from: Instant,
    read: &mut Option<Arc<Webhook>>,
) -> Result<bool, WorkerError> {
    if attempt.by_plan && !plan_holds(attempt.series.started_at, context.now()) {
        return Ok(false);
    }
    let (mut known, mut longest) = (from, RECHECK_AFTER);
    // After `RECORD_MARGIN` another worker may consider the attempt lost, so it needs a claim first.
    while from.elapsed() <= RECORD_MARGIN {
        if known.elapsed() <= longest {
            return Ok(true);
        }
        (known, longest) = (Instant::now(), TRUSTED);
        let ids = [attempt.webhook.id];
        let mut found = context.retry_until_available(|| context.webhooks.get(&ids)).await?;
        *read = found.webhooks.remove(&attempt.webhook.id).filter(|webhook| !webhook.paused);
        if read.is_none() {
            return Ok(false);
        }
    }
    Ok(false)
}

fn next(context: &Context, series: &RetrySeries, answer: &Answer) -> Next {
    let progress = Progress {
        attempts_in_series: u32::try_from(series.attempts_in_series + 1).unwrap_or(u32::MAX),
        since: series.started_at,
        now: context.now(),
    };
    decide(&context.config.policy, answer, progress, fastrand::f64())
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
