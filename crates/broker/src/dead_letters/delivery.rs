//! The letter of a delivery that a worker gave up.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::DeadReason;

use super::reject;
use crate::letter::{ATTEMPTS, BATCH, DELIVERY, EVENT, ID, LAST_STATUS, OWNER, WEBHOOK};
use crate::message::Message;

/// What a person needs to know about a dead delivery.
#[derive(Clone, Debug)]
pub struct DeadDelivery {
    /// The delivery, and the row of the ledger by which it died.
    pub due: AttemptRef,
    /// Why it was given up: a stable code.
    pub reason: String,
    /// The webhook's owner; empty if it is not known.
    pub owner: String,
    /// The `CloudEvents` ids of its events.
    pub events: Vec<String>,
    /// How often it was attempted.
    pub attempts: i32,
    /// HTTP status of the last answer.
    pub last_status: Option<i32>,
    /// The last body that was sent.
    pub body: Bytes,
}

impl DeadDelivery {
    /// The letter, to be published to the queue of dead deliveries.
    #[must_use]
    pub fn message(&self, died_at: DateTime<Utc>) -> Message {
        let id = self.due.id();
        let body = Message::new(self.body.clone(), "application/json");
        let mut message = reject(&body, "", &self.reason, &self.detail(), died_at);
        message
            .headers
            // The id is the same for the same end of a delivery, so that a letter that was published
            // twice counts as one.
            .set(ID, format!("{id}-{}", self.due.sequence))
            .set(DELIVERY, id.to_string())
            .set(BATCH, self.due.batch.to_string())
            .set(WEBHOOK, self.due.webhook.to_string())
            .set(OWNER, self.owner.as_str())
            .set(EVENT, self.events.first().cloned().unwrap_or_default())
            .set(ATTEMPTS, i64::from(self.attempts));
        if let Some(status) = self.last_status {
            message.headers.set(LAST_STATUS, i64::from(status));
        }
        message
    }

    fn detail(&self) -> String {
        /// The most ids that are named, because headers have a limit.
        const NAMED: usize = 8;
        if self.reason != DeadReason::LedgerLost.code() {
            return format!("given up after {} attempts", self.attempts);
        }
        let mut detail = "the database does not know its events: publish them again".to_owned();
        for (index, id) in self.events.iter().take(NAMED).enumerate() {
            detail.push_str(if index == 0 { "; ids: " } else { ", " });
            detail.push_str(id);
        }
        if self.events.len() > NAMED {
            detail.push_str(", …");
        }
        detail
    }
}
