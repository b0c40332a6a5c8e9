//! The facts about a letter that its headers hold.

use chrono::{DateTime, Utc};
use fanfare_core::dead_letter::{Kind, Letter, Source};
use fanfare_core::event::MAX_ATTRIBUTE;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::Job;

use crate::letter::{ATTEMPTS, DeadLetter, EVENT, LAST_STATUS, OWNER, WEBHOOK, cut};
use crate::topology::Queue;

/// The queue of the letters of a kind.
#[must_use]
pub fn queue_of(kind: Kind) -> Queue {
    match kind {
        Kind::Events => Queue::EventsDead,
        Kind::Deliveries => Queue::DeliveriesDead,
    }
}

/// The facts in the headers of a dead delivery. The headers of a dead event come from its publisher
/// and may say anything.
impl DeadLetter {
    /// The webhook of a dead delivery.
    #[must_use]
    pub fn webhook(&self, kind: Kind) -> Option<WebhookId> {
        if let Some(id) = self.text(kind, WEBHOOK) {
            return id.parse().ok();
        }
        if kind == Kind::Events {
            return None;
        }
        match Job::from_bytes(&self.message.body) {
            Ok(Job::Retry(dues)) => match dues.as_slice() {
                [due] => Some(due.webhook),
                // A letter with several webhooks names none of them.
                _ => None,
            },
            _ => None,
        }
    }

    /// The owner of a dead delivery's webhook.
    #[must_use]
    pub fn owner(&self, kind: Kind) -> Option<&str> {
        self.text(kind, OWNER)
    }

    /// The event's `CloudEvents` id. That of a dead event is read from the event, if it can be.
    #[must_use]
    pub fn event(&self, kind: Kind) -> Option<String> {
        if kind == Kind::Deliveries {
            return self.text(kind, EVENT).map(str::to_owned);
        }
        let id = self.message.as_event().id()?;
        Some(cut(&id, MAX_ATTRIBUTE).to_owned())
    }

    /// How often a dead delivery was attempted.
    #[must_use]
    pub fn attempts(&self, kind: Kind) -> Option<i64> {
        self.int(kind, ATTEMPTS)
    }

    /// HTTP status of a dead delivery's last answer.
    #[must_use]
    pub fn last_status(&self, kind: Kind) -> Option<i64> {
        self.int(kind, LAST_STATUS)
    }

    /// What the index says about a letter that only its queue has. It counts as having died `now`, unless
    /// a header says when.
    #[must_use]
    pub fn facts(&self, kind: Kind, now: DateTime<Utc>) -> Letter {
        let died_at = self.dead_at.as_deref().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
        let number = |number: i64| i32::try_from(number).ok();
        Letter {
            id: self.id.clone(),
            kind,
            source: Source::Broker,
            died_by: None,
            webhook: self.webhook(kind),
            owner: self.owner(kind).map(str::to_owned),
            host: None,
            event_type: Some(self.routing_key.clone()).filter(|_| kind == Kind::Events),
            event: self.event(kind),
            reason: self.reason.clone(),
            detail: self.detail.clone(),
            outcome: None,
            last_status: self.last_status(kind).and_then(number),
            attempts: self.attempts(kind).and_then(number),
            error: None,
            cause: None,
            bytes: 0,
            died_at: died_at.map_or(now, |at| at.with_timezone(&Utc)),
        }
    }

    fn text(&self, kind: Kind, name: &str) -> Option<&str> {
        let is_ours = kind == Kind::Deliveries;
        self.message.headers.text(name).filter(|_| is_ours).map(|text| cut(text, MAX_ATTRIBUTE))
    }

    fn int(&self, kind: Kind, name: &str) -> Option<i64> {
        self.message.headers.int(name).filter(|_| kind == Kind::Deliveries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use fanfare_core::ids::BatchKey;
    use fanfare_core::job::AttemptRef;
    use uuid::Uuid;

    #[test]
    fn a_dead_delivery_tells_its_webhook_even_without_headers() {
        let due = AttemptRef {
            batch: BatchKey(Uuid::from_u128(1)),
            webhook: WebhookId(Uuid::from_u128(2)),
            sequence: 3,
            received_at: None,
        };
        let mut letter = DeadLetter {
            id: "l1".to_owned(),
            reason: "poison".to_owned(),
            detail: String::new(),
            dead_at: None,
            routing_key: String::new(),
            message: Message::new(Job::Retry(vec![due]).to_bytes().unwrap(), "application/json"),
        };
        assert_eq!(letter.webhook(Kind::Deliveries), Some(due.webhook));
        letter.message.headers.set(WEBHOOK, WebhookId(Uuid::from_u128(9)).to_string());
        assert_eq!(letter.webhook(Kind::Deliveries), Some(WebhookId(Uuid::from_u128(9))));
    }
}
