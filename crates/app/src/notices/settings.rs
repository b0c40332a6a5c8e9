//! The use cases of a user's own channels of notices: show and change them. They apply to all of the
//! user's own webhooks.

use fanfare_core::mail_address::MailAddress;
use fanfare_core::name::Name;
use fanfare_core::notice::{Kind, OwnerChannels, OwnerWebhook};
use fanfare_core::webhook::{Secret, WebhookUri};
use fanfare_outbound::VerifyError;
use fanfare_store::{StoreError, random};

use crate::webhooks::Verification;
use crate::{Actor, Context};

/// The channels that a user wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The types of notices; all that are about one webhook when `None`.
    pub kinds: Option<Vec<Kind>>,
    /// The address to which they are posted.
    pub uri: Option<WebhookUri>,
    /// The secret that signs. Without one, the present one stays, or one is generated.
    pub secret: Option<Secret>,
    /// The address to which they are mailed.
    pub mail: Option<MailAddress>,
}

/// The channels after a change.
#[derive(Debug, Clone)]
pub struct Changed {
    pub channels: OwnerChannels,
    /// The secret, if the change generated it. It is not shown again.
    pub generated: Option<Secret>,
}

/// Why the channels can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// An operator at the command line has no webhooks, and so no channels of notices about them.
    #[error("only a user who is signed in has channels of notices")]
    NotAUser,
    /// There is a channel, and no type of notices.
    #[error("choose at least one type of notices")]
    NoTypes,
    /// A secret without an address signs nothing.
    #[error("write the address that gets what the secret signs")]
    SecretAlone,
    /// The operator does not allow mail to the domain.
    #[error("mail is sent only to addresses of {allowed}")]
    DomainNotAllowed { allowed: String },
    /// The operator does not allow mail to owners at all.
    #[error("the operator has not allowed any domain for mail")]
    NoMail,
    /// The verification of the address failed.
    #[error(transparent)]
    NotVerified(#[from] VerifyError),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns the channels that the actor has chosen.
///
/// # Errors
///
/// [`SettingsError`]
pub async fn show(context: &Context, actor: &Actor) -> Result<OwnerChannels, SettingsError> {
    let owner = actor.user().ok_or(SettingsError::NotAUser)?;
    of(context, owner).await
}

/// Replaces the channels that the actor has chosen. A new address is verified first, as a webhook's is.
///
/// # Errors
///
/// [`SettingsError`]
pub async fn change(
    context: &Context,
    actor: &Actor,
    wanted: Wanted,
    verification: Verification<'_>,
) -> Result<Changed, SettingsError> {
    let owner = actor.user().ok_or(SettingsError::NotAUser)?;
    check(context, &wanted)?;
    let before = of(context, owner).await?.webhook;
    if let Some(uri) = &wanted.uri
        && before.as_ref().is_none_or(|before| before.uri != *uri)
    {
        verification.check_address(uri, &[]).await?;
    }
    let fresh = random::secret()?;
    let author = actor.author();
    let change = |before: OwnerChannels| applied(&wanted, before, &fresh);
    let channels = context.store.notice_settings_change(owner, &author, change).await?;
    tracing::info!(%owner, by = %actor, "changed the channels of an owner's notices");
    let signs = channels.webhook.as_ref().is_some_and(|webhook| webhook.secret == fresh);
    Ok(Changed { generated: signs.then_some(fresh), channels })
}

async fn of(context: &Context, owner: &Name) -> Result<OwnerChannels, SettingsError> {
    let mut chosen = context.store.notice_settings(&[owner.key()]).await?;
    Ok(chosen.remove(owner.key()).unwrap_or_default())
}

fn check(context: &Context, wanted: &Wanted) -> Result<(), SettingsError> {
    let has_channel = wanted.uri.is_some() || wanted.mail.is_some();
    if has_channel && wanted.kinds.as_ref().is_some_and(Vec::is_empty) {
        return Err(SettingsError::NoTypes);
    }
    if wanted.uri.is_none() && wanted.secret.is_some() {
        return Err(SettingsError::SecretAlone);
    }
    let domains = context.mail_domains();
    match &wanted.mail {
        Some(_) if domains.is_empty() => Err(SettingsError::NoMail),
        Some(mail) if !domains.allow(mail) => {
            Err(SettingsError::DomainNotAllowed { allowed: domains.as_slice().join(", ") })
        }
        _ => Ok(()),
    }
}

fn applied(wanted: &Wanted, before: OwnerChannels, fresh: &Secret) -> OwnerChannels {
    let present = before.webhook.map(|webhook| webhook.secret);
    let secret = || wanted.secret.clone().or(present).unwrap_or_else(|| fresh.clone());
    let chosen = |kind: &Kind| wanted.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind));
    OwnerChannels {
        kinds: Kind::for_owners().filter(chosen).collect(),
        webhook: wanted.uri.clone().map(|uri| OwnerWebhook { uri, secret: secret() }),
        mail: wanted.mail.clone(),
    }
}
