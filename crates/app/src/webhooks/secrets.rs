//! The secrets of a webhook: revealed to its owner only, and replaced without an interruption.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::audit::webhook as entries;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::webhook::{Secret, Webhook};
use fanfare_store::random;

use super::{WebhookError, check_manages, find};
use crate::{Actor, Context, NotAdministrator};

/// The result of replacing a secret.
#[derive(Debug)]
pub struct Rotated {
    /// The new secret, which signs from now on.
    pub secret: Secret,
    /// The time until which the previous secret signs as well.
    pub previous_until: DateTime<Utc>,
}

/// Returns a webhook with its secrets, for its owner or an operator. For every other actor, the
/// webhook does not exist.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn reveal(
    context: &Context,
    actor: &Actor,
    id: WebhookId,
) -> Result<Webhook, WebhookError> {
    let webhook = find(context, actor, id).await?;
    if !actor.is(&webhook.owner) && !actor.is_operator() {
        return Err(WebhookError::Unknown);
    }
    let entry = entries::secret_revealed(&webhook);
    context.store.audit_add(&actor.author(), &entry).await?;
    tracing::info!(webhook.id = %id, by = %actor, "revealed a webhook's secret");
    Ok(webhook)
}

/// Lists webhooks with their secrets, the oldest first: those of one owner, or all. It is for
/// operators; no page and no API shows another user's secrets.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn list_with_secrets(
    context: &Context,
    actor: &Actor,
    owner: Option<&Name>,
) -> Result<Vec<Webhook>, WebhookError> {
    if !actor.is_operator() {
        return Err(NotAdministrator.into());
    }
    let webhooks = context.store.webhooks_list(owner).await?;
    if !webhooks.is_empty() {
        let entry = entries::secrets_listed(owner, webhooks.len());
        context.store.audit_add(&actor.author(), &entry).await?;
    }
    Ok(webhooks)
}

/// Replaces a webhook's secret by `secret`, or by a generated one. The previous secret signs as
/// well for `overlap`.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn rotate(
    context: &Context,
    actor: &Actor,
    id: WebhookId,
    secret: Option<Secret>,
    overlap: Duration,
) -> Result<Rotated, WebhookError> {
    check_manages(context, actor, id).await?;
    let secret = match secret {
        Some(secret) => secret,
        None => random::secret()?,
    };
    let until = context.store.webhook_rotate(id, &secret, overlap, &actor.author()).await?;
    let previous_until = until.ok_or(WebhookError::Unknown)?;
    tracing::info!(
        webhook.id = %id, by = %actor, until = %previous_until, "replaced a webhook's secret"
    );
    Ok(Rotated { secret, previous_until })
}
