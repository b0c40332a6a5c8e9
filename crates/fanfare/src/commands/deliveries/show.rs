//! Formats deliveries and attempts for people.

use chrono::{DateTime, Utc};
use fanfare_core::answer::Trace;
use fanfare_core::payload::WhyRemoved;
use fanfare_store::deliveries::{AttemptLog, Delivery};

use fanfare_app::clock::rfc3339;

use crate::table::{or_dash, state};

/// The headings of a list.
pub(super) const HEADINGS: [&str; 8] =
    ["ID", "CREATED", "STATE", "ATTEMPTS", "STATUS", "OWNER", "TYPES", "URL"];

/// The row of a delivery in a list.
pub(super) fn row(delivery: &Delivery) -> [String; HEADINGS.len()] {
    [
        delivery.id.to_string(),
        rfc3339(delivery.created_at),
        state(delivery.state, delivery.reason.as_deref()),
        delivery.attempts.to_string(),
        or_dash(delivery.last_status),
        or_dash(delivery.owner.as_ref()),
        delivery.types.join(","),
        or_dash(delivery.uri.as_ref()),
    ]
}

/// All properties of a delivery.
pub(super) fn facts(delivery: &Delivery) -> Vec<(&'static str, String)> {
    let time = |time: Option<DateTime<Utc>>| or_dash(time.map(rfc3339));
    vec![
        ("Id", delivery.id.to_string()),
        ("Webhook", delivery.webhook.to_string()),
        ("Owner", or_dash(delivery.owner.as_ref())),
        ("URL", or_dash(delivery.uri.as_ref())),
        ("Events", delivery.events.join(", ")),
        ("Types", delivery.types.join(", ")),
        ("State", state(delivery.state, delivery.reason.as_deref())),
        ("Detail", or_dash(delivery.detail.as_ref())),
        ("Decided at revision", or_dash(delivery.revision)),
        ("Attempts", delivery.attempts.to_string()),
        ("Last status", or_dash(delivery.last_status)),
        ("Created", rfc3339(delivery.created_at)),
        ("Finished", time(delivery.finished_at)),
        ("Next attempt", time(delivery.next_attempt_at)),
        ("Payload removed", or_dash(delivery.payload_removed.map(WhyRemoved::sentence))),
    ]
}

/// The headings of the attempts.
pub(super) const ATTEMPT_HEADINGS: [&str; 7] =
    ["ATTEMPT", "AT", "MS", "PHASES", "STATUS", "OUTCOME", "ERROR OR ANSWER"];

/// The row of an attempt.
pub(super) fn attempt_row(attempt: &AttemptLog) -> [String; ATTEMPT_HEADINGS.len()] {
    let removed = attempt.payload_removed.map(WhyRemoved::sentence);
    let text = attempt.error.as_deref().or(attempt.response_body.as_deref()).or(removed);
    let text: String = text.unwrap_or_default().chars().take(200).collect();
    [
        attempt.attempt.to_string(),
        rfc3339(attempt.at),
        or_dash(attempt.duration_ms),
        phases(attempt.trace.as_ref()),
        or_dash(attempt.status),
        attempt.outcome.clone(),
        text,
    ]
}

/// The durations of an attempt's phases, in milliseconds.
fn phases(trace: Option<&Trace>) -> String {
    let open = || "open connection".to_owned();
    let Some(trace) = trace else { return open() };
    let known = [
        ("DNS", trace.dns_ms),
        ("connect", trace.connect_ms),
        ("TLS", trace.tls_ms),
        ("first byte", trace.first_byte_ms),
    ];
    let phase = |(name, ms): (_, Option<u32>)| ms.map(|ms| format!("{name} {ms}"));
    let reused = (trace.reused() == Some(true)).then(open);
    let phases: Vec<String> =
        reused.into_iter().chain(known.into_iter().filter_map(phase)).collect();
    if phases.is_empty() { "-".to_owned() } else { phases.join(", ") }
}
