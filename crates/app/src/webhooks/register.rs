//! The registration of a webhook.

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
    /// The owner of the webhook.
    pub owner: Name,
    /// The registration as the client sent it.
    pub wanted: Registration,
    /// Whether and how the address is verified.
    pub verification: Verification<'a>,
}

/// Verifies the address of a webhook and registers it.
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
    let (most, author) = (context.webhooks_per_owner, actor.author());
    context.store.webhook_register(&webhook, most, &author).await?;
    tracing::info!(
        webhook.id = %id, owner = %webhook.owner, by = %actor, "registered a webhook"
    );
    Ok(webhook)
}

/// Fails when the owner already has the maximum number of webhooks, so that no address is verified
/// in vain. The database checks the limit again when the webhook is registered.
async fn check_room(context: &Context, owner: &Name) -> Result<(), WebhookError> {
    let most = context.webhooks_per_owner;
    let number = context.store.webhooks_number(Some(owner)).await?;
    if number >= i64::from(most) {
        return Err(WebhookError::TooMany { owner: owner.clone(), most });
    }
    Ok(())
}
