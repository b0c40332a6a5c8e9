//! What an answer's headers ask for: `Retry-After` and the `RateLimit` family.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::answer::Answer;
use fanfare_core::outcome::{Next, Progress, decide};
use fanfare_core::pace::{Feedback, Pace};
use fanfare_core::quota;
use fanfare_core::retry::RetryPolicy;

use crate::Target;
use crate::input::Input;

pub(super) const RETRY_AFTER: Target = Target {
    name: "retry-after",
    about: "Retry-After and RateLimit headers: no wait goes beyond the deadline, whole seconds are \
            waited at least, and no pace ends up beyond its limits",
    check: retry_after,
};

/// The status and the number of attempts are the first two bytes; then `Retry-After`,
/// `RateLimit-Remaining`, `RateLimit-Reset` and any number of `RateLimit`, one a line.
fn retry_after(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let status = input.choose(&[429, 503, 500, 502, 200, 410, 302]).unwrap_or(429);
    let tries = u32::from(input.byte() % 14) + 1;
    let retry_after = input.text().map(str::to_owned);
    let (remaining, reset) = (input.text(), input.text());
    let limits = std::str::from_utf8(input.rest()).unwrap_or_default();
    let limits: Vec<&str> = limits.lines().collect();
    let exhausted = quota::exhausted(&limits, remaining, reset);
    assert!(exhausted.is_none_or(|wait| wait <= Duration::from_hours(1) && !wait.is_zero()));
    let asked = retry_after.clone();
    let answer = Answer::Response { status, retry_after, exhausted, body: String::new() };

    let policy = RetryPolicy::default();
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let since = now - TimeDelta::hours(i64::from(tries));
    let next = decide(&policy, &answer, Progress { attempts_in_series: tries, since, now }, 0.5);
    if let Next::RetryIn(delay) = next {
        let left = policy.deadline.saturating_sub((now - since).to_std().unwrap_or_default());
        assert!(delay <= left, "{delay:?} of {left:?}");
        let seconds = asked.filter(|text| !text.contains('+'));
        let seconds = seconds.and_then(|text| text.trim().parse::<u32>().ok());
        let seconds = seconds.filter(|_| matches!(status, 429 | 503));
        let seconds = seconds.map(|it| Duration::from_secs(it.into())).filter(|it| *it <= left);
        assert!(seconds.is_none_or(|seconds| delay >= seconds), "{delay:?} of {seconds:?}");
    }
    learn(&answer, now);
}

/// A few answers of the same kind teach a pace that stays within its limits.
fn learn(answer: &Answer, now: DateTime<Utc>) {
    let mut pace = Pace::default();
    for turn in 0..4 {
        let began = now + TimeDelta::seconds(turn);
        pace.learn(&Feedback::of(answer, began, began, RetryPolicy::default().deadline));
        assert!(pace.interval.is_none_or(|it| it.is_finite() && (0.0..=600.0).contains(&it)));
        let latest = began + TimeDelta::days(366);
        assert!(pace.hold_until.is_none_or(|until| until <= latest));
    }
}
