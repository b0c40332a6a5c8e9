//! What must be known of deliveries before any of them is attempted: which of them are deferred,
//! which are claimed, and what the ledger has about the claimed ones.

use fanfare_core::job::Due;
use fanfare_core::suspect::Unrecorded;
use fanfare_failpoints::failpoint;
use fanfare_store::attempts::DeliveryHistory;
use fanfare_store::claims::Claim;

use super::admission::Admission;
use super::{INLINE, NO_PAYLOAD, read};
use crate::claimer::HeldLease;
use crate::context::Context;
use crate::decision::{Decision, decisions};
use crate::due_delivery::DueDelivery;
use crate::endpoint_limiter::Deferred;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::follow_up_publisher::FollowUpPublisher;
use crate::series::RetrySeries;
use crate::webhook_cache::Found;

/// What is known of deliveries before they are attempted.
pub(super) struct Loaded {
    /// One item for each delivery, in their order: `Some` if it is deferred.
    pub(super) deferred: Vec<Option<Deferred>>,
    /// The histories of the other deliveries, and the decision about each.
    pub(super) histories: Vec<DeliveryHistory>,
    pub(super) decisions: Vec<Decision>,
    pub(super) found: Found,
    pub(super) held: HeldLease,
}

/// Claims the admitted deliveries and reads their histories; `None` when all were deferred.
pub(super) async fn load(
    context: &Context,
    publisher: &FollowUpPublisher,
    deliveries: &[DueDelivery],
    admissions: &[Admission],
) -> Result<Option<Loaded>, WorkerError> {
    let deferred = still_owed(context, deliveries, admissions).await?;
    let (admitted, dues): (Vec<DueDelivery>, Vec<Due>) = deliveries
        .iter()
        .zip(&deferred)
        .filter_map(|(delivery, deferred)| deferred.is_none().then_some((*delivery, delivery.due)))
        .unzip();
    if dues.is_empty() {
        let follow_up = |(delivery, deferred): (&DueDelivery, Option<Deferred>)| {
            deferred.map(|it| delivery.keep_doubt(FollowUp::deferred(context, delivery.due, it)))
        };
        publisher.publish(deliveries.iter().zip(deferred).filter_map(follow_up)).await?;
        return Ok(None);
    }
    let (claims, held) = context.claim(&dues).await?;
    failpoint!(WorkerBegins, &dues);
    // The histories are read after the claim, so that they include what was recorded just before it.
    let (histories, found) = read(context, &dues, INLINE).await?;
    let decisions = decisions(context, &admitted, &claims, &histories, &found).await?;
    let ours = dues.iter().zip(&claims).filter(|(_, claim)| matches!(claim, Claim::Ours(_)));
    failpoint!(WorkerReads, ours.map(|(due, _)| due));
    Ok(Some(Loaded { deferred, histories, decisions, found, held }))
}

/// The deliveries that stay deferred. A deferred delivery that is no longer owed is taken out, so
/// that its end is recorded as for any other delivery.
async fn still_owed(
    context: &Context,
    deliveries: &[DueDelivery],
    admissions: &[Admission],
) -> Result<Vec<Option<Deferred>>, WorkerError> {
    let of = |(delivery, admission): (&DueDelivery, &Admission)| match admission {
        Admission::Deferred(deferred) => Some((*delivery, *deferred)),
        Admission::Permit(_) | Admission::Soon(_) | Admission::Unneeded | Admission::Unreadable => {
            None
        }
    };
    let deferred: Vec<Option<(DueDelivery, Deferred)>> =
        deliveries.iter().zip(admissions).map(of).collect();
    let (checked, dues): (Vec<DueDelivery>, Vec<Due>) =
        deferred.iter().flatten().map(|(delivery, _)| (*delivery, delivery.due)).unzip();
    let unreadable = |admission: &Admission| {
        matches!(admission, Admission::Unreadable).then_some(Deferred::UNREADABLE)
    };
    if checked.is_empty() {
        return Ok(admissions.iter().map(unreadable).collect());
    }
    let (histories, found) = read(context, &dues, NO_PAYLOAD).await?;
    let claims = vec![Claim::Ours(Unrecorded::default()); checked.len()];
    let decisions = decisions(context, &checked, &claims, &histories, &found).await?;
    let (mut decisions, mut histories) = (decisions.into_iter(), histories.iter());
    let deferral = |(deferred, admission): (Option<(DueDelivery, Deferred)>, &Admission)| {
        let Some((delivery, deferred)) = deferred else { return unreadable(admission) };
        let is_owed = matches!(decisions.next(), Some(Decision::Attempt { .. }));
        let started_at = RetrySeries::of(histories.next()?).started_at;
        let pacer = &context.pacer;
        // A delivery that must not wait any longer is handled as an admitted one.
        pacer.but_for_deadline(delivery.due.webhook, deferred, started_at).filter(|_| is_owed)
    };
    Ok(deferred.into_iter().zip(admissions).map(deferral).collect())
}
