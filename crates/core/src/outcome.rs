//! What follows from an attempt: done, again later, or dead.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::answer::{Answer, Failure};
use crate::retry::RetryPolicy;

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx answer.
    Delivered,
    /// A 410 answer: the receiver wants nothing more.
    Gone,
    /// Any other answer.
    Status,
    /// No answer.
    Failed(Failure),
}

impl Outcome {
    /// Judges an answer. The status alone decides.
    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Response { status: 200..=299, .. } => Self::Delivered,
            Answer::Response { status: 410, .. } => Self::Gone,
            Answer::Response { .. } => Self::Status,
            Answer::Failed { failure, .. } => Self::Failed(*failure),
        }
    }

    /// The stable code under which it is recorded.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Status => "status",
            Self::Failed(failure) => failure.code(),
        }
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Owed; nothing was tried yet, or a person asked for it again.
    Pending,
    /// Tried in vain; the next attempt has its time.
    Retrying,
    /// Done.
    Delivered,
    /// Not to be sent any more, with a reason.
    Dropped,
    /// Given up, kept for a person.
    Dead,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Retrying, Self::Delivered, Self::Dropped, Self::Dead];

    /// The state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::Dead => "dead",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more is owed.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Dropped | Self::Dead)
    }
}

/// Why a delivery is not sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The webhook is gone.
    WebhookDeleted,
    /// The webhook is paused.
    WebhookPaused,
    /// The owner is disabled.
    OwnerDisabled,
    /// The owner is not in the directory any more.
    OwnerDeleted,
    /// The owner may not read the resource any more.
    AccessRevoked,
}

impl DropReason {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::WebhookDeleted => "webhook-deleted",
            Self::WebhookPaused => "webhook-paused",
            Self::OwnerDisabled => "owner-disabled",
            Self::OwnerDeleted => "owner-deleted",
            Self::AccessRevoked => "access-revoked",
        }
    }

    /// The reason in words: who, what, and as of which directory revision.
    #[must_use]
    pub fn sentence(self, owner: &str, subjects: &[&str], revision: i64) -> String {
        match self {
            Self::WebhookDeleted => "the webhook was deleted".to_owned(),
            Self::WebhookPaused => "the webhook was paused".to_owned(),
            Self::OwnerDisabled => {
                format!("the owner {owner} is disabled as of directory revision {revision}")
            }
            Self::OwnerDeleted => {
                format!("the owner {owner} is not in the directory as of revision {revision}")
            }
            Self::AccessRevoked => format!(
                "the owner {owner} may not read {} as of directory revision {revision}",
                subjects.join(", ")
            ),
        }
    }
}

/// How long the plan's decision holds for a first attempt. One that begins later is decided about
/// again, as a retry is, whatever put it off.
pub const PLAN_HOLDS: Duration = Duration::from_secs(30);

/// Whether the plan's decision still holds. A plan of the future is one whose clock is ahead.
#[must_use]
pub fn plan_holds(planned_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - planned_at).to_std().unwrap_or_default() <= PLAN_HOLDS
}

/// The reason why a first attempt was not made, or not with all events, with what led to that
/// decision: the plan was for it.
#[must_use]
pub fn decided_again(detail: &str, planned_at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let waited = (now - planned_at).num_seconds();
    format!("{detail}; the first attempt had waited {waited} s and was decided again")
}

/// Why a delivery was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// All attempts failed.
    Exhausted,
    /// The next attempt would come after the deadline.
    Expired,
    /// It ended its workers, even those that attempted nothing else at that time.
    Poison,
    /// The database does not know its events, as after a failover or a restore that lost commits.
    LedgerLost,
}

impl DeadReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Exhausted, Self::Expired, Self::Poison, Self::LedgerLost];

    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Expired => "expired",
            Self::Poison => "poison",
            Self::LedgerLost => "ledger-lost",
        }
    }
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it arrived.
    Delivered,
    /// Nothing but to pause the webhook.
    Gone,
    /// Try again no sooner than this.
    RetryIn(Duration),
    /// Give up.
    Dead(DeadReason),
}

/// How far a chain of attempts has come, its last attempt included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Attempts in this chain so far.
    pub tries: u32,
    /// When the chain began.
    pub since: DateTime<Utc>,
    /// When the last attempt ended.
    pub now: DateTime<Utc>,
}

