//! Registering a webhook.

use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::registration::Registration;
use fanfare_core::webhook::Webhook;
use fanfare_store::random;
use uuid::Uuid;

use super::{Verification, WebhookError};
use crate::{Actor, Context, NotAdministrator, clock};

/// A webhook to register.
pub struct NewWebhook<'a> {
    /// Whose it is.
    pub owner: Name,
    /// What it is.
    pub wanted: Registration,
    /// Whether its address is verified.
    pub verification: Verification<'a>,
}

/// Registers a webhook, after its address was verified.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn register(
    context: &Context,
    actor: &Actor,
    new: NewWebhook<'_>,
) -> Result<Webhook, WebhookError> {
    let NewWebhook { owner, wanted, verification } = new;
    if !actor.may_manage(Some(owner.as_str())) {
        return Err(NotAdministrator.into());
    }
    check_room(context, &owner).await?;
    let id = WebhookId(Uuid::now_v7());
    let webhook = wanted.into_webhook(id, owner, random::secret()?, clock::now());
    verification.check(&webhook).await?;
    context.store.webhook_register(&webhook, context.webhooks_per_owner).await?;
    tracing::info!(
        webhook.id = %id, owner = %webhook.owner, by = %actor, "registered a webhook"
    );
    Ok(webhook)
}

/// Fails when the owner has as many webhooks as one may have. The database checks that again when
/// the webhook is registered; until then no address is asked for one that there is no room for.
async fn check_room(context: &Context, owner: &Name) -> Result<(), WebhookError> {
    let most = context.webhooks_per_owner;
    let number = context.store.webhooks_number(Some(owner)).await?;
    if number >= i64::from(most) {
        return Err(WebhookError::TooMany { owner: owner.clone(), most });
    }
    Ok(())
}
