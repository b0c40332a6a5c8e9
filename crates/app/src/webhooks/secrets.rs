//! The secrets of a webhook: revealed to its owner only, and replaced without an interruption.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::{Secret, Webhook};
use fanfare_store::random;

use super::{WebhookError, check_manages, find};
use crate::{Actor, Context};

/// The result of replacing a secret.
#[derive(Debug)]
pub struct Rotated {
    /// The new secret, which signs from now on.
    pub secret: Secret,
    /// The time until which the previous secret signs as well.
    pub previous_until: DateTime<Utc>,
}

/// Returns a webhook with its secrets. For every actor but the owner, the webhook does not exist.
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
    if !actor.is(&webhook.owner) {
        return Err(WebhookError::Unknown);
    }
    tracing::info!(webhook.id = %id, by = %actor, "revealed a webhook's secret");
    Ok(webhook)
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
    let until = context.store.webhook_rotate(id, &secret, overlap).await?;
    let previous_until = until.ok_or(WebhookError::Unknown)?;
    tracing::info!(
        webhook.id = %id, by = %actor, until = %previous_until, "replaced a webhook's secret"
    );
    Ok(Rotated { secret, previous_until })
}
