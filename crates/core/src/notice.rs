//! Notices: one is sent for each stage of a cause while it is open, and one when it is resolved.
//!
//! A cause is a condition of the installation or of one webhook. A router checks the conditions once
//! a minute ([`seen()`]), and [`decide()`] compares them with the causes that are open. A cause has
//! stages: a webhook fails for an hour, for a day, is about to be paused, is paused. Each stage has one
//! notice. A cause is resolved when it was not seen for a quiet time, so that a condition that comes and
//! goes has one notice. [`Notice`] is what receivers get, and [`Channel`] says by what it is sent.

mod channel;
mod decide;
mod message;
mod owner;
mod seen;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::ids::WebhookId;

pub use channel::Channel;
pub use decide::{Finding, Open, Seen, Step, decide};
pub use message::time;
pub use owner::{OwnerChannels, OwnerWebhook, Withheld, may_send};
pub use seen::{DirectoryFacts, Letters, Limits, Observed, WebhookState, seen};

/// The longest time before a pause, or before the end of a secret, at which there is a notice of it.
const AHEAD: TimeDelta = TimeDelta::days(1);

/// What a notice is about, without its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// A webhook fails or is paused.
    Webhook,
    /// A webhook's former secret is about to end.
    Secret,
    /// Dead letters arrive.
    DeadLetters,
    /// First attempts wait for too long.
    Deliveries,
    /// The directory is not as the report server's.
    Directory,
}

impl About {
    /// Everything that a notice may be about.
    pub const ALL: [Self; 5] =
        [Self::Webhook, Self::Secret, Self::DeadLetters, Self::Deliveries, Self::Directory];

    /// The code in the database and in types of notices.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Secret => "secret",
            Self::DeadLetters => "dead-letters",
            Self::Deliveries => "deliveries",
            Self::Directory => "directory",
        }
    }

    /// The value with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|about| about.code() == code)
    }

    /// Whether there is a notice when the cause is resolved. The end of a secret was in the notice before.
    fn has_resolved_notice(self) -> bool {
        self != Self::Secret
    }

    /// The time after which an open cause has another notice, because it has new facts.
    fn repeats_after(self) -> Option<TimeDelta> {
        (self == Self::DeadLetters).then_some(TimeDelta::days(1))
    }
}

/// The stages of causes. Later stages of the same cause are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Every retry to a webhook has failed for an hour.
    Failing,
    /// Every retry to a webhook has failed for a day.
    FailingForADay,
    /// A webhook will soon be paused.
    NearPause,
    /// The service has paused a webhook.
    Paused,
    /// A webhook's former secret will soon end.
    SecretEnding,
    /// Dead letters arrive.
    Arriving,
    /// First attempts wait for too long.
    Late,
    /// Revisions of the directory are missing.
    Behind,
    /// The beginning of the directory is missing, so every event is held.
    Incomplete,
    /// A snapshot of the directory was refused, so every event is held.
    SnapshotRefused,
}

impl Stage {
    /// All stages; those of one cause from the first to the last.
    pub const ALL: [Self; 10] = [
        Self::Failing,
        Self::FailingForADay,
        Self::NearPause,
        Self::Paused,
        Self::SecretEnding,
        Self::Arriving,
        Self::Late,
        Self::Behind,
        Self::Incomplete,
        Self::SnapshotRefused,
    ];

    /// What it is a stage of.
    #[must_use]
    pub fn about(self) -> About {
        match self {
            Self::Failing | Self::FailingForADay | Self::NearPause | Self::Paused => About::Webhook,
            Self::SecretEnding => About::Secret,
            Self::Arriving => About::DeadLetters,
            Self::Late => About::Deliveries,
            Self::Behind | Self::Incomplete | Self::SnapshotRefused => About::Directory,
        }
    }

    /// The type of its notices, which is their routing key, too.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Failing => "webhook.failing",
            Self::FailingForADay => "webhook.failing-day",
            Self::NearPause => "webhook.near-pause",
            Self::Paused => "webhook.paused",
            Self::SecretEnding => "secret.ending",
            Self::Arriving => "dead-letters.arriving",
            Self::Late => "deliveries.late",
            Self::Behind => "directory.behind",
            Self::Incomplete => "directory.incomplete",
            Self::SnapshotRefused => "directory.snapshot-refused",
        }
    }

    /// The stage with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.code() == code)
    }
}

