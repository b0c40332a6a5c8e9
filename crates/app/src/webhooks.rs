//! Use cases of webhooks: list, register, change, pause, delete, import, and replace secrets.
//!
//! Users manage their own webhooks; an operator and a System Administrator manage all of them. For
//! anyone else a webhook does not exist.

mod change;
mod import;
mod register;
mod secrets;
mod verification;

use std::collections::{BTreeSet, HashMap};

use fanfare_core::explain::OwnerState;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::registration::RegistrationError;
use fanfare_core::webhook::Webhook;
use fanfare_outbound::VerifyError;
use fanfare_store::directory::UserStatus;
use fanfare_store::{Store, StoreError};

pub use change::{Patch, patch, pause, replace, resume};
pub use import::{Entry, EntryError, EntryPosition, ImportError, Imported, Plan, carry_out, plan};
pub use register::{NewWebhook, register};
pub use secrets::{Rotated, list_with_secrets, reveal, rotate};
pub use verification::Verification;

use crate::{Actor, Context, NotAdministrator};

/// The owners whose webhooks are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerScope {
    /// The actor alone.
    Own,
    /// Every owner.
    All,
    /// One user.
    Of(Name),
    /// A text that is not a valid user name; no webhook belongs to it.
    NotAName,
}

/// Why a webhook was not shown, registered or changed.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The actor is neither an operator nor a System Administrator.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// There is no such webhook, or the actor may not see it.
    #[error("there is no such webhook")]
    Unknown,
    /// The owner already has the maximum number of webhooks.
    #[error("A user may have at most {most} WebHooks; delete one that is not used any more first.")]
    TooMany {
        owner: Name,
        /// The maximum number of webhooks of one owner.
        most: u32,
    },
    /// The webhook is not valid.
    #[error(transparent)]
    Invalid(#[from] RegistrationError),
    /// The verification of the address failed.
    #[error(transparent)]
    NotVerified(#[from] VerifyError),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for WebhookError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManyWebhooks { owner, most } => match Name::parse(&owner) {
                Some(owner) => Self::TooMany { owner, most },
                None => Self::Store(StoreError::TooManyWebhooks { owner, most }),
            },
            other => Self::Store(other),
        }
    }
}

/// Lists the webhooks of these owners, the oldest first.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn list(
    context: &Context,
    actor: &Actor,
    scope: &OwnerScope,
) -> Result<Vec<Webhook>, WebhookError> {
    if *scope != OwnerScope::Own {
        actor.administrator()?;
    }
    let owner = match (scope, actor.user()) {
        (OwnerScope::All, _) => None,
        (OwnerScope::Of(owner), _) | (OwnerScope::Own, Some(owner)) => Some(owner),
        (OwnerScope::NotAName, _) | (OwnerScope::Own, None) => return Ok(Vec::new()),
    };
    Ok(context.store.webhooks_list(owner).await?)
}

/// Finds one webhook.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn find(
    context: &Context,
    actor: &Actor,
    id: WebhookId,
) -> Result<Webhook, WebhookError> {
    let webhook = context.store.webhooks_get(&[id]).await?.pop();
    webhook
        .filter(|webhook| actor.may_manage(Some(webhook.owner.as_str())))
        .ok_or(WebhookError::Unknown)
}

/// Deletes a webhook and its secrets.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn delete(context: &Context, actor: &Actor, id: WebhookId) -> Result<(), WebhookError> {
    check_manages(context, actor, id).await?;
    if !context.store.webhook_delete(id, &actor.author()).await? {
        return Err(WebhookError::Unknown);
    }
    tracing::info!(webhook.id = %id, by = %actor, "deleted a webhook");
    Ok(())
}

/// Deletes all webhooks that belong to the actor.
///
/// # Errors
///
/// [`WebhookError`]
pub async fn delete_own(context: &Context, actor: &Actor) -> Result<(), WebhookError> {
    let Some(owner) = actor.user() else { return Ok(()) };
    let count = context.store.webhooks_delete_of(owner, &actor.author()).await?;
    tracing::info!(count, %owner, by = %actor, "deleted all webhooks of an owner");
    Ok(())
}

/// Returns the current states of these webhooks' owners in the directory.
///
/// # Errors
///
/// [`StoreError`]
pub async fn owners(context: &Context, webhooks: &[Webhook]) -> Result<Owners, StoreError> {
    let keys: BTreeSet<&str> = webhooks.iter().map(|webhook| webhook.owner.key()).collect();
    Owners::of(&context.store, &keys).await
}

/// The states of owners in the directory.
#[derive(Debug)]
pub struct Owners(HashMap<String, UserStatus>);

impl Owners {
    async fn of(store: &Store, keys: &BTreeSet<&str>) -> Result<Self, StoreError> {
        let keys: Vec<&str> = keys.iter().copied().collect();
        Ok(Self(store.user_status(&keys).await?))
    }

    /// The state of this owner.
    #[must_use]
    pub fn state(&self, owner: &Name) -> OwnerState {
        self.0.get(owner.key()).map_or(OwnerState::Deleted, |status| (*status).into())
    }
}

/// Fails unless the webhook exists for the actor. For an actor who may manage all webhooks, nothing
/// is read, so that a webhook whose secrets can't be opened can still be paused and deleted.
async fn check_manages(
    context: &Context,
    actor: &Actor,
    id: WebhookId,
) -> Result<(), WebhookError> {
    if !actor.is_administrator() {
        find(context, actor, id).await?;
    }
    Ok(())
}
