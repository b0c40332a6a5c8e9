//! The choice of dead letters, and the facts about a letter that its headers hold.

use fanfare_core::event::MAX_ATTRIBUTE;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::Job;

use crate::letter::{ATTEMPTS, DeadLetter, EVENT, LAST_STATUS, OWNER, WEBHOOK, cut};
use crate::topology::Queue;

/// The kind of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events and directory documents.
    Events,
    /// Deliveries.
    Deliveries,
}

impl Kind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Events, Self::Deliveries];

    /// The queue of these letters.
    #[must_use]
    pub fn queue(self) -> Queue {
        match self {
            Self::Events => Queue::EventsDead,
            Self::Deliveries => Queue::DeliveriesDead,
        }
    }

    /// The name that people use for the queue.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Deliveries => "deliveries",
        }
    }

    /// The kind that people use this name for.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A choice of dead letters: all of them, unless a field narrows it.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only letters with these ids; empty for all.
    pub ids: Vec<String>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only with this reason.
    pub reason: Option<String>,
    /// Only of this webhook.
    pub webhook: Option<WebhookId>,
}

impl Choice {
    /// Whether anything but the kind narrows it.
    #[must_use]
    pub fn narrows(&self) -> bool {
        !self.ids.is_empty() || self.reason.is_some() || self.webhook.is_some()
    }

    pub(super) fn takes(&self, kind: Kind, letter: &DeadLetter) -> bool {
        let named = self.ids.is_empty() || self.ids.contains(&letter.id);
        let reason = self.reason.as_ref().is_none_or(|reason| letter.reason == *reason);
        named && reason && self.webhook.is_none_or(|webhook| letter.webhook(kind) == Some(webhook))
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
