//! What is asked first of a delivery whose time has come: has its webhook a slot for it, and does its
//! endpoint get a request now.

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use futures_util::future::try_join_all;

use super::Taken;
use crate::context::Context;
use crate::error::WorkerError;
use crate::gate::{Deferred, Pass};
use crate::pacer::{Slot, Turn, Waiting};
use crate::webhooks::Found;

/// How the pacer and the gate answered for a delivery.
pub(super) enum Entry {
    /// It may go.
    Pass(Pass),
    /// It may go when its slot comes.
    Soon(Waiting),
    /// It may not go now.
    Deferred(Deferred),
    /// It was not asked: the webhook gets nothing.
    NoNeed,
    /// Nobody knows what the webhook wants.
    Unreadable,
}

pub(super) async fn enter(
    context: &Context,
    taken: &[Taken],
    again: bool,
) -> Result<Vec<Entry>, WorkerError> {
    let ids: Vec<WebhookId> = taken.iter().map(|taken| taken.due.webhook).collect();
    let Found { webhooks, unreadable } = context.patiently(|| context.webhooks.get(&ids)).await?;
    let enter = async |taken: &Taken| {
        let id = &taken.due.webhook;
        match webhooks.get(id).filter(|webhook| !webhook.paused) {
            None if unreadable.contains(id) => Ok(Entry::Unreadable),
            None => Ok(Entry::NoNeed),
            Some(webhook) => one(context, webhook, again, taken.slot).await,
        }
    };
    try_join_all(taken.iter().map(enter)).await
}

/// Asks the pacer for a slot, unless the delivery has one, and then the gate.
async fn one(
    context: &Context,
    webhook: &Webhook,
    again: bool,
    slot: Option<Slot>,
) -> Result<Entry, WorkerError> {
    if slot.is_none() {
        match context.pacer.turn(context, webhook, again).await? {
            Turn::Free => {}
            Turn::Soon(waiting) => return Ok(Entry::Soon(waiting)),
            Turn::Defer(deferred) => return Ok(Entry::Deferred(deferred)),
        }
    }
    Ok(match context.gate.enter(webhook, again).await {
        Ok(pass) => Entry::Pass(pass),
        Err(deferred) => Entry::Deferred(deferred),
    })
}

/// Lets a delivery through that its webhook's hold would keep beyond its deadline, when it is time
/// for its last attempt. `since` is when the delivery began.
pub(super) async fn despite_hold(
    context: &Context,
    webhook: &Webhook,
    deferred: Deferred,
    since: DateTime<Utc>,
) -> Result<Pass, Deferred> {
    match context.pacer.but_for_deadline(context, webhook.id, deferred, since) {
        Some(deferred) => Err(deferred),
        None => context.gate.enter(webhook, true).await,
    }
}
