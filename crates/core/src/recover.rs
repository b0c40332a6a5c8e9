//! Recovering what webhooks missed: which deliveries are asked for, and what is judged about each.
//!
//! A webhook missed an event if its filters match it now, its owner may read the resource now and could
//! read it when the event was routed, and no delivery was made: the webhook was paused or did not exist
//! yet, its owner was disabled, or the delivery was dropped.

use chrono::{DateTime, TimeDelta, Utc};

use crate::dead_letter::Choice;
use crate::ids::WebhookId;
use crate::name::Name;

/// The time after which every event that was received before is in the ledger, with the plan of its
/// routing. A router whose statement takes longer fails anyway.
pub const ROUTED_WITHIN: TimeDelta = TimeDelta::seconds(10);

/// The deliveries that are asked for: what was missed in a time, by events that were received and
/// deliveries that were dropped in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Only of this webhook.
    pub webhook: Option<WebhookId>,
    /// Only of this user's webhooks.
    pub owner: Option<Name>,
    /// What was missed at this time or later …
    pub from: DateTime<Utc>,
    /// … and before this time.
    pub until: DateTime<Utc>,
}

/// Why nothing can be recovered by a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMissed {
    /// There is no beginning of the time.
    #[error("say since when events were missed")]
    NoTime,
    /// The time is empty.
    #[error("the time in which events were missed ends before it begins")]
    EmptyTime,
    /// Another condition than those of what was missed.
    #[error("what is recovered is chosen by the webhook, the owner and the time alone")]
    OtherCondition,
}

impl Missed {
    /// Reads what was missed from the conditions that operations have. Without an end, the time ends now.
    ///
    /// # Errors
    ///
    /// [`BadMissed`]
    pub fn of(choice: &Choice, now: DateTime<Utc>) -> Result<Self, BadMissed> {
        let Choice { webhook, owner, since, until, .. } = choice.clone();
        let known = Choice { webhook, owner: owner.clone(), since, until, ..Choice::default() };
        if known != *choice {
            return Err(BadMissed::OtherCondition);
        }
        let from = since.ok_or(BadMissed::NoTime)?;
        let until = until.unwrap_or(now);
        if from >= until {
            return Err(BadMissed::EmptyTime);
        }
        Ok(Self { webhook, owner, from, until })
    }
}

/// What is judged about a delivery that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It was missed, and would be sent.
    Send,
    /// Its receiver has it.
    AlreadyDelivered,
    /// It is waiting for an attempt.
    Pending,
    /// It is a dead letter, which is replayed and not recovered.
    Dead,
    /// The owner may not read the resource now, or is not enabled.
    NotNow,
    /// The owner could not read the resource when the event was routed, or was another person with the
    /// same name.
    NotThen,
    /// The directory's history does not reach back to the event.
    ThenUnknown,
    /// The payload of its events was removed.
    PayloadRemoved,
    /// The webhook's filters don't match the event.
    Filter,
    /// The webhook is paused, and drops what happens meanwhile.
    WebhookPaused,
    /// Shadow mode was on: the server beside Fanfare has sent it.
    Shadow,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 11] = [
        Self::Send,
        Self::AlreadyDelivered,
        Self::Pending,
        Self::Dead,
        Self::NotNow,
        Self::NotThen,
        Self::ThenUnknown,
        Self::PayloadRemoved,
        Self::Filter,
        Self::WebhookPaused,
        Self::Shadow,
    ];

    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::AlreadyDelivered => "already-delivered",
            Self::Pending => "pending",
            Self::Dead => "dead",
            Self::NotNow => "owner-may-not-read",
            Self::NotThen => "owner-could-not-read",
            Self::ThenUnknown => "access-unknown",
            Self::PayloadRemoved => "payload-removed",
            Self::Filter => "filter",
            Self::WebhookPaused => "webhook-paused",
            Self::Shadow => "shadow",
        }
    }

    /// The verdict with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }
}

/// The end of the time whose deliveries can be chosen now: what was received later may not be in the
/// ledger yet.
#[must_use]
pub fn settled_until(until: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    until.min(now - ROUTED_WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::parse(verdict.code()), Some(verdict));
        }
        assert_eq!(Verdict::parse("maybe"), None);
    }

    #[test]
    fn what_was_missed_is_chosen_by_webhook_owner_and_time() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let choice = Choice { since: Some(at(0)), ..Choice::default() };
        let missed = Missed::of(&choice, at(60)).unwrap();
        assert_eq!((missed.from, missed.until), (at(0), at(60)));
        for (choice, expected) in [
            (Choice::default(), BadMissed::NoTime),
            (Choice { until: Some(at(0)), ..choice.clone() }, BadMissed::EmptyTime),
            (Choice { status: Some(500), ..choice.clone() }, BadMissed::OtherCondition),
        ] {
            assert_eq!(Missed::of(&choice, at(60)), Err(expected));
        }
    }

    #[test]
    fn deliveries_are_chosen_when_their_events_are_in_the_ledger() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        assert_eq!(settled_until(at(0), at(60)), at(0));
        assert_eq!(settled_until(at(0), at(4)), at(-6));
    }
}
