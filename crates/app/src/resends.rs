//! Attempting again all that is dead of a webhook: the one way for the API and the pages.
//!
//! A resend is a row that consoles work on step by step, so that anybody can see how far it has
//! come, and can cancel it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;
use fanfare_store::deliveries::{NewResend, Resend};
use uuid::Uuid;

use crate::{Context, NotReceiving};

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

/// Why a resend did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
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
/// [`StoreError`]
pub async fn count(
    context: &Context,
    webhook: WebhookId,
    since: DateTime<Utc>,
) -> Result<Counted, StoreError> {
    let found = context.store.deliveries_dead(webhook, since, MOST_COUNTED + 1).await?;
    Ok(Counted { count: found.min(MOST_COUNTED), more: found > MOST_COUNTED })
}

/// Begins a resend. When one of this webhook is open, that one is returned and none begins.
///
/// # Errors
///
/// [`BeginError`]
pub async fn begin(
    context: &Context,
    by: &Name,
    webhook: &Webhook,
    since: DateTime<Utc>,
    origin: Origin,
) -> Result<Resend, BeginError> {
    if webhook.paused {
        return Err(NotReceiving::Paused(webhook.id).into());
    }
    let same_within = match origin {
        Origin::Form => DOUBLE_CLICK,
        Origin::Program => Duration::ZERO,
    };
    let wanted = NewResend { webhook: webhook.id, since, by, same_within };
    let resend = context.store.resend_ask(&wanted, MOST_OPEN).await?.ok_or(BeginError::TooMany)?;
    tracing::info!(
        webhook.id = %webhook.id, resend.id = %resend.id, %by, since = %resend.since,
        total = resend.total, "asked to attempt again what is dead"
    );
    context.resend_begun.notify_one();
    Ok(resend)
}

/// Cancels a resend of this webhook. What was not begun stays dead. One that has ended is left
/// alone.
///
/// # Errors
///
/// [`StoreError`]
pub async fn cancel(
    context: &Context,
    by: &Name,
    webhook: WebhookId,
    resend: Uuid,
) -> Result<(), StoreError> {
    if context.store.resend_cancel(webhook, resend).await? {
        tracing::info!(webhook.id = %webhook, resend.id = %resend, %by, "cancelled a resend");
    }
    Ok(())
}
