//! The `RateLimit` headers of an answer: how long a receiver accepts no further request.
//!
//! Two forms are in use. The current one is a structured field (RFC 9651) of
//! draft-ietf-httpapi-ratelimit-headers, section 4: `RateLimit: "default";r=0;t=30`, possibly with
//! several policies. The older one (versions up to 06) has a header for each number:
//! `RateLimit-Remaining: 0` and `RateLimit-Reset: 30`, the latter in seconds from now. Only a quota
//! that is used up counts. A value that is malformed, or longer than an hour, is ignored.

use std::time::Duration;

/// The longest wait that is accepted, in seconds: some servers send a point in time instead.
const LONGEST: u64 = 3600;

/// How long a receiver accepts no further request, by the values of `RateLimit`,
/// `RateLimit-Remaining` and `RateLimit-Reset`.
#[must_use]
pub fn exhausted(
    limits: &[&str],
    remaining: Option<&str>,
    reset: Option<&str>,
) -> Option<Duration> {
    let items: Vec<&str> = limits.iter().flat_map(|value| split(value, ',')).collect();
    let present = items.iter().filter_map(|item| wait_of(item)).max();
    let older = wait(remaining.and_then(number), reset.and_then(number));
    present.max(older).map(Duration::from_secs)
}

/// The wait of one policy: `"name";r=0;t=30`.
fn wait_of(item: &str) -> Option<u64> {
    let parameter = |name| {
        let mut parameters = split(item, ';').skip(1).filter_map(|text| text.split_once('='));
        parameters.find(|(key, _)| key.trim() == name).and_then(|(_, value)| number(value))
    };
    wait(parameter("r"), parameter("t"))
}

fn wait(remaining: Option<u64>, seconds: Option<u64>) -> Option<u64> {
    let used_up = remaining? == 0;
    seconds.filter(|seconds| used_up && (1..=LONGEST).contains(seconds))
}

/// Parses a whole number of seconds or requests. A sign, or text after the number, is invalid.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A text of digits fails to parse only if the number is too large.
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Splits a text at separators outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let is_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' if quoted && !is_escaped => escaped = true,
            '"' if !is_escaped => quoted = !quoted,
            _ => {}
        }
        character == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(limits: &[&str], older: (Option<&str>, Option<&str>), seconds: Option<u64>) {
        let wait = exhausted(limits, older.0, older.1);
        assert_eq!(wait, seconds.map(Duration::from_secs), "{limits:?} {older:?}");
    }

    #[test]
    fn a_quota_that_is_used_up_gives_the_time_until_its_reset() {
        let none = (None, None);
        check(&[r#""default";r=0;t=30"#], none, Some(30));
        check(&[r#""default"; r=0; t=30"#], none, Some(30));
        check(&[r#""a";r=5;t=60, "b";t=7;r=0"#], none, Some(7));
        check(&[r#""a;r=0;t=9";r=1;t=30"#], none, None);
        check(&[r#""a\",";r=0;t=30;pk=:dHI=:"#], none, Some(30));
        check(&[r#""a";r=0;t=3"#, r#""b";r=0;t=4"#], none, Some(4));
        check(&[r#""default";r=50;t=30"#], none, None);
        check(&[], (Some("0"), Some("12")), Some(12));
        check(&[], (Some(" 0 "), Some("12 ")), Some(12));
        check(&[], (Some("1"), Some("12")), None);
    }

    #[test]
    fn malformed_and_implausible_values_are_ignored() {
        let none = (None, None);
        for value in [
            "",
            "\"",
            r#""a";r=0"#,
            r#""a";t=5"#,
            r#""a";r=0;t=-5"#,
            r#""a";r=0;t=1e3"#,
            r#""a";r=0;t=0"#,
            r#""a";r=0;t=3601"#,
            r#""a";r=0;t=99999999999999999999999"#,
            "limit=10",
        ] {
            check(&[value], none, None);
        }
        check(&[], (Some("0"), Some("1800000000")), None);
        check(&[], (Some("0"), Some("Fri, 15 Jan 2027 09:00:00 GMT")), None);
        check(&[], (None, Some("12")), None);
    }

    proptest! {
        #[test]
        fn no_header_gives_a_wait_of_more_than_an_hour(
            limits in proptest::collection::vec(".{0,40}", 0..3),
            remaining in proptest::option::of("[0-9 ]{0,3}|.{0,9}"),
            reset in proptest::option::of("[0-9]{0,9}|.{0,9}"),
        ) {
            let limits: Vec<&str> = limits.iter().map(String::as_str).collect();
            let wait = exhausted(&limits, remaining.as_deref(), reset.as_deref());
            prop_assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(LONGEST)));
        }
    }
}