/// The type of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A cause is open, and has reached this stage.
    Open(Stage),
    /// A cause is resolved.
    Resolved(About),
}

impl Kind {
    /// All types of notices.
    pub fn all() -> impl Iterator<Item = Self> {
        let ends = About::ALL.into_iter().filter(|about| about.has_resolved_notice());
        Stage::ALL.into_iter().map(Self::Open).chain(ends.map(Self::Resolved))
    }

    /// The stable code, which is the routing key, too.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Open(stage) => stage.code(),
            Self::Resolved(About::Webhook) => "webhook.resolved",
            Self::Resolved(About::Secret) => "secret.resolved",
            Self::Resolved(About::DeadLetters) => "dead-letters.resolved",
            Self::Resolved(About::Deliveries) => "deliveries.resolved",
            Self::Resolved(About::Directory) => "directory.resolved",
        }
    }

    /// The value with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::all().find(|kind| kind.code() == code)
    }
}

/// The webhook that a cause concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concerned {
    pub id: WebhookId,
    /// The owner's name, as written.
    pub owner: String,
    /// The host of the webhook's address. Paths and queries often contain tokens.
    pub host: String,
}

/// A notice. It holds no secret, no payload, and of an address only the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The same each time that it is sent, so that receivers recognise repetitions.
    pub id: Uuid,
    /// The cause; all of its notices have the same.
    pub cause: Uuid,
    pub kind: Kind,
    /// The webhook; `None` if it is about the whole installation.
    pub webhook: Option<Concerned>,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// Further facts, by stable names.
    pub facts: Map<String, Value>,
}

/// The stage of a webhook whose retries have all failed since this time, and the time at which it will
/// be paused if they go on failing; `None` if it fails for less than an hour.
#[must_use]
pub fn failing(
    since: DateTime<Utc>,
    pause_after: TimeDelta,
    now: DateTime<Utc>,
) -> Option<(Stage, DateTime<Utc>)> {
    let pauses_at = since.checked_add_signed(pause_after).unwrap_or(DateTime::<Utc>::MAX_UTC);
    // A short time before the pause is a warning only if it follows the others.
    let ahead = AHEAD.min(pause_after / 5);
    let lasted = now - since;
    let stage = if pauses_at - now <= ahead {
        Stage::NearPause
    } else if lasted >= TimeDelta::days(1) {
        Stage::FailingForADay
    } else if lasted >= TimeDelta::hours(1) {
        Stage::Failing
    } else {
        return None;
    };
    Some((stage, pauses_at))
}

/// Whether a former secret that signs until this time is about to end.
#[must_use]
pub fn secret_ends_soon(until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    until > now && until - now <= AHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_different_and_lead_back() {
        for kind in Kind::all() {
            assert_eq!(Kind::parse(kind.code()), Some(kind));
            let about = match kind {
                Kind::Open(stage) => stage.about(),
                Kind::Resolved(about) => about,
            };
            assert!(kind.code().starts_with(about.code()), "{}", kind.code());
        }
    }

    #[test]
    fn webhook_fails_for_an_hour_then_a_day_then_is_near_its_pause() {
        let since = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let stage = |hours: i64, pause_days: i64| {
            let now = since + TimeDelta::hours(hours);
            failing(since, TimeDelta::days(pause_days), now).map(|(stage, _)| stage)
        };
        assert_eq!(stage(0, 5), None);
        assert_eq!(stage(1, 5), Some(Stage::Failing));
        assert_eq!(stage(23, 5), Some(Stage::Failing));
        assert_eq!(stage(24, 5), Some(Stage::FailingForADay));
        assert_eq!(stage(95, 5), Some(Stage::FailingForADay));
        assert_eq!(stage(96, 5), Some(Stage::NearPause));
        assert_eq!(stage(18, 1), Some(Stage::Failing));
        assert_eq!(stage(20, 1), Some(Stage::NearPause));
    }
}
