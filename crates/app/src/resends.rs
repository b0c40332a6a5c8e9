//! Resends: retrying all dead deliveries of a webhook, for the API and the pages.
//!
//! A resend is a row that consoles process step by step, so that its progress is visible and it can
//! be cancelled.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use fanfare_store::deliveries::{NewResend, Resend, ResendProgress};
use fanfare_store::{Store, StoreError};
use uuid::Uuid;

use crate::webhooks::{self, WebhookError};
use crate::{Actor, Context, NotReceiving};

/// The maximum number of deliveries that are counted before a resend begins.
const MOST_COUNTED: i64 = 100_000;
/// The maximum number of open resends of one owner.
const MOST_OPEN: i64 = 5;
/// The same form sent again within this time is the same request: the person clicked twice.
const DOUBLE_CLICK: Duration = Duration::from_secs(10);

/// The number of dead deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The number of deliveries that were counted.
    pub count: i64,
    /// Whether there are more than the counted ones.
    pub more: bool,
}

/// Where a request for a resend comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A person submitted a form, which may be sent twice by mistake.
    Form,
    /// A program sent it, and each request counts.
    Program,
}

/// A choice among the resends of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest resend.
    Newest,
    /// The resend with this id.
    Id(Uuid),
}

/// The progress of a resend.
#[derive(Debug)]
pub struct Progress {
    pub webhook: Webhook,
    pub resend: Resend,
    /// The states of the deliveries that were retried.
    pub became: ResendProgress,
}

/// Why a resend did not begin, or can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// The actor may not see the webhook, or it could not be read.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// There is no such resend.
    #[error("there is no such resend")]
    Unknown,
    /// The webhook receives nothing.
    #[error(transparent)]
    NotReceiving(#[from] NotReceiving),
    /// The owner already has the maximum number of open resends of other webhooks.
    #[error("the owner has {MOST_OPEN} resends that are not done yet; wait, or cancel one")]
    TooMany,
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts the dead deliveries of a webhook whose series of attempts began at `since` or later.
///
/// # Errors
///
/// [`ResendError`]
pub async fn count(
    context: &Context,
    actor: &Actor,
    webhook: WebhookId,
    since: DateTime<Utc>,
) -> Result<Counted, ResendError> {
    webhooks::find(context, actor, webhook).await?;
    let found = context.store.deliveries_dead(webhook, since, MOST_COUNTED + 1).await?;
    Ok(Counted { count: found.min(MOST_COUNTED), more: found > MOST_COUNTED })
}

/// Begins a resend. If the webhook has an open resend, this returns that one and begins none.
///
/// # Errors
///
/// [`ResendError`]
pub async fn begin(
    context: &Context,
    actor: &Actor,
    webhook: WebhookId,
    since: DateTime<Utc>,
    origin: Origin,
) -> Result<Resend, ResendError> {
    if webhooks::find(context, actor, webhook).await?.paused {
        return Err(NotReceiving::Paused(webhook).into());
    }
    let same_within = match origin {
        Origin::Form => DOUBLE_CLICK,
        Origin::Program => Duration::ZERO,
    };
    let (by, author) = (&actor.to_string(), &actor.author());
    let wanted = NewResend { webhook, since, by, author, same_within };
    let resend = context.store.resend_ask(&wanted, MOST_OPEN).await?.ok_or(ResendError::TooMany)?;
    tracing::info!(
        webhook.id = %webhook, resend.id = %resend.id, by, since = %resend.since,
        total = resend.total, "requested a resend of dead deliveries"
    );
    context.resend_begun.notify_one();
    Ok(resend)
}

/// Shows the progress of a resend.
///
/// # Errors
///
/// [`ResendError`]
pub async fn show(
    context: &Context,
    actor: &Actor,
    webhook: WebhookId,
    which: Which,
) -> Result<Progress, ResendError> {
    let webhook = webhooks::find(context, actor, webhook).await?;
    let resend = find(&context.store, webhook.id, which).await?;
    let became = context.store.resend_progress(webhook.id, &resend).await?;
    Ok(Progress { webhook, resend, became })
}

/// Cancels a resend and shows its progress. Deliveries that were not retried yet stay dead. A
/// resend that has ended does not change.
///
/// # Errors
///
/// [`ResendError`]
pub async fn cancel(
    context: &Context,
    actor: &Actor,
    webhook: WebhookId,
    which: Which,
) -> Result<Progress, ResendError> {
    webhooks::find(context, actor, webhook).await?;
    let Resend { id, .. } = find(&context.store, webhook, which).await?;
    if context.store.resend_cancel(webhook, id, &actor.author()).await? {
        tracing::info!(webhook.id = %webhook, resend.id = %id, by = %actor, "cancelled a resend");
    }
    show(context, actor, webhook, Which::Id(id)).await
}

async fn find(store: &Store, webhook: WebhookId, which: Which) -> Result<Resend, ResendError> {
    let found = match which {
        Which::Newest => store.resend_newest(webhook).await?,
        Which::Id(id) => store.resend_show(webhook, id).await?,
    };
    found.ok_or(ResendError::Unknown)
}
