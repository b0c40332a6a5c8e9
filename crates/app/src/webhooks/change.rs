//! Changing, pausing and resuming a webhook.

use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::rate_limit::RateLimit;
use fanfare_core::registration::{Registration, RegistrationError};
use fanfare_core::webhook::{Webhook, WebhookUri};

use super::{Verification, WebhookError, check_manages, find};
use crate::{Actor, Context};

/// Changes to a webhook. Members that are left out keep their values.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    /// The new address.
    pub uri: Option<WebhookUri>,
    /// The new filters.
    pub filters: Option<Filters>,
    /// The new description; an empty text removes it.
    pub description: Option<String>,
    /// The new limit on attempts a minute.
    pub rate_limit: RateLimit,
    /// Whether it is paused.
    pub paused: Option<bool>,
    /// Whether what happens while it is paused is sent when it is resumed.
    pub hold: Option<bool>,
}

impl Patch {
    fn applied_to(self, webhook: Webhook) -> Webhook {
        Webhook {
            uri: self.uri.unwrap_or(webhook.uri),
            filters: self.filters.unwrap_or(webhook.filters),
            description: match self.description {
                Some(text) => Some(text).filter(|text| !text.is_empty()),
                None => webhook.description,
            },
            rate_limit: self.rate_limit.over(webhook.rate_limit),
            paused: self.paused.unwrap_or(webhook.paused),
            paused_reason: webhook.paused_reason.filter(|_| self.paused.unwrap_or(true)),
            hold: self.hold.unwrap_or(webhook.hold),
            ..webhook
        }
    }
}

/// Replaces all that a webhook holds; a new address is verified first. An actor who is not the
/// owner has not seen the values of headers, and sends back their placeholders.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn replace(
    context: &Context,
    actor: &Actor,
    id: WebhookId,
    wanted: Registration,
    verification: Verification<'_>,
) -> Result<(), WebhookError> {
    change(context, actor, id, verification, |webhook| {
        let headers = if actor.is(&webhook.owner) {
            wanted.headers.clone()
        } else {
            wanted.headers.clone().unmasked(&webhook.headers)
        };
        Registration { headers, ..wanted.clone() }.applied_to(webhook)
    })
    .await?;
    log_change(actor, id);
    Ok(())
}

/// Changes parts of a webhook and returns the changed webhook; a new address is verified first.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn patch(
    context: &Context,
    actor: &Actor,
    id: WebhookId,
    patch: Patch,
    verification: Verification<'_>,
) -> Result<Webhook, WebhookError> {
    change(context, actor, id, verification, |webhook| patch.clone().applied_to(webhook)).await?;
    log_change(actor, id);
    find(context, actor, id).await
}

/// Pauses a webhook: it is sent nothing until it is resumed. With `hold`, what happens meanwhile is sent
/// then; without, it is dropped. `None` keeps what was chosen for the webhook before.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn pause(
    context: &Context,
    actor: &Actor,
    id: WebhookId,
    hold: Option<bool>,
) -> Result<(), WebhookError> {
    check_manages(context, actor, id).await?;
    if !context.store.webhook_pause(id, hold, &actor.author()).await? {
        return Err(WebhookError::Unknown);
    }
    tracing::info!(webhook.id = %id, by = %actor, "paused a webhook");
    Ok(())
}

/// Resumes a webhook. Only an operator or a System Administrator may resume a webhook that belonged
/// to a former user of the owner's name.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn resume(context: &Context, actor: &Actor, id: WebhookId) -> Result<(), WebhookError> {
    if actor.is_administrator() {
        if !context.store.webhook_resume(id, &actor.author()).await? {
            return Err(WebhookError::Unknown);
        }
    } else {
        let resumed = |webhook| Webhook { paused: false, paused_reason: None, ..webhook };
        change(context, actor, id, Verification::Skip, resumed).await?;
    }
    tracing::info!(webhook.id = %id, by = %actor, "resumed a webhook");
    Ok(())
}

/// Changes a webhook by `edit`. It is applied twice: first to the webhook as it was read, for the
/// checks and the verification, and then to the webhook inside the transaction that changes it,
/// because another person may have got the owner's name in between.
async fn change(
    context: &Context,
    actor: &Actor,
    id: WebhookId,
    verification: Verification<'_>,
    edit: impl Fn(Webhook) -> Webhook + Send + Sync,
) -> Result<(), WebhookError> {
    let found = find(context, actor, id).await?;
    let wanted = edit(found.clone());
    if is_reserved(actor, &found) && !wanted.paused {
        return Err(RegistrationError::FormerOwner.into());
    }
    if wanted.uri != found.uri {
        verification.check(&wanted).await?;
    }
    let mut is_refused = false;
    let edit = |webhook: Webhook| {
        let changed = edit(webhook.clone());
        is_refused = is_reserved(actor, &webhook) && !changed.paused;
        if is_refused { webhook } else { changed }
    };
    if !context.store.webhook_change(id, &actor.author(), edit).await? {
        return Err(WebhookError::Unknown);
    }
    if is_refused { Err(RegistrationError::FormerOwner.into()) } else { Ok(()) }
}

fn log_change(actor: &Actor, id: WebhookId) {
    tracing::info!(webhook.id = %id, by = %actor, "changed a webhook");
}

/// Whether the webhook belonged to a former user of the owner's name and the actor may not resume
/// it.
fn is_reserved(actor: &Actor, webhook: &Webhook) -> bool {
    webhook.is_of_former_owner() && !actor.is_administrator()
}
