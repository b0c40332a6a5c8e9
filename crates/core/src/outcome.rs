//! The outcome of an attempt, and the decision that follows: delivered, retried or dead.

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
    /// The outcome of an answer. Only the status counts.
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

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The first attempt is still to be made, or a person has requested another series of attempts.
    Pending,
    /// The last attempt failed, and the time of the next one is set.
    Retrying,
    /// The receiver accepted it.
    Delivered,
    /// It must not be sent any more, for a recorded reason.
    Dropped,
    /// It was given up, and is kept for a person.
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

    /// Whether no further attempt will be made.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Dropped | Self::Dead)
    }
}

/// Why a delivery was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The webhook is deleted.
    WebhookDeleted,
    /// The webhook is paused.
    WebhookPaused,
    /// The owner is disabled.
    OwnerDisabled,
    /// The owner is not in the directory any more.
    OwnerDeleted,
    /// The owner may not read the resource any more.
    AccessRevoked,
    /// The payload of one of its events was removed, so that there is nothing to send.
    PayloadRemoved,
    /// It would have been sent, but the installation is in shadow mode.
    Shadow,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::WebhookDeleted,
        Self::WebhookPaused,
        Self::OwnerDisabled,
        Self::OwnerDeleted,
        Self::AccessRevoked,
        Self::PayloadRemoved,
        Self::Shadow,
    ];

    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::WebhookDeleted => "webhook-deleted",
            Self::WebhookPaused => "webhook-paused",
            Self::OwnerDisabled => "owner-disabled",
            Self::OwnerDeleted => "owner-deleted",
            Self::AccessRevoked => "access-revoked",
            Self::PayloadRemoved => "payload-removed",
            Self::Shadow => "shadow",
        }
    }

    /// The reason in words, with the owner, the resources and the directory revision.
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
            Self::PayloadRemoved => "its payload was removed".to_owned(),
            Self::Shadow => "it would have been sent, but shadow mode sends nothing".to_owned(),
        }
    }
}

/// How long the plan's decision about access is valid for a first attempt. For a first attempt that
/// begins later, access is decided again, as for a retry, whatever delayed it.
pub const PLAN_HOLDS: Duration = Duration::from_secs(30);

/// Whether the plan's decision is still valid. A plan in the future is from a clock that is ahead,
/// and is valid.
#[must_use]
pub fn plan_holds(planned_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - planned_at).to_std().unwrap_or_default() <= PLAN_HOLDS
}

/// Extends the reason why a first attempt was not made, or left out events: it says that access was
/// decided again, because the plan had decided otherwise.
#[must_use]
pub fn decided_again(detail: &str, planned_at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let waited = (now - planned_at).num_seconds();
    format!("{detail}; access was decided again because the first attempt had waited {waited} s")
}

/// Why a delivery was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// All attempts failed.
    Exhausted,
    /// The next attempt would come after the deadline.
    Expired,
    /// Its attempts ended their workers, even solo attempts.
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

/// The decision after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The delivery is delivered.
    Delivered,
    /// The delivery is delivered, and the webhook is to be paused.
    Gone,
    /// The delivery is to be retried after this time.
    RetryIn(Duration),
    /// The delivery is dead.
    Dead(DeadReason),
}

/// The progress of a series of attempts, its last attempt included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The attempts in this series so far.
    pub attempts_in_series: u32,
    /// When the series began.
    pub since: DateTime<Utc>,
    /// When the last attempt ended.
    pub now: DateTime<Utc>,
}

/// Decides what follows an answer. `chance` is a random number from 0 up to 1, for the jitter.
#[must_use]
pub fn decide(policy: &RetryPolicy, answer: &Answer, progress: Progress, chance: f64) -> Next {
    match Outcome::of(answer) {
        Outcome::Delivered => return Next::Delivered,
        Outcome::Gone => return Next::Gone,
        Outcome::Status | Outcome::Failed(_) => {}
    }
    if progress.attempts_in_series >= policy.attempts {
        return Next::Dead(DeadReason::Exhausted);
    }
    let asked = retry_after(answer, progress.now).unwrap_or_default();
    let usual = policy.delay(progress.attempts_in_series, chance);
    let age = (progress.now - progress.since).to_std().unwrap_or_default();
    let left = policy.deadline.saturating_sub(age);
    if usual > left {
        return Next::Dead(DeadReason::Expired);
    }
    let delay = usual.max(asked);
    // If the receiver asks for a wait beyond the deadline, one more attempt is made before the
    // deadline.
    Next::RetryIn(if delay > left { usual.max(before_deadline(left)) } else { delay })
}

/// The delay of the attempt that is made before the deadline although the receiver asked for a
/// longer wait. The broker's delays exceed the requested delay by up to an eighth, which is left
/// free.
fn before_deadline(left: Duration) -> Duration {
    left.saturating_sub(left / 8)
}

