//! Notices to owners: what an owner has chosen for the own webhooks, and whether a notice may be sent.

use super::{About, Channel, Kind};
use crate::explain::OwnerState;
use crate::mail_address::{MailAddress, MailDomains};
use crate::webhook::{Secret, WebhookUri};

/// The channels that an owner has chosen, for all of the own webhooks, and the types of notices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerChannels {
    /// The types of notices, in the order of [`Kind::for_owners`].
    pub kinds: Vec<Kind>,
    /// The address to which they are posted.
    pub webhook: Option<OwnerWebhook>,
    /// The address to which they are mailed.
    pub mail: Option<MailAddress>,
}

/// The address to which an owner's notices are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerWebhook {
    pub uri: WebhookUri,
    /// The secret that signs.
    pub secret: Secret,
}

impl OwnerChannels {
    /// Whether nothing is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.webhook.is_none() && self.mail.is_none()
    }

    fn has(&self, channel: Channel) -> bool {
        match channel {
            Channel::OwnerWebhook => self.webhook.is_some(),
            Channel::OwnerMail => self.mail.is_some(),
            Channel::Exchange | Channel::Webhook | Channel::Mail => false,
        }
    }
}

impl Kind {
    /// The types of notices that are about one webhook, which its owner may choose.
    pub fn for_owners() -> impl Iterator<Item = Self> {
        Self::all().filter(|kind| match kind {
            Self::Open(stage) => stage.about().is_of_webhook(),
            Self::Resolved(about) => about.is_of_webhook(),
        })
    }
}

impl About {
    /// Whether its causes concern one webhook each.
    fn is_of_webhook(self) -> bool {
        match self {
            Self::Webhook | Self::Secret => true,
            Self::DeadLetters | Self::Deliveries | Self::Directory => false,
        }
    }
}

/// Why a notice is not sent to an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// The owner is disabled.
    OwnerDisabled,
    /// The owner is not in the directory.
    OwnerDeleted,
    /// The owner does not want this channel any more.
    NotChosen,
    /// The operator does not allow mail to the domain any more.
    DomainNotAllowed,
}

impl Withheld {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::OwnerDisabled => "owner-disabled",
            Self::OwnerDeleted => "owner-deleted",
            Self::NotChosen => "not-chosen",
            Self::DomainNotAllowed => "mail-domain-not-allowed",
        }
    }
}

/// Decides, at the time of sending, whether an owner's notices may be sent by a channel.
///
/// # Errors
///
/// [`Withheld`]: they are not sent, now or later.
pub fn may_send(
    owner: OwnerState,
    chosen: Option<&OwnerChannels>,
    channel: Channel,
    domains: &MailDomains,
) -> Result<(), Withheld> {
    match owner {
        OwnerState::Enabled => {}
        OwnerState::Disabled => return Err(Withheld::OwnerDisabled),
        OwnerState::Deleted => return Err(Withheld::OwnerDeleted),
    }
    let chosen = chosen.filter(|chosen| chosen.has(channel)).ok_or(Withheld::NotChosen)?;
    let mail = chosen.mail.as_ref().filter(|_| channel == Channel::OwnerMail);
    if mail.is_some_and(|address| !domains.allow(address)) {
        return Err(Withheld::DomainNotAllowed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_choose_among_notices_about_one_webhook() {
        let codes: Vec<&str> = Kind::for_owners().map(Kind::code).collect();
        let expected = [
            "webhook.failing",
            "webhook.failing-day",
            "webhook.near-pause",
            "webhook.paused",
            "secret.ending",
            "webhook.resolved",
        ];
        assert_eq!(codes, expected);
    }

    #[test]
    fn notice_is_sent_only_to_an_enabled_owner_by_a_chosen_and_allowed_channel() {
        let mail = Some("anna@example.org".parse().unwrap());
        let chosen = OwnerChannels { mail, ..OwnerChannels::default() };
        let domains = MailDomains::parse("example.org").unwrap();
        let none = MailDomains::default();
        let by = |owner, chosen, channel, domains| may_send(owner, chosen, channel, domains);
        let (mail, webhook) = (Channel::OwnerMail, Channel::OwnerWebhook);
        let all = Some(&chosen);
        assert_eq!(by(OwnerState::Enabled, all, mail, &domains), Ok(()));
        assert_eq!(by(OwnerState::Disabled, all, mail, &domains), Err(Withheld::OwnerDisabled));
        assert_eq!(by(OwnerState::Deleted, all, mail, &domains), Err(Withheld::OwnerDeleted));
        assert_eq!(by(OwnerState::Enabled, all, webhook, &domains), Err(Withheld::NotChosen));
        assert_eq!(by(OwnerState::Enabled, None, mail, &domains), Err(Withheld::NotChosen));
        assert_eq!(by(OwnerState::Enabled, all, mail, &none), Err(Withheld::DomainNotAllowed));
    }
}
