//! The ways in which notices are told.

use thiserror::Error;

/// A way in which notices are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The broker's exchange.
    Exchange,
    /// The operator's webhook.
    Webhook,
    /// The operators' mail.
    Mail,
}

impl Way {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::Exchange, Self::Webhook, Self::Mail];

    /// The code in the database, in logs and in metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Webhook => "webhook",
            Self::Mail => "mail",
        }
    }

    /// How many notices are told together.
    pub(crate) fn at_a_time(self) -> usize {
        match self {
            Self::Exchange | Self::Webhook => 1,
            Self::Mail => 100,
        }
    }
}

/// Why notices could not be told. No text holds a password.
#[derive(Debug, Error)]
pub enum NotTold {
    /// The broker did not take them.
    #[error("publishing to the exchange of notices")]
    Broker(#[from] fanfare_broker::PublishError),
    /// The operator's webhook gave no answer.
    #[error("the webhook did not answer ({failure}): {detail}")]
    NoAnswer { failure: &'static str, detail: String },
    /// The operator's webhook refused them.
    #[error("the webhook answered {status}")]
    Refused { status: u16 },
    /// The mail could not be written.
    #[error("writing the mail")]
    Unwritable(#[source] lettre::error::Error),
    /// The mail server did not take the mail.
    #[error("sending by the mail server")]
    MailServer(#[source] lettre::transport::smtp::Error),
    /// The mail server does not answer a question.
    #[error("the mail server does not answer")]
    MailServerSilent,
    /// It took too long.
    #[error("not told within {seconds} s")]
    Late { seconds: u64 },
}