/// Decides what follows from an answer. `chance` is a random number from 0 up to 1.
#[must_use]
pub fn decide(policy: &RetryPolicy, answer: &Answer, progress: Progress, chance: f64) -> Next {
    match Outcome::of(answer) {
        Outcome::Delivered => return Next::Delivered,
        Outcome::Gone => return Next::Gone,
        Outcome::Status | Outcome::Failed(_) => {}
    }
    if progress.tries >= policy.attempts {
        return Next::Dead(DeadReason::Exhausted);
    }
    let asked = retry_after(answer, progress.now).unwrap_or_default();
    let delay = policy.delay(progress.tries, chance).max(asked);
    let age = (progress.now - progress.since).to_std().unwrap_or_default();
    if age.saturating_add(delay) > policy.deadline {
        return Next::Dead(DeadReason::Expired);
    }
    Next::RetryIn(delay)
}

/// How long the receiver asked us to wait: `Retry-After` of a 429 or 503, as seconds or as an HTTP
/// date (RFC 9110, section 10.2.3).
fn retry_after(answer: &Answer, now: DateTime<Utc>) -> Option<Duration> {
    let Answer::Response { status: 429 | 503, retry_after: Some(text), .. } = answer else {
        return None;
    };
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let date = DateTime::<Utc>::from(httpdate::parse_http_date(text).ok()?);
    // A date has whole seconds; one more keeps us on the later side of it.
    (date - now + TimeDelta::seconds(1)).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(status: u16, retry_after: Option<&str>) -> Answer {
        let retry_after = retry_after.map(str::to_owned);
        Answer::Response { status, retry_after, body: String::new() }
    }

    fn after(tries: u32) -> Progress {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Progress { tries, since: now, now }
    }

    fn next(answer: &Answer, tries: u32) -> Next {
        decide(&RetryPolicy::default(), answer, after(tries), 0.5)
    }

    #[test]
    fn the_status_decides() {
        for status in [200, 201, 204, 299] {
            assert_eq!(next(&response(status, None), 1), Next::Delivered);
        }
        assert_eq!(next(&response(410, None), 1), Next::Gone);
        for status in [100, 301, 302, 304, 400, 401, 404, 429, 500, 503] {
            let expected = Next::RetryIn(Duration::from_secs(5));
            assert_eq!(next(&response(status, None), 1), expected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_kept_for_429_and_503_only() {
        let hour = Next::RetryIn(Duration::from_hours(1));
        assert_eq!(next(&response(429, Some("3600")), 1), hour);
        assert_eq!(next(&response(503, Some(" 3600 ")), 1), hour);
        let soon = Next::RetryIn(Duration::from_secs(5));
        assert_eq!(next(&response(500, Some("3600")), 1), soon);
        assert_eq!(next(&response(429, Some("1")), 1), soon);
        assert_eq!(next(&response(429, Some("soon")), 1), soon);
        let date = "Fri, 15 Jan 2027 09:00:00 GMT";
        assert_eq!(next(&response(503, Some(date)), 1), Next::RetryIn(Duration::from_secs(3601)));
    }

    #[test]
    fn the_plan_holds_for_thirty_seconds() {
        let planned = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let after = |millis| planned + TimeDelta::milliseconds(millis);
        for millis in [-5_000, 0, 30_000] {
            assert!(plan_holds(planned, after(millis)), "{millis}");
        }
        assert!(!plan_holds(planned, after(30_001)));
        let detail = decided_again("the owner anna is disabled", planned, after(45_900));
        assert!(detail.ends_with("the first attempt had waited 45 s and was decided again"));
    }

    #[test]
    fn the_last_attempt_and_the_deadline_end_it() {
        assert_eq!(next(&response(500, None), 12), Next::Dead(DeadReason::Exhausted));
        let patience = response(503, Some("999999"));
        assert_eq!(next(&patience, 1), Next::Dead(DeadReason::Expired));
    }

    proptest! {
        #[test]
        fn a_retry_is_never_sooner_than_asked(seconds in 0u32..250_000, tries in 1u32..12, chance in 0.0f64..1.0) {
            let answer = response(503, Some(&seconds.to_string()));
            match decide(&RetryPolicy::default(), &answer, after(tries), chance) {
                Next::RetryIn(delay) => prop_assert!(delay.as_secs() >= u64::from(seconds)),
                Next::Dead(DeadReason::Expired) => prop_assert!(seconds > 200_000),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
