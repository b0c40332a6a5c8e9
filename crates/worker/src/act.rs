//! Step 4 of a job: carries out the decision about a delivery, and returns what follows from it.
//!
//! - `start` waits until a decided attempt may begin, and [`attempt`](crate::attempt) makes it.
//! - `ending` records the end of a delivery without another attempt.

mod ending;
mod start;

use std::time::Duration;

use fanfare_core::delivery::{Decision, LastRow};
use fanfare_core::outcome::{DeadReason, DropReason, decided_again};
use fanfare_failpoints::failpoint;
use fanfare_metrics::Deferral;
use fanfare_store::holder::GRACE;

use crate::context::Context;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::guard::DeliveryGuard;
use crate::ledger_lost;
use crate::load::{Content, Loaded};
use ending::{drop_delivery, give_up};
use start::start;

/// The shortest delay of the ladder.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// The delay of an attempt whose lease is void if its holder is still gone then.
const UNTIL_VOID: Duration = GRACE.saturating_add(Duration::from_secs(1));

/// Carries out a decision; returns the follow-up.
pub(crate) async fn act(
    context: &Context,
    loaded: Box<Loaded<'_>>,
    decision: Decision,
    guard: &mut DeliveryGuard,
) -> Result<Option<FollowUp>, WorkerError> {
    let delivery = loaded.delivery;
    let defer = |deferred| FollowUp::deferred(context, delivery.due, deferred);
    match decision {
        Decision::Send(sending) => start(context, loaded, sending, guard).await,
        Decision::CheckAccess => not_begun(context, &loaded, delivery.again(AT_ONCE)).await,
        Decision::Defer(deferred) => not_begun(context, &loaded, defer(deferred)).await,
        Decision::Contended => {
            context.config.metrics.deferred(Deferral::Claimed);
            Ok(Some(delivery.again(context.until_free())))
        }
        Decision::HolderGone => {
            context.config.metrics.deferred(Deferral::Claimed);
            Ok(Some(delivery.again(UNTIL_VOID)))
        }
        Decision::NotYetDue => Box::pin(not_yet_due(context, loaded)).await,
        Decision::Drop(reason) => Box::pin(drop_for(context, &loaded, reason)).await,
        Decision::Dead(DeadReason::LedgerLost) => {
            let webhook = loaded.webhook.as_deref();
            let letter = ledger_lost::letter(context, delivery.due, loaded.groups, webhook)?;
            not_begun(context, &loaded, letter).await
        }
        Decision::Dead(reason) => {
            Box::pin(give_up(context, delivery.due, loaded.series, reason)).await
        }
        Decision::RepublishFollowUp => Box::pin(FollowUp::of_row(context, delivery.due)).await,
        Decision::OutOfSequence => {
            release(context, &loaded).await?;
            Ok(None)
        }
        Decision::Superseded => Ok(None),
    }
}

/// Releases the lease of an attempt that is not begun now.
async fn not_begun(
    context: &Context,
    loaded: &Loaded<'_>,
    follow_up: FollowUp,
) -> Result<Option<FollowUp>, WorkerError> {
    if loaded.held.is_some() {
        release(context, loaded).await?;
        failpoint!(WorkerReleasesLease, [loaded.delivery.due]);
    }
    Ok(Some(follow_up))
}

/// Releases the lease of a delivery, if it has one.
async fn release(context: &Context, loaded: &Loaded<'_>) -> Result<(), WorkerError> {
    match loaded.held {
        // Boxed because it is rare: the futures of thousands of attempts stay small.
        Some(held) => Box::pin(context.release(loaded.delivery.due, held)).await,
        None => Ok(()),
    }
}

/// Publishes a retry again whose time has not come. All retries arrive too early while a policy of the
/// broker lets messages expire sooner than the queues of the delay ladder do. It waits first, so that
/// such a policy can't make the same jobs circulate without a pause.
async fn not_yet_due(
    context: &Context,
    loaded: Box<Loaded<'_>>,
) -> Result<Option<FollowUp>, WorkerError> {
    context.config.metrics.deferred(Deferral::Early);
    release(context, &loaded).await?;
    let Loaded { delivery, facts, admission, .. } = *loaded;
    // Its permit is for deliveries whose time has come.
    drop(admission);
    let time_left = |last: LastRow| last.time_left(context.now());
    let left = || facts.last.and_then(time_left).unwrap_or_default();
    tokio::time::sleep(left().min(AT_ONCE)).await;
    Ok(Some(delivery.again(left())))
}

/// Records that a delivery is dropped, with a sentence that says why.
async fn drop_for(
    context: &Context,
    loaded: &Loaded<'_>,
    reason: DropReason,
) -> Result<Option<FollowUp>, WorkerError> {
    let owner = loaded.webhook.as_deref().map_or("", |webhook| webhook.owner.as_str());
    let subjects: Vec<&str> = match &loaded.content {
        Content::Ledger(history) => {
            history.events.iter().map(|event| event.subject.as_str()).collect()
        }
        Content::Inline { .. } => Vec::new(),
    };
    let detail = reason.sentence(owner, &subjects, loaded.series.revision);
    let detail = match reason {
        DropReason::WebhookDeleted | DropReason::WebhookPaused | DropReason::PayloadRemoved => {
            detail
        }
        DropReason::Shadow => without_left_out(loaded, owner, &subjects, detail),
        DropReason::OwnerDisabled | DropReason::OwnerDeleted | DropReason::AccessRevoked => {
            after_wait(context, loaded, detail)
        }
    };
    drop_delivery(context, loaded.delivery.due, loaded.series, reason, detail).await
}

/// Adds to a detail which of the events would have been left out.
fn without_left_out(loaded: &Loaded<'_>, owner: &str, subjects: &[&str], detail: String) -> String {
    let denied = loaded.facts.denied.as_deref().unwrap_or_default();
    let denied: Vec<&str> =
        denied.iter().filter_map(|index| subjects.get(*index).copied()).collect();
    if denied.is_empty() {
        return detail;
    }
    let why = DropReason::AccessRevoked.sentence(owner, &denied, loaded.series.revision);
    format!("{detail}; {} events left out: {why}", denied.len())
}

/// Adds to a detail that the decision was made again because a first attempt had waited for too long,
/// if that is so.
fn after_wait(context: &Context, loaded: &Loaded<'_>, detail: String) -> String {
    match (loaded.facts.last, loaded.facts.planned_at) {
        (None, Some(planned_at)) => decided_again(&detail, planned_at, context.now()),
        _ => detail,
    }
}
