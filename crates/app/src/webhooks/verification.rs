//! The verification of an address: its receiver must return a value before anything else is sent to
//! it.

use fanfare_core::webhook::{Webhook, WebhookUri};
use fanfare_outbound::{Client, VerifyError, skips_verification};
use uuid::Uuid;

/// Whether and how an address is verified.
#[derive(Clone, Copy)]
pub enum Verification<'a> {
    /// By this client, unless the address has `noecho` in its query.
    Ask(&'a Client),
    /// Not at all: an operator vouches for the receiver.
    Skip,
}

impl Verification<'_> {
    /// Sends a value to a webhook's address, which must return it.
    pub(super) async fn check(self, webhook: &Webhook) -> Result<(), VerifyError> {
        self.check_address(&webhook.uri, webhook.headers.as_slice()).await
    }

    /// Sends a value with these headers to an address, which must return it.
    pub(crate) async fn check_address(
        self,
        uri: &WebhookUri,
        headers: &[(String, String)],
    ) -> Result<(), VerifyError> {
        let Self::Ask(client) = self else { return Ok(()) };
        if skips_verification(uri.url()) {
            return Ok(());
        }
        let echo = Uuid::new_v4().simple().to_string();
        client.verify(uri, headers, &echo).await
    }
}
