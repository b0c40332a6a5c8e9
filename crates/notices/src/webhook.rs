//! Notices by a webhook of the operator or of an owner, signed as deliveries are.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use fanfare_core::answer::Answer;
use fanfare_core::ids::DeliveryId;
use fanfare_core::notice::Notice;
use fanfare_core::request::UnsignedRequest;
use fanfare_core::webhook::{Headers, Secret, WebhookUri};
use fanfare_outbound::Client;

use crate::NotSent;

/// A webhook that gets notices.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The client towards receivers, with its rules for addresses.
    pub client: Client,
    pub uri: WebhookUri,
    /// The secret that signs.
    pub secret: Secret,
}

impl Webhook {
    /// Posts notices, one by one, up to the first that is not taken.
    pub(crate) async fn send(&self, notices: &[Notice], now: DateTime<Utc>) -> Result<(), NotSent> {
        for notice in notices {
            self.post(notice.id, notice.cloud_event().to_string().into(), now).await?;
        }
        Ok(())
    }

    /// Asks the address whether its server answers, whatever the answer is. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`NotSent`]: there is no answer.
    pub async fn check(&self) -> Result<(), NotSent> {
        let answered = self.client.reach(&self.uri).await;
        answered
            .map(drop)
            .map_err(|(failure, detail)| NotSent::NoAnswer { failure: failure.code(), detail })
    }

    async fn post(&self, id: uuid::Uuid, body: Bytes, now: DateTime<Utc>) -> Result<(), NotSent> {
        let headers = UnsignedRequest {
            own: &Headers::default(),
            secrets: std::slice::from_ref(&self.secret),
            id: DeliveryId(id),
            at: now,
            traceparent: None,
            body: &body,
        };
        match self.client.post(&self.uri, &headers.sign(), body.clone()).await {
            Answer::Response { status: 200..300, .. } => Ok(()),
            Answer::Response { status, .. } => Err(NotSent::Refused { status }),
            Answer::Failed { failure, detail } => {
                Err(NotSent::NoAnswer { failure: failure.code(), detail })
            }
        }
    }
}
