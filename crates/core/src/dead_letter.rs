//! Dead letters: what the index of the ledger says about each, and the choice among them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::ids::{BatchKey, WebhookId};
use crate::name::Name;

/// The kind of a dead letter, which says in which queue it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Events and directory documents.
    Events,
    /// Deliveries.
    Deliveries,
}

impl Kind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Events, Self::Deliveries];

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

/// Where the content of a letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the ledger: it can be shown and replayed without its queue.
    Ledger,
    /// Only in its queue: the broker moved it there, another program did, or it is too large to be kept
    /// twice.
    Broker,
}

/// What is known about a dead letter without its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its id, which does not change.
    pub id: String,
    pub kind: Kind,
    pub source: Source,
    /// The row of the ledger by which a delivery died.
    pub died_by: Option<DiedBy>,
    /// The webhook of a dead delivery.
    pub webhook: Option<WebhookId>,
    /// The owner of that webhook.
    pub owner: Option<String>,
    /// The host of its address.
    pub host: Option<String>,
    /// The type of the first event, as published.
    pub event_type: Option<String>,
    /// The `CloudEvents` id of the first event.
    pub event: Option<String>,
    /// Why it was given up: a stable code.
    pub reason: String,
    /// More about the reason, for a person; may be empty.
    pub detail: String,
    /// The outcome of the last attempt.
    pub outcome: Option<String>,
    /// HTTP status of the last answer.
    pub last_status: Option<i32>,
    /// How often a dead delivery was attempted.
    pub attempts: Option<i32>,
    /// The error of the last attempt.
    pub error: Option<String>,
    /// The error without its numbers and ids, by which letters are grouped.
    pub cause: Option<String>,
    /// The size of its content in bytes, if the ledger keeps it as a message.
    pub bytes: i32,
    /// When it became a dead letter, or was first seen as one.
    pub died_at: DateTime<Utc>,
}

impl Letter {
    /// Its position in a list.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { kind: self.kind, died_at: self.died_at, id: self.id.clone() }
    }
}

/// The row of the ledger by which a delivery died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiedBy {
    pub batch: BatchKey,
    pub webhook: WebhookId,
    /// Its sequence number in the delivery.
    pub entry: i32,
    /// When the delivery's events were routed.
    pub received_at: DateTime<Utc>,
}

/// A choice of dead letters: all of them, unless a field narrows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Only letters with these ids; empty for all.
    pub ids: Vec<String>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only with this reason.
    pub reason: Option<String>,
    /// Only of this webhook.
    pub webhook: Option<WebhookId>,
    /// Only of this owner's webhooks.
    pub owner: Option<Name>,
    /// Only of webhooks at this host.
    pub host: Option<String>,
    /// Only of events of this type, without case.
    pub event_type: Option<String>,
    /// Only with this HTTP status of the last answer.
    pub status: Option<i32>,
    /// Only with this cause.
    pub cause: Option<String>,
    /// Only those that died at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those that died before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only those with this text in an id, a name, the reason or the error, without case.
    pub text: Option<String>,
}

impl Choice {
    /// The letters with these ids.
    #[must_use]
    pub fn of_ids(ids: Vec<String>) -> Self {
        Self { ids, ..Self::default() }
    }

    /// Whether anything but the kind narrows it.
    #[must_use]
    pub fn narrows(&self) -> bool {
        *self != Self { kind: self.kind, ..Self::default() }
    }
}

/// A property by which dead letters are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Reason,
    Webhook,
    Owner,
    Host,
    EventType,
    Status,
    Cause,
}

impl GroupBy {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Reason,
        Self::Webhook,
        Self::Owner,
        Self::Host,
        Self::EventType,
        Self::Status,
        Self::Cause,
    ];

    /// The name that people use for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reason => "reason",
            Self::Webhook => "webhook",
            Self::Owner => "owner",
            Self::Host => "host",
            Self::EventType => "type",
            Self::Status => "status",
            Self::Cause => "cause",
        }
    }

    /// The property that people use this name for.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name)
    }
}

/// Where a list of letters ended. The text form is opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub kind: Kind,
    pub died_at: DateTime<Utc>,
    pub id: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.kind.name(), self.died_at.timestamp_micros(), self.id)
    }
}

/// A text that is not a [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no `next` of an earlier answer")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(NoPosition);
        let kind = Kind::parse(part()?).ok_or(NoPosition)?;
        let micros = part()?.parse().map_err(|_| NoPosition)?;
        let died_at = DateTime::from_timestamp_micros(micros).ok_or(NoPosition)?;
        Ok(Self { kind, died_at, id: part()?.to_owned() })
    }
}

/// Whose fault a dead letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The receiver did not accept it within the attempts and the time that it had.
    Receiver,
    /// The event, the directory or this installation: no receiver was asked, or it is not to blame.
    Ours,
}

/// Whose fault a letter with this reason is.
#[must_use]
pub fn fault(reason: &str) -> Fault {
    match reason {
        "exhausted" | "expired" => Fault::Receiver,
        _ => Fault::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back() {
        let died_at = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        let position = Position { kind: Kind::Deliveries, died_at, id: "a.b-3".to_owned() };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "events", "events.1", "events.x.a", "others.1.a"] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }

    #[test]
    fn only_a_condition_narrows_a_choice() {
        let kind = Some(Kind::Events);
        assert!(!Choice::default().narrows());
        assert!(!Choice { kind, ..Choice::default() }.narrows());
        assert!(Choice { kind, status: Some(500), ..Choice::default() }.narrows());
        assert!(Choice::of_ids(vec!["l1".to_owned()]).narrows());
    }
}
