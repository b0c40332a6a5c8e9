//! The choice of the time in which letters died. A page turns it into exact times, so that its address
//! means the same later, and for an operation.

use chrono::{DateTime, Days, SecondsFormat, TimeDelta, Utc};

use super::audit::begin;
use super::fields::Fields;
use super::resend::CHOICES;

/// The name of the field.
pub(super) const FIELD: &str = "died";
/// The filters that it becomes.
pub(super) const TIMES: [&str; 2] = ["since", "until"];

/// Days, and how long ago they began: the labels name the zone, because the server does not know the
/// reader's.
const DAYS: [(&str, &str, u64); 2] =
    [("today", "Today (UTC)", 0), ("yesterday", "Yesterday (UTC)", 1)];

/// What can be chosen: values and labels.
pub(super) fn choices() -> impl Iterator<Item = (&'static str, &'static str)> {
    let days = DAYS.iter().map(|(name, label, _)| (*name, *label));
    CHOICES.iter().map(|(name, label, _)| (*name, *label)).chain(days)
}

/// The filters with the time that a query chooses in place of theirs; `None` if it chooses none.
pub(super) fn applied(
    query: &Fields,
    filters: &[(String, String)],
    now: DateTime<Utc>,
) -> Option<Vec<(String, String)>> {
    let (since, until) = times(query.text(FIELD), now)?;
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let times = [("since", Some(since)), ("until", until)];
    let times = times.into_iter().filter_map(|(name, at)| Some((name.to_owned(), text(at?))));
    let others = filters.iter().filter(|(name, _)| !TIMES.contains(&name.as_str())).cloned();
    Some(others.chain(times).collect())
}

fn times(name: &str, now: DateTime<Utc>) -> Option<(DateTime<Utc>, Option<DateTime<Utc>>)> {
    if let Some((_, _, ago)) = CHOICES.iter().find(|(known, ..)| *known == name) {
        return Some((now.checked_sub_signed(*ago)?, None));
    }
    let (_, _, ago) = DAYS.iter().find(|(known, ..)| *known == name)?;
    let since = begin(now.date_naive().checked_sub_days(Days::new(*ago))?);
    Some((since, since.checked_add_signed(TimeDelta::days(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_becomes_exact_times() {
        let now = "2026-11-23T10:20:30.5Z".parse().unwrap();
        let of = |died: &str| {
            let query = Fields::parse(format!("died={died}").as_bytes());
            let filters = [("host", "h"), ("since", "x"), ("until", "y")];
            let filters = filters.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let applied = applied(&query, &filters, now)?;
            Some(applied.into_iter().map(|(name, at)| format!("{name}={at}")).collect::<Vec<_>>())
        };
        assert_eq!(of("24h").unwrap(), ["host=h", "since=2026-11-22T10:20:30Z"]);
        let yesterday = ["host=h", "since=2026-11-22T00:00:00Z", "until=2026-11-23T00:00:00Z"];
        assert_eq!(of("yesterday").unwrap(), yesterday);
        assert_eq!(of("today").unwrap()[1], "since=2026-11-23T00:00:00Z");
        assert_eq!((of(""), of("never")), (None, None));
    }
}
