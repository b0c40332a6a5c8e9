//! Attempts that need a claim: all but the first attempts of jobs that the broker delivers for the
//! first time.
//!
//! Three things are checked in this order: whether the endpoint may get a request now (`admission`),
//! whether another worker has the attempt (a claim, in `load`), and what `decision` says about it.

mod admission;
mod load;
mod start;

use std::time::Duration;

use fanfare_broker::Delay;
use fanfare_core::chain::chain as error_chain;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::{Due, Unit};
use fanfare_core::outcome::{DropReason, decided_again};
use fanfare_core::webhook::Webhook;
use fanfare_metrics::Deferral;
use fanfare_store::attempts::{DeliveryHistory, PlannedEvent};
use fanfare_store::holder::GRACE;
use futures_util::future::{join, join_all};
use tokio::sync::OwnedSemaphorePermit;

use crate::claimer::HeldLease;
use crate::context::Context;
use crate::decision::{Decision, time_left};
use crate::due_delivery::{AttemptKind, DueDelivery};
use crate::ending::{self, drop_delivery};
use crate::endpoint_limiter::{Arrival, Deferred};
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::follow_up_publisher::FollowUpPublisher;
use crate::guard::{DeliveryGuard, JobGuard};
use crate::ledger_lost;
use crate::series::RetrySeries;
use crate::webhook_cache::Found;
use admission::{Admission, admit};
use load::{Loaded, load};
use start::Start;

/// The shortest delay of the ladder.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The delay of an attempt whose lease is void if its holder is still gone then.
const UNTIL_VOID: Duration = GRACE.saturating_add(Duration::from_secs(1));

/// The delay of a solo attempt that can't be made while others are under way.
const WAIT_FOR_SOLO: Duration = Duration::from_secs(4);

/// The most bytes of a delivery's notifications that are read together with those of other
/// deliveries. Larger ones are read alone.
const INLINE: usize = 16 * 1024;

/// The value for `inline` when no notifications are needed.
const NO_PAYLOAD: usize = 0;

/// Defers first attempts that are in doubt, because another worker may have made them or be making
/// them. An attempt without a row in the ledger comes back as a job by reference after `wait`, when
/// the doubt is over. `units` are the events that their job carries.
pub(crate) async fn defer(
    context: &Context,
    publisher: &FollowUpPublisher,
    dues: &[Due],
    units: &[Unit],
    wait: Duration,
) -> Result<(), WorkerError> {
    let (histories, found) = read(context, dues, NO_PAYLOAD).await?;
    let mut follow_ups = Vec::new();
    for (due, history) in dues.iter().zip(&histories) {
        if history.last.is_some() {
            follow_ups.extend(FollowUp::of_row(context, *due).await?);
        } else if history.events.is_empty() {
            let webhook = found.webhooks.get(&due.webhook).map(AsRef::as_ref);
            follow_ups.push(ledger_lost::letter(context, *due, units, webhook)?);
        } else {
            context.config.metrics.deferred(Deferral::Uncertain);
            let (kind, delay) = (AttemptKind::First, Delay::at_least(wait));
            follow_ups.push(FollowUp::InDoubt { due: *due, kind, delay });
        }
    }
    publisher.publish(follow_ups).await
}

/// Attempts deliveries concurrently, records the attempts and publishes their follow-ups. Each
/// delivery gives back its part of `permit` and releases its job when it is over or slow, so that
/// each job is settled on its own. `units` are the events that the job carries, if it carries any.
pub(crate) async fn attempt_each(
    context: &Context,
    publisher: &FollowUpPublisher,
    deliveries: Vec<(DueDelivery, JobGuard)>,
    units: &[Unit],
    mut permit: OwnedSemaphorePermit,
) {
    // A job by reference may have been deferred before.
    let arrival = if units.is_empty() { Arrival::Returning } else { Arrival::New };
    let each: Vec<DueDelivery> = deliveries.iter().map(|(delivery, _)| *delivery).collect();
    let admissions = match admit(context, &each, arrival).await {
        Ok(admissions) => admissions,
        Err(error) => return fail_all(&error, deliveries),
    };
    // A delivery whose slot comes soon is attempted at its slot. The others do not wait for it.
    let (mut now, mut now_admissions, mut soon) = (Vec::new(), Vec::new(), Vec::new());
    for ((delivery, job), admission) in deliveries.into_iter().zip(admissions) {
        if let Admission::Soon(waiting) = admission {
            let own_permit = permit.split(1);
            soon.push(async move {
                let delivery = DueDelivery { slot: Some(waiting.wait().await), ..delivery };
                match admit(context, &[delivery], arrival).await {
                    Ok(admissions) => {
                        let admitted = (vec![(delivery, job)], admissions);
                        attempt_now(context, publisher, admitted, units, own_permit).await;
                    }
                    Err(error) => fail_all(&error, vec![(delivery, job)]),
                }
            });
        } else {
            now.push((delivery, job));
            now_admissions.push(admission);
        }
    }
    let at_once = attempt_now(context, publisher, (now, now_admissions), units, Some(permit));
    join(Box::pin(at_once), join_all(soon.into_iter().map(Box::pin))).await;
}

