//! Which dead letters somebody means, and what letters say of themselves.

use fanfare_core::event::MAX_ATTRIBUTE;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::Job;

use crate::letter::{ATTEMPTS, DeadLetter, EVENT, LAST_STATUS, OWNER, WEBHOOK, cut};
use crate::topology::Queue;

/// What kind of message died.
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

    /// The queue of such letters.
    #[must_use]
    pub fn queue(self) -> Queue {
        match self {
            Self::Events => Queue::EventsDead,
            Self::Deliveries => Queue::DeliveriesDead,
        }
    }

    /// What people call the queue.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Deliveries => "deliveries",
        }
    }

    /// The kind that people call so.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Which dead letters: all, unless something narrows it.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only these, by their ids; none for all.
    pub ids: Vec<String>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only with this reason.
    pub reason: Option<String>,
    /// Only of this webhook.
    pub webhook: Option<WebhookId>,
}

impl Choice {
    /// Whether it says more than a kind.
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

/// What the headers of a dead delivery say. Those of a dead event are the publisher's, who may have
/// written anything.
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
            Ok(Job::Due(dues)) => match dues.as_slice() {
                [due] => Some(due.webhook),
                // One letter of several webhooks names none.
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

    /// The event's `CloudEvents` id: of a dead event its own, as far as it can be read.
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
    use fanfare_core::job::Due;
    use uuid::Uuid;

    #[test]
    fn a_dead_delivery_tells_its_webhook_even_without_headers() {
        let due = Due {
            batch: BatchKey(Uuid::from_u128(1)),
            webhook: WebhookId(Uuid::from_u128(2)),
            entry: 3,
        };
        let mut letter = DeadLetter {
            id: "l1".to_owned(),
            reason: "poison".to_owned(),
            detail: String::new(),
            dead_at: None,
            routing_key: String::new(),
            message: Message::new(Job::Due(vec![due]).to_bytes().unwrap(), "application/json"),
        };
        assert_eq!(letter.webhook(Kind::Deliveries), Some(due.webhook));
        letter.message.headers.set(WEBHOOK, WebhookId(Uuid::from_u128(9)).to_string());
        assert_eq!(letter.webhook(Kind::Deliveries), Some(WebhookId(Uuid::from_u128(9))));
    }
}
