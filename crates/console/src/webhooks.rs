//! What can be done with webhooks, and who may.
//!
//! A user does it with the own ones, a System Administrator with everybody's. To others a webhook
//! is not there.

use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::rate_limit::RateLimit;
use fanfare_core::registration::{Registration, RegistrationError};
use fanfare_core::webhook::Webhook;
use fanfare_outbound::{VerifyError, skips_verification};
use fanfare_store::{StoreError, random};
use thiserror::Error;
use uuid::Uuid;

use crate::app::App;
use crate::auth::caller::Caller;

/// Whose webhooks are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The caller's.
    Own,
    /// Everybody's.
    All,
    /// One user's.
    Of(Name),
    /// Of somebody who can't be, for the name is none.
    Nobody,
}

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is for System Administrators.
    NotAdministrator,
    /// There is no such webhook, or it is not the caller's.
    Unknown,
    /// The owner has as many webhooks as one may have.
    TooMany(TooMany),
    /// The webhook can't be so.
    Wrong(RegistrationError),
    /// The address did not prove itself.
    NotVerified(VerifyError),
    /// The database did not answer, or something else that is no fault of the caller's.
    Store(StoreError),
}

/// An owner has as many webhooks as one may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("A user may have at most {most} WebHooks; delete one that is not used any more first.")]
pub(crate) struct TooMany {
    /// How many that is.
    pub(crate) most: u32,
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManyWebhooks { most, .. } => Self::TooMany(TooMany { most }),
            other => Self::Store(other),
        }
    }
}

impl From<RegistrationError> for Refused {
    fn from(error: RegistrationError) -> Self {
        Self::Wrong(error)
    }
}

/// The webhooks of these users, the oldest first.
pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    whose: &Whose,
) -> Result<Vec<Webhook>, Refused> {
    if !caller.administrator && *whose != Whose::Own {
        return Err(Refused::NotAdministrator);
    }
    let owner = match whose {
        Whose::Own => Some(&caller.name),
        Whose::All => None,
        Whose::Of(name) => Some(name),
        Whose::Nobody => return Ok(Vec::new()),
    };
    Ok(app.store.webhooks_list(owner).await?)
}

/// One webhook.
pub(crate) async fn find(app: &App, caller: &Caller, id: WebhookId) -> Result<Webhook, Refused> {
    let webhook = app.store.webhooks_get(&[id]).await?.pop();
    webhook
        .filter(|webhook| caller.administrator || webhook.owner == caller.name)
        .ok_or(Refused::Unknown)
}

/// Registers a webhook of the caller's, after its address has proved that it wants to be one.
pub(crate) async fn register(
    app: &App,
    caller: &Caller,
    wanted: Registration,
) -> Result<Webhook, Refused> {
    // Asked for again when it is registered; an address is not to be asked for nothing.
    let number = app.store.webhooks_number(Some(&caller.name)).await?;
    let most = app.webhooks_per_owner;
    if number >= i64::from(most) {
        return Err(Refused::TooMany(TooMany { most }));
    }
    verify(app, &wanted).await?;
    let id = WebhookId(Uuid::now_v7());
    let webhook = wanted.into_webhook(id, caller.name.clone(), random::secret()?, (app.clock)());
    app.store.webhook_register(&webhook, app.webhooks_per_owner).await?;
    Ok(webhook)
}

/// Changes a webhook that [`find`] has found. A new address has to prove itself first. Somebody
/// else than the owner does not see the values of headers, and sends back what stands for them.
pub(crate) async fn change(
    app: &App,
    caller: &Caller,
    found: &Webhook,
    wanted: Registration,
) -> Result<(), Refused> {
    if !wanted.paused {
        may_resume(caller, found)?;
    }
    let unmasked = |wanted: Registration, stored: &Webhook| {
        let headers = if found.owner == caller.name {
            wanted.headers
        } else {
            wanted.headers.unmasked(&stored.headers)
        };
        Registration { headers, ..wanted }
    };
    if wanted.uri != found.uri {
        verify(app, &unmasked(wanted.clone(), found)).await?;
    }
    // It may have become a former owner's since it was found.
    let change = |webhook: Webhook| {
        let keep = webhook.is_of_former_owner() && !caller.administrator;
        let reason = webhook.paused_reason.clone();
        let changed = unmasked(wanted, &webhook).applied_to(webhook);
        if keep { Webhook { paused: true, paused_reason: reason, ..changed } } else { changed }
    };
    let is_there = app.store.webhook_change(found.id, change).await?;
    if is_there { Ok(()) } else { Err(Refused::Unknown) }
}

/// Changes a webhook's limit on attempts a minute.
pub(crate) async fn set_rate_limit(
    app: &App,
    caller: &Caller,
    id: WebhookId,
    limit: RateLimit,
) -> Result<(), Refused> {
    let found = find(app, caller, id).await?;
    let change = |webhook: Webhook| {
        let rate_limit = limit.over(webhook.rate_limit);
        Webhook { rate_limit, ..webhook }
    };
    let is_there = app.store.webhook_change(found.id, change).await?;
    if is_there { Ok(()) } else { Err(Refused::Unknown) }
}

/// Whether the caller may resume a webhook: what was another person's of the same name, only an
/// administrator may.
pub(crate) fn may_resume(caller: &Caller, webhook: &Webhook) -> Result<(), Refused> {
    if webhook.is_of_former_owner() && !caller.administrator {
        return Err(RegistrationError::FormerOwner.into());
    }
    Ok(())
}

/// Deletes a webhook.
pub(crate) async fn delete(app: &App, caller: &Caller, id: WebhookId) -> Result<(), Refused> {
    let found = find(app, caller, id).await?;
    let was_there = app.store.webhook_delete(found.id).await?;
    if was_there { Ok(()) } else { Err(Refused::Unknown) }
}

/// Deletes all webhooks of the caller's own.
pub(crate) async fn delete_all(app: &App, caller: &Caller) -> Result<(), Refused> {
    app.store.webhooks_delete_of(&caller.name).await?;
    Ok(())
}

async fn verify(app: &App, wanted: &Registration) -> Result<(), Refused> {
    if skips_verification(wanted.uri.url()) {
        return Ok(());
    }
    let echo = Uuid::new_v4().simple().to_string();
    app.client
        .verify(&wanted.uri, wanted.headers.as_slice(), &echo)
        .await
        .map_err(Refused::NotVerified)
}
