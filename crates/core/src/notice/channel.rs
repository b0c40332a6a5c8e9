//! The channels by which notices are sent.

/// A channel by which notices are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The broker's exchange.
    Exchange,
    /// The operator's webhook.
    Webhook,
    /// The operators' mail.
    Mail,
    /// The address that the owner of the webhook has chosen.
    OwnerWebhook,
    /// The mail address that the owner of the webhook has chosen.
    OwnerMail,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 5] =
        [Self::Exchange, Self::Webhook, Self::Mail, Self::OwnerWebhook, Self::OwnerMail];

    /// The channels of operators.
    pub const OPERATORS: [Self; 3] = [Self::Exchange, Self::Webhook, Self::Mail];

    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Webhook => "webhook",
            Self::Mail => "mail",
            Self::OwnerWebhook => "owner-webhook",
            Self::OwnerMail => "owner-mail",
        }
    }

    /// The channel with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.code() == code)
    }

    /// Whether owners have chosen it, each for the own webhooks.
    #[must_use]
    pub fn is_owners(self) -> bool {
        match self {
            Self::Exchange | Self::Webhook | Self::Mail => false,
            Self::OwnerWebhook | Self::OwnerMail => true,
        }
    }
}