/// Attempts deliveries after the pacer and the limiter have answered.
async fn attempt_now(
    context: &Context,
    publisher: &FollowUpPublisher,
    (deliveries, admissions): (Vec<(DueDelivery, JobGuard)>, Vec<Admission>),
    units: &[Unit],
    mut permit: Option<OwnedSemaphorePermit>,
) {
    let each: Vec<DueDelivery> = deliveries.iter().map(|(delivery, _)| *delivery).collect();
    let loaded = match load(context, publisher, &each, &admissions).await {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return,
        Err(error) => return fail_all(&error, deliveries),
    };
    let Loaded { deferred, histories, decisions, found, held } = loaded;
    let mut decided = histories.into_iter().zip(decisions);
    let mut each = Vec::with_capacity(deliveries.len());
    for (((delivery, job), deferred), admission) in
        deliveries.into_iter().zip(deferred).zip(admissions)
    {
        let own_permit = permit.as_mut().and_then(|permit| permit.split(1));
        let mut guard = DeliveryGuard::new(job, own_permit);
        let webhook = found.webhooks.get(&delivery.due.webhook).map(AsRef::as_ref);
        let next = if deferred.is_none() { decided.next() } else { None };
        each.push(async move {
            let follow_up = match (deferred, next) {
                (None, Some((history, decision))) => {
                    let history = &history;
                    let claimed = Claimed { delivery, history, units, webhook, held };
                    act(context, claimed, decision, admission, &mut guard).await
                }
                (deferred, _) => {
                    Ok(deferred.map(|it| FollowUp::deferred(context, delivery.due, it)))
                }
            };
            guard.release_permit();
            let result = match follow_up {
                Ok(follow_up) => {
                    publisher.publish(follow_up.map(|it| delivery.keep_doubt(it))).await
                }
                Err(error) => Err(error),
            };
            guard.end(result);
        });
    }
    drop(permit);
    join_all(each).await;
}

/// Requeues the jobs of deliveries that could not be admitted or loaded.
fn fail_all(error: &WorkerError, deliveries: Vec<(DueDelivery, JobGuard)>) {
    // All have the same reason, which is logged once.
    tracing::warn!(error = error_chain(error), "failed to attempt due jobs; they are requeued");
    for (_, job) in deliveries {
        job.fail(WorkerError::NotPublished);
    }
}

/// Publishes each delivery of a job that was redelivered several times as a job of its own: one of
/// them may end its worker each time, and the others must not end with it. For an attempt that has
/// its row, the follow-up is published again.
pub(crate) async fn split(
    context: &Context,
    publisher: &FollowUpPublisher,
    deliveries: &[DueDelivery],
) -> Result<(), WorkerError> {
    let dues: Vec<Due> = deliveries.iter().map(|delivery| delivery.due).collect();
    let (histories, _) = read(context, &dues, NO_PAYLOAD).await?;
    let mut follow_ups = Vec::with_capacity(deliveries.len());
    for (delivery, history) in deliveries.iter().zip(&histories) {
        if history.last.as_ref().is_some_and(|last| last.entry >= delivery.due.entry) {
            follow_ups.extend(FollowUp::of_row(context, delivery.due).await?);
        } else {
            follow_ups.push(delivery.again(AT_ONCE));
        }
    }
    publisher.publish(follow_ups).await
}

/// A claimed delivery with what was read about it.
#[derive(Clone, Copy)]
struct Claimed<'a> {
    delivery: DueDelivery,
    history: &'a DeliveryHistory,
    /// The events that its job carries.
    units: &'a [Unit],
    webhook: Option<&'a Webhook>,
    held: HeldLease,
}