/// The wait that the receiver asks for: `Retry-After` of a 429 or 503, as seconds or as an HTTP
/// date (RFC 9110, section 10.2.3). Seconds may have decimals, which are rounded up.
pub(crate) fn retry_after(answer: &Answer, now: DateTime<Utc>) -> Option<Duration> {
    let Answer::Response { status: 429 | 503, retry_after: Some(text), .. } = answer else {
        return None;
    };
    let text = text.trim();
    if let Some(seconds) = whole_seconds(text) {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::<Utc>::from(httpdate::parse_http_date(text).ok()?);
    // A date has whole seconds. One second more makes sure that it has passed.
    (date - now + TimeDelta::seconds(1)).to_std().ok()
}

/// Parses a decimal number of seconds, rounded up and limited to [`u64::MAX`].
fn whole_seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let more = part.bytes().any(|digit| digit != b'0');
    // A text of digits fails to parse only if the number is too large.
    Some(whole.parse().unwrap_or(u64::MAX).saturating_add(u64::from(more)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(status: u16, retry_after: Option<&str>) -> Answer {
        let retry_after = retry_after.map(str::to_owned);
        Answer::Response { status, retry_after, exhausted: None, body: String::new() }
    }

    fn after(tries: u32) -> Progress {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Progress { attempts_in_series: tries, since: now, now }
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
    fn retry_after_counts_for_429_and_503_only() {
        let hour = Next::RetryIn(Duration::from_hours(1));
        assert_eq!(next(&response(429, Some("3600")), 1), hour);
        assert_eq!(next(&response(503, Some(" 3600 ")), 1), hour);
        let soon = Next::RetryIn(Duration::from_secs(5));
        assert_eq!(next(&response(500, Some("3600")), 1), soon);
        assert_eq!(next(&response(429, Some("1")), 1), soon);
        assert_eq!(next(&response(429, Some("soon")), 1), soon);
        for date in [
            "Fri, 15 Jan 2027 09:00:00 GMT",
            "Friday, 15-Jan-27 09:00:00 GMT",
            "Fri Jan 15 09:00:00 2027",
        ] {
            let expected = Next::RetryIn(Duration::from_secs(3601));
            assert_eq!(next(&response(503, Some(date)), 1), expected, "{date}");
        }
    }

    #[test]
    fn retry_after_rounds_seconds_up_and_ignores_invalid_values() {
        for (text, seconds) in [
            ("29.0", 29),
            ("29.2", 30),
            ("29.000001", 30),
            ("0.5", 5),
            ("007.5", 8),
            ("-30", 5),
            ("+30", 5),
            ("30s", 5),
            ("30,5", 5),
            (".5", 5),
            ("30.", 5),
            ("1e3", 5),
            ("", 5),
            ("Fri, 15 Jan 2021 09:00:00 GMT", 5),
            ("٣٠", 5),
        ] {
            let expected = Next::RetryIn(Duration::from_secs(seconds));
            assert_eq!(next(&response(429, Some(text)), 1), expected, "{text:?}");
        }
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
        assert!(
            detail.ends_with("access was decided again because the first attempt had waited 45 s")
        );
    }

    #[test]
    fn a_delivery_is_dead_after_the_last_attempt_or_the_deadline() {
        assert_eq!(next(&response(500, None), 12), Next::Dead(DeadReason::Exhausted));
        let policy = RetryPolicy::default();
        let late = Progress { since: after(1).now - TimeDelta::hours(72), ..after(1) };
        let end = decide(&policy, &response(500, None), late, 0.5);
        assert_eq!(end, Next::Dead(DeadReason::Expired));
    }

    #[test]
    fn a_wait_beyond_the_deadline_leaves_room_for_one_more_attempt() {
        let last = Next::RetryIn(Duration::from_hours(63));
        for text in [
            "300000",
            "4294967296",
            "99999999999999999999999999.5",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ] {
            assert_eq!(next(&response(503, Some(text)), 1), last, "{text}");
        }
        let policy = RetryPolicy::default();
        let decide_at = |age: TimeDelta, tries| {
            let progress = Progress { since: after(tries).now - age, ..after(tries) };
            decide(&policy, &response(429, Some("300000")), progress, 0.5)
        };
        assert_eq!(decide_at(TimeDelta::hours(64), 1), Next::RetryIn(Duration::from_hours(7)));
        let seconds = |n: i64| TimeDelta::seconds(72 * 3600 - n);
        assert_eq!(decide_at(seconds(40), 1), Next::RetryIn(Duration::from_secs(35)));
        // The delay is at least the usual one; a delivery whose usual delay exceeds the deadline is
        // dead.
        assert_eq!(decide_at(seconds(5), 1), Next::RetryIn(Duration::from_secs(5)));
        assert_eq!(decide_at(seconds(4), 1), Next::Dead(DeadReason::Expired));
        assert_eq!(decide_at(TimeDelta::hours(1), 12), Next::Dead(DeadReason::Exhausted));
    }

    proptest! {
        #[test]
        fn a_retry_is_never_sooner_than_asked_unless_that_is_after_the_deadline(
            seconds in 0u32..500_000, tries in 1u32..12, chance in 0.0f64..1.0,
        ) {
            let answer = response(503, Some(&seconds.to_string()));
            let policy = RetryPolicy::default();
            match decide(&policy, &answer, after(tries), chance) {
                Next::RetryIn(delay) => {
                    let asked = Duration::from_secs(seconds.into());
                    prop_assert!(delay <= policy.deadline);
                    prop_assert!(delay >= asked.min(before_deadline(policy.deadline)));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
