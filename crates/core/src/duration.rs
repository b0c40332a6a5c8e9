//! Durations as people write and read them.

use std::time::Duration;

/// The longest duration that can be added to a date without overflow: a hundred years.
pub const LONGEST: Duration = Duration::from_hours(36_500 * 24);

/// Parses a whole number with a unit, such as `500ms`, `5s`, `2m`, `12h` or `3d`. Spaces, signs and
/// further units are not allowed. Returns `None` for any other text, and for a number of
/// milliseconds that exceeds 64 bits.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_millis)
}

/// The value of a `Retry-After` header, in seconds: rounded up, and at least 1, since 0 would
/// invite the next request at once.
#[must_use]
pub fn seconds_to_wait(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("5s", 5000),
            ("2m", 120_000),
            ("12h", 43_200_000),
            ("3d", 259_200_000),
            ("18446744073709551615ms", u64::MAX),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        let overflows = ["18446744073709551616ms", "18446744073709551615s"];
        let malformed = [
            "", "5", "s", "-1s", "+1s", "1.5h", " 5s", "5 s", "5s ", "5S", "5w", "1h30m",
            "\u{663}s",
        ];
        for text in malformed.into_iter().chain(overflows) {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up_to_at_least_a_second() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(seconds_to_wait(Duration::from_millis(millis)), seconds);
        }
        assert_eq!(seconds_to_wait(Duration::MAX), u64::MAX);
    }
}
