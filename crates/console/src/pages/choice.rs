//! The choice of dead letters in an address or a form.

use chrono::{DateTime, Utc};
use fanfare_core::dead_letter::{Choice, Kind};
use fanfare_core::name::Name;

use super::components::Moment;
use super::fields::Fields;

/// The names of the fields of a choice.
const FILTERS: [&str; 11] = [
    "queue", "reason", "webhook", "owner", "host", "type", "status", "cause", "since", "until",
    "text",
];

/// Reads the letters that a query or a form chooses; `None` if a value can't be read.
pub(super) fn choice(query: &Fields) -> Option<Choice> {
    fn read<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ()> {
        if text.is_empty() { Ok(None) } else { read(text).map(Some).ok_or(()) }
    }
    let time =
        |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc));
    let text = |name: &str| Some(query.text(name).replace('\0', "")).filter(|it| !it.is_empty());
    Some(Choice {
        noted_before: None,
        ids: query.all("id").filter(|id| !id.contains('\0')).map(str::to_owned).collect(),
        kind: read(query.text("queue"), Kind::parse).ok()?,
        reason: text("reason"),
        webhook: read(query.text("webhook"), |id| id.parse().ok()).ok()?,
        owner: read(query.text("owner"), Name::parse).ok()?,
        host: text("host"),
        event_type: text("type"),
        status: read(query.text("status"), |status| status.parse().ok()).ok()?,
        cause: text("cause"),
        since: read(query.text("since"), time).ok()?,
        until: read(query.text("until"), time).ok()?,
        text: text("text"),
    })
}

/// The fields that narrow the choice, as they were sent.
pub(super) fn filters(query: &Fields) -> Vec<(String, String)> {
    let ids = query.all("id").map(|id| ("id".to_owned(), id.to_owned()));
    let others = FILTERS.iter().map(|name| ((*name).to_owned(), query.text(name).to_owned()));
    ids.chain(others).filter(|(_, value)| !value.is_empty()).collect()
}

/// What a field of a choice is called.
pub(super) fn label(name: &str) -> &str {
    match name {
        "queue" => "kind",
        "since" => "died since",
        "until" => "died before",
        "type" => "event type",
        "status" => "last status",
        "cause" => "error",
        other => other,
    }
}

/// The value of a field that is a time.
pub(super) fn moment(name: &str, value: &str) -> Option<Moment> {
    let at = matches!(name, "since" | "until").then(|| DateTime::parse_from_rfc3339(value).ok());
    at.flatten().map(|at| Moment(at.with_timezone(&Utc)))
}
