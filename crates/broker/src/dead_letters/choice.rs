//! Which dead letters somebody means, and what letters say of themselves.

use fanfare_core::ids::WebhookId;
use fanfare_core::job::Job;
use serde_json::Value;

use super::{DeadLetter, Walk};
use crate::error::BrokerError;
use crate::session::Session;
use crate::topology::Queue;

const WEBHOOK: &str = "x-fanfare-webhook";
const OWNER: &str = "x-fanfare-owner";
const EVENT: &str = "x-fanfare-event";
const ATTEMPTS: &str = "x-fanfare-attempts";
const LAST_STATUS: &str = "x-fanfare-last-status";

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

    fn takes(&self, letter: &DeadLetter) -> bool {
        let named = self.ids.is_empty() || self.ids.contains(&letter.id);
        let reason = self.reason.as_ref().is_none_or(|reason| letter.reason == *reason);
        named && reason && self.webhook.is_none_or(|webhook| letter.webhook() == Some(webhook))
    }
}

/// A look at the chosen dead letters, the oldest of each kind first; see [`Walk`].
pub struct Look {
    session: Session,
    choice: Choice,
    walk: Option<(Kind, Walk)>,
    /// The kinds that are still to come.
    kinds: Vec<Kind>,
    missing: Vec<String>,
}

impl Look {
    /// Begins a look.
    #[must_use]
    pub fn begin(session: &Session, choice: Choice) -> Self {
        let mut kinds = Kind::ALL.to_vec();
        kinds.retain(|kind| choice.kind.is_none_or(|only| only == *kind));
        kinds.reverse();
        let missing = choice.ids.clone();
        Self { session: session.clone(), choice, walk: None, kinds, missing }
    }

    /// The next chosen letter; the one before stays, unless it was taken.
    pub async fn next(&mut self) -> Result<Option<(Kind, DeadLetter)>, BrokerError> {
        loop {
            let Some((kind, walk)) = &mut self.walk else {
                let Some(kind) = self.kinds.pop() else { return Ok(None) };
                self.walk = Some((kind, Walk::begin(&self.session, kind.queue()).await?));
                continue;
            };
            let kind = *kind;
            match walk.next().await? {
                Some(letter) if self.choice.takes(&letter) => {
                    self.missing.retain(|id| *id != letter.id);
                    return Ok(Some((kind, letter)));
                }
                Some(_) => {}
                None => self.end_walk().await?,
            }
        }
    }

    /// Takes the letter that was shown last out of its queue.
    pub async fn take(&mut self) -> Result<(), BrokerError> {
        match &mut self.walk {
            Some((_, walk)) => walk.take().await,
            None => Ok(()),
        }
    }

    /// Ends the look, and returns the ids of the choice that it did not find.
    pub async fn end(mut self) -> Result<Vec<String>, BrokerError> {
        self.end_walk().await?;
        Ok(self.missing)
    }

    async fn end_walk(&mut self) -> Result<(), BrokerError> {
        match self.walk.take() {
            Some((_, walk)) => walk.end().await.map(drop),
            None => Ok(()),
        }
    }
}

impl DeadLetter {
    /// The webhook of a dead delivery.
    #[must_use]
    pub fn webhook(&self) -> Option<WebhookId> {
        if let Some(id) = self.message.headers.text(WEBHOOK) {
            return id.parse().ok();
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
    pub fn owner(&self) -> Option<&str> {
        self.message.headers.text(OWNER)
    }

    /// The event's `CloudEvents` id: of a dead event its own, as far as it can be read.
    #[must_use]
    pub fn event(&self, kind: Kind) -> Option<String> {
        if let Some(id) = self.message.headers.text(EVENT) {
            return Some(id.to_owned());
        }
        if kind == Kind::Deliveries {
            return None;
        }
        let event: Value = serde_json::from_slice(&self.message.body).ok()?;
        event.get("id")?.as_str().map(str::to_owned)
    }

    /// How often a dead delivery was attempted.
    #[must_use]
    pub fn attempts(&self) -> Option<i64> {
        self.message.headers.int(ATTEMPTS)
    }

    /// HTTP status of a dead delivery's last answer.
    #[must_use]
    pub fn last_status(&self) -> Option<i64> {
        self.message.headers.int(LAST_STATUS)
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
        assert_eq!(letter.webhook(), Some(due.webhook));
        letter.message.headers.set(WEBHOOK, WebhookId(Uuid::from_u128(9)).to_string());
        assert_eq!(letter.webhook(), Some(WebhookId(Uuid::from_u128(9))));
    }
}
