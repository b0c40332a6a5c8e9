//! Attempting again all that is dead of a webhook: the one way for the API and the pages.
//!
//! A resend is a row that consoles work on step by step, so that anybody can see how far it has
//! come, and can cancel it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use fanfare_store::deliveries::{NewResend, Resend, ResendProgress};
use fanfare_store::{Store, StoreError};
use uuid::Uuid;

use crate::webhooks::{self, WebhookError};
use crate::{Actor, Context, NotReceiving};

/// The most deliveries that are counted before a resend begins.
const MOST_COUNTED: i64 = 100_000;
/// The most resends of one owner that are open at a time.
const MOST_OPEN: i64 = 5;
/// The same form sent again within this time is the same wish: a person clicked twice.
const DOUBLE_CLICK: Duration = Duration::from_secs(10);

/// How many deliveries are dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How many were counted.
    pub count: i64,
    /// Whether there are more than that.
    pub more: bool,
}

/// Where the wish for a resend comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A person confirmed a form, which may be sent twice by mistake.
    Form,
    /// A program asked, and means what it says each time.
    Program,
}

/// Which resend of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that was asked for last.
    Newest,
    /// The one with this id.
    Id(Uuid),
}

/// How far a resend has come.
#[derive(Debug)]
pub struct Progress {
    /// The webhook.
    pub webhook: Webhook,
    /// The resend.
    pub resend: Resend,
    /// What became of the deliveries that were begun.
    pub became: ResendProgress,
}

/// Why a resend did not begin, or is not shown.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// The actor may not see the webhook, or it could not be read.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// There is no such resend.
    #[error("no resend was asked for")]
    Unknown,
    /// The webhook is sent nothing.
    #[error(transparent)]
    NotReceiving(#[from] NotReceiving),
    /// The owner has as many open resends of other webhooks as one may have.
    #[error("the owner has {MOST_OPEN} resends that are not done yet; wait, or cancel one")]
    TooMany,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts what is dead of a webhook and of a series of attempts that began at `since` or later.
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

/// Begins a resend. When one of this webhook is open, that one is returned and none begins.
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
    let by = &actor.to_string();
    let wanted = NewResend { webhook, since, by, same_within };
    let resend = context.store.resend_ask(&wanted, MOST_OPEN).await?.ok_or(ResendError::TooMany)?;
    tracing::info!(
        webhook.id = %webhook, resend.id = %resend.id, by, since = %resend.since,
        total = resend.total, "asked to attempt again what is dead"
    );
    context.resend_begun.notify_one();
    Ok(resend)
}

/// Shows how far a resend has come.
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

/// Cancels a resend and shows how far it came. What was not begun stays dead. One that has ended is
/// left alone.
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
    if context.store.resend_cancel(webhook, id).await? {
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
