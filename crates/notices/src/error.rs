//! Why a notice could not be sent.

use thiserror::Error;

/// Why notices could not be sent. No text holds a password.
#[derive(Debug, Error)]
pub enum NotSent {
    /// The broker did not take them.
    #[error("publishing to the exchange of notices")]
    Broker(#[from] fanfare_broker::PublishError),
    /// The webhook gave no answer.
    #[error("the webhook did not answer ({failure}): {detail}")]
    NoAnswer { failure: &'static str, detail: String },
    /// The webhook refused them.
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
    /// This process has no mail server.
    #[error("no mail server is set")]
    NoMailServer,
    /// The address is not one that mail servers know.
    #[error("the mail address can't be used")]
    BadAddress(#[source] lettre::address::AddressError),
    /// It took too long.
    #[error("not sent within {seconds} s")]
    Late { seconds: u64 },
}
