//! Verification of an address: it must answer as a receiver does before anything is sent there.

use fanfare_core::webhook::Webhook;
use fanfare_outbound::{Client, VerifyError, skips_verification};
use uuid::Uuid;

/// Whether an address is verified.
#[derive(Clone, Copy)]
pub enum Verification<'a> {
    /// It is, by this client, unless the address itself has `noecho` in its query.
    Ask(&'a Client),
    /// It is not: an operator knows the receiver.
    Skip,
}

impl Verification<'_> {
    /// Asks a webhook's address to return a value.
    pub(super) async fn check(self, webhook: &Webhook) -> Result<(), VerifyError> {
        let Self::Ask(client) = self else { return Ok(()) };
        if skips_verification(webhook.uri.url()) {
            return Ok(());
        }
        let echo = Uuid::new_v4().simple().to_string();
        client.verify(&webhook.uri, webhook.headers.as_slice(), &echo).await
    }
}