/// Carries out a decision; returns the follow-up.
async fn act(
    context: &Context,
    claimed: Claimed<'_>,
    decision: Decision,
    admission: Admission,
    guard: &mut DeliveryGuard,
) -> Result<Option<FollowUp>, WorkerError> {
    let Claimed { delivery, webhook, history, .. } = claimed;
    let due = delivery.due;
    let defer = |deferred| FollowUp::deferred(context, due, deferred);
    match decision {
        Decision::Attempt { events, by_plan, solo } => {
            let Some(webhook) = webhook else { return Ok(None) };
            let start = Start { webhook, events, by_plan, solo, guard };
            // Boxed because it is large: thousands of deliveries may wait here.
            Box::pin(start.attempt(context, claimed, admission)).await
        }
        Decision::Drop(reason) => drop_claimed(context, claimed, reason).await,
        Decision::Contended => {
            context.config.metrics.deferred(Deferral::Claimed);
            Ok(Some(delivery.again(context.until_free())))
        }
        Decision::HolderGone => {
            context.config.metrics.deferred(Deferral::Claimed);
            Ok(Some(delivery.again(UNTIL_VOID)))
        }
        Decision::DirectoryHeld => {
            not_begun(context, claimed, defer(Deferred::DIRECTORY_HELD)).await
        }
        Decision::Unreadable => not_begun(context, claimed, defer(Deferred::UNREADABLE)).await,
        Decision::NotYetDue => {
            // Its permit is for deliveries whose time has come.
            drop(admission);
            not_yet_due(context, claimed).await
        }
        Decision::GiveUp(reason) => {
            let series = RetrySeries::of(history);
            ending::give_up(context, due, series, reason).await
        }
        Decision::Lost => {
            let letter = ledger_lost::letter(context, due, claimed.units, webhook)?;
            not_begun(context, claimed, letter).await
        }
        Decision::RepublishFollowUp => FollowUp::of_row(context, due).await,
        Decision::OutOfSequence => {
            context.release(due, claimed.held).await?;
            Ok(None)
        }
        Decision::Superseded => Ok(None),
    }
}

/// Records that a claimed delivery is dropped, with a sentence that says why.
async fn drop_claimed(
    context: &Context,
    claimed: Claimed<'_>,
    reason: DropReason,
) -> Result<Option<FollowUp>, WorkerError> {
    let Claimed { delivery, history, webhook, .. } = claimed;
    let owner = webhook.map_or("", |webhook| webhook.owner.as_str());
    let subjects: Vec<&str> = history.events.iter().map(|event| event.subject.as_str()).collect();
    let detail = reason.sentence(owner, &subjects, history.revision);
    let detail = match reason {
        DropReason::WebhookDeleted | DropReason::WebhookPaused => detail,
        DropReason::OwnerDisabled | DropReason::OwnerDeleted | DropReason::AccessRevoked => {
            after_wait(context, history, detail)
        }
    };
    let series = RetrySeries::of(history);
    drop_delivery(context, delivery.due, series, reason, detail).await
}

/// Releases the claim of an attempt that is not begun now.
async fn not_begun(
    context: &Context,
    claimed: Claimed<'_>,
    follow_up: FollowUp,
) -> Result<Option<FollowUp>, WorkerError> {
    context.release(claimed.delivery.due, claimed.held).await?;
    Ok(Some(follow_up))
}

/// Publishes a retry again whose time has not come. All retries arrive too early while a policy of the
/// broker lets messages expire sooner than the queues of the delay ladder do. It waits first, so that
/// such a policy can't make the same jobs circulate without a pause.
async fn not_yet_due(
    context: &Context,
    claimed: Claimed<'_>,
) -> Result<Option<FollowUp>, WorkerError> {
    context.config.metrics.deferred(Deferral::Early);
    context.release(claimed.delivery.due, claimed.held).await?;
    let left = || time_left(claimed.history, context.now()).unwrap_or_default();
    tokio::time::sleep(left().min(AT_ONCE)).await;
    Ok(Some(claimed.delivery.again(left())))
}

/// Adds to a detail that the decision was made again because a first attempt had waited for too long,
/// if that is so.
fn after_wait(context: &Context, history: &DeliveryHistory, detail: String) -> String {
    match (&history.last, history.events.first()) {
        (None, Some(event)) => decided_again(&detail, event.received_at, context.now()),
        _ => detail,
    }
}

/// The reason why some of a delivery's events are left out; `None` if all are sent.
fn left_out(history: &DeliveryHistory, webhook: &Webhook, sent: &[usize]) -> Option<String> {
    let out = |(index, event): (usize, &'_ PlannedEvent)| {
        (!sent.contains(&index)).then(|| event.subject.clone())
    };
    let subjects: Vec<String> = history.events.iter().enumerate().filter_map(out).collect();
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let why = DropReason::AccessRevoked;
    let why = || why.sentence(webhook.owner.as_str(), &subjects, history.revision);
    (!subjects.is_empty()).then(|| format!("{} events left out: {}", subjects.len(), why()))
}

/// Reads the webhooks of deliveries and their histories. A history has its notifications if these
/// have at most `inline` bytes.
async fn read(
    context: &Context,
    dues: &[Due],
    inline: usize,
) -> Result<(Vec<DeliveryHistory>, Found), WorkerError> {
    let store = &context.config.store;
    let histories =
        context.retry_until_available(|| store.delivery_histories(dues, inline)).await?;
    let ids: Vec<WebhookId> = dues.iter().map(|due| due.webhook).collect();
    let found = context.retry_until_available(|| context.webhooks.get(&ids)).await?;
    Ok((histories, found))
}
