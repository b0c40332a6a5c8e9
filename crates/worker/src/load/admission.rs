//! The first check of a delivery: whether the pacer has a slot for its webhook, and whether the
//! limiter gives its endpoint a permit.

use chrono::{DateTime, Utc};
use fanfare_core::delivery::Deferred;
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use futures_util::future::try_join_all;

use crate::context::Context;
use crate::delivery::DueDelivery;
use crate::endpoint_limiter::{Arrival, Permit};
use crate::error::WorkerError;
use crate::pacer::{Slot, Turn, Waiting};
use crate::webhook_cache::Found;

/// The answer of the pacer and the limiter for a delivery.
pub(crate) enum Admission {
    /// It may be attempted now.
    Permit(Permit),
    /// It may be attempted when its slot comes.
    Soon(Waiting),
    /// It may not be attempted now.
    Deferred(Deferred),
    /// Neither was asked, because the webhook is paused or deleted.
    Unneeded,
    /// The webhook exists and can't be read.
    Unreadable,
}

pub(crate) async fn admit(
    context: &Context,
    deliveries: &[DueDelivery],
    arrival: Arrival,
) -> Result<Vec<Admission>, WorkerError> {
    let ids: Vec<WebhookId> = deliveries.iter().map(|delivery| delivery.due.webhook).collect();
    let Found { webhooks, unreadable } =
        context.retry_until_available(|| context.webhooks.get(&ids)).await?;
    let admit = async |delivery: &DueDelivery| {
        let id = &delivery.due.webhook;
        match webhooks.get(id).filter(|webhook| !webhook.paused) {
            None if unreadable.contains(id) => Ok(Admission::Unreadable),
            None => Ok(Admission::Unneeded),
            Some(webhook) => admit_one(context, webhook, arrival, delivery.slot).await,
        }
    };
    try_join_all(deliveries.iter().map(admit)).await
}

/// Asks the pacer for a slot, unless the delivery has one, and then the limiter for a permit.
pub(super) async fn admit_one(
    context: &Context,
    webhook: &Webhook,
    arrival: Arrival,
    slot: Option<Slot>,
) -> Result<Admission, WorkerError> {
    if slot.is_none() {
        match context.pacer.turn(webhook, arrival).await? {
            Turn::Free => {}
            Turn::Soon(waiting) => return Ok(Admission::Soon(waiting)),
            Turn::Defer(deferred) => return Ok(Admission::Deferred(deferred)),
        }
    }
    Ok(match context.limiter.acquire(webhook, arrival).await {
        Ok(permit) => Admission::Permit(permit),
        Err(deferred) => Admission::Deferred(deferred),
    })
}

/// Admits a delivery whose webhook's hold ends after the delivery's deadline, when it is time for its
/// last attempt. `started_at` is when its series began.
pub(crate) async fn admit_despite_hold(
    context: &Context,
    webhook: &Webhook,
    (deferred, arrival): (Deferred, Arrival),
    started_at: DateTime<Utc>,
) -> Result<Permit, Deferred> {
    match context.pacer.but_for_deadline(webhook.id, deferred, started_at) {
        Some(deferred) => Err(deferred),
        None => context.limiter.acquire(webhook, arrival).await,
    }
}
