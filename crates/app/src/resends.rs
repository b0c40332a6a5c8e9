//! Resends: retrying all dead deliveries of a webhook, for the API and the pages.
//!
//! A resend is a bulk operation, so routers make its steps: see [`operations`](crate::operations). Here it is
//! begun, found by its webhook, and described as a resend.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::operation::{Change, Refusal, State};
use fanfare_core::webhook::Webhook;
use fanfare_store::operations::{NewResend, Operation};
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

/// A webhook and one of its resends.
#[derive(Debug)]
pub struct Progress {
    pub webhook: Webhook,
    pub resend: Resend,
}

/// A resend, with its progress.
#[derive(Debug, Clone)]
pub struct Resend {
    pub id: Uuid,
    /// It is for deliveries whose last series began at this time or later, and before `asked_at`.
    pub since: DateTime<Utc>,
    /// When it was requested.
    pub asked_at: DateTime<Utc>,
    /// The user who requested it.
    pub asked_by: String,
    /// The number of deliveries that were dead when it was requested.
    pub total: i64,
    /// The number of deliveries that were retried so far.
    pub begun: i64,
    /// Of these, the number that were delivered.
    pub delivered: i64,
    /// Of these, the number that have not ended yet.
    pub open: i64,
    /// Of these, the number that are dead again, or were dropped.
    pub failed: i64,
    /// The time and the reason of its end; `None` while it is open.
    pub ended: Option<(DateTime<Utc>, ResendEnd)>,
}

/// The reason for which a resend ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResendEnd {
    /// All of its deliveries were retried.
    Done,
    /// A user cancelled it.
    Cancelled,
    WebhookPaused,
    WebhookDeleted,
}

impl ResendEnd {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::WebhookPaused => "webhook-paused",
            Self::WebhookDeleted => "webhook-deleted",
        }
    }
}

impl Resend {
    /// Tells an operation in the words of a resend.
    #[must_use]
    pub fn of(operation: Operation) -> Self {
        let open = operation.open();
        let counts = operation.counts;
        let has_kept = |why: Refusal| counts.refused.contains_key(why.code());
        let ended = match operation.state {
            State::Cancelled => ResendEnd::Cancelled,
            _ if has_kept(Refusal::WebhookDeleted) => ResendEnd::WebhookDeleted,
            _ if has_kept(Refusal::WebhookPaused) => ResendEnd::WebhookPaused,
            _ => ResendEnd::Done,
        };
        Self {
            id: operation.id,
            since: operation.since.unwrap_or(DateTime::UNIX_EPOCH),
            asked_at: operation.asked_at,
            asked_by: operation.author.actor.unwrap_or_default(),
            total: counts.total,
            begun: counts.settled,
            delivered: counts.delivered,
            open,
            failed: counts.failed + counts.dropped,
            ended: operation.ended_at.map(|at| (at, ended)),
        }
    }
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
    let wanted = NewResend { webhook, since, author: &actor.author(), same_within };
    let asked = context.store.resend_ask(&wanted, MOST_OPEN).await?;
    let resend = Resend::of(asked.ok_or(ResendError::TooMany)?);
    tracing::info!(
        webhook.id = %webhook, resend.id = %resend.id, by = %actor, since = %resend.since,
        total = resend.total, "requested a resend of dead deliveries"
    );
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
    Ok(Progress { webhook, resend })
}

/// Finds the open resend of a webhook.
///
/// # Errors
///
/// [`ResendError`]
pub async fn open(
    context: &Context,
    actor: &Actor,
    webhook: WebhookId,
) -> Result<Option<Resend>, ResendError> {
    webhooks::find(context, actor, webhook).await?;
    Ok(context.store.resend_open(webhook).await?.map(Resend::of))
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
    let changed = context.store.operation_change(id, Change::Cancel, &actor.author()).await?;
    if changed.is_some_and(|(_, has_changed)| has_changed) {
        tracing::info!(webhook.id = %webhook, resend.id = %id, by = %actor, "cancelled a resend");
    }
    show(context, actor, webhook, Which::Id(id)).await
}

async fn find(store: &Store, webhook: WebhookId, which: Which) -> Result<Resend, ResendError> {
    let found = match which {
        Which::Newest => store.resend_newest(webhook).await?,
        Which::Id(id) => store.resend_show(webhook, id).await?,
    };
    found.map(Resend::of).ok_or(ResendError::Unknown)
}
