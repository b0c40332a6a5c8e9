//! Formats deliveries and attempts for people.

use chrono::{DateTime, Utc};
use fanfare_core::answer::Trace;
use fanfare_store::deliveries::{AttemptLog, Delivery};

use fanfare_app::clock::rfc3339;

/// The headings of a list.
pub(super) const HEADINGS: [&str; 8] =
    ["ID", "CREATED", "STATE", "ATTEMPTS", "STATUS", "OWNER", "TYPES", "URL"];

/// The row of a delivery in a list.
pub(super) fn row(delivery: &Delivery) -> Vec<String> {
    vec![
        delivery.id.to_string(),
        rfc3339(delivery.created_at),
        state(delivery),
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
        ("State", state(delivery)),
        ("Detail", or_dash(delivery.detail.as_ref())),
        ("Decided at revision", or_dash(delivery.revision)),
        ("Attempts", delivery.attempts.to_string()),
        ("Last status", or_dash(delivery.last_status)),
        ("Created", rfc3339(delivery.created_at)),
        ("Finished", time(delivery.finished_at)),
        ("Next attempt", time(delivery.next_attempt_at)),
    ]
}

/// The headings of the attempts.
pub(super) const ATTEMPT_HEADINGS: [&str; 7] =
    ["ATTEMPT", "AT", "MS", "OF IT", "STATUS", "OUTCOME", "ERROR OR ANSWER"];

/// The row of an attempt.
pub(super) fn attempt_row(attempt: &AttemptLog) -> Vec<String> {
    let text = attempt.error.as_deref().or(attempt.response_body.as_deref());
    let text: String = text.unwrap_or_default().chars().take(200).collect();
    vec![
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

fn state(delivery: &Delivery) -> String {
    match &delivery.reason {
        Some(reason) => format!("{} ({reason})", delivery.state.name()),
        None => delivery.state.name().to_owned(),
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::ids::{DeliveryId, WebhookId};
    use fanfare_core::outcome::State;
    use uuid::Uuid;

    fn delivery() -> Delivery {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        Delivery {
            id: DeliveryId(Uuid::from_u128(1)),
            webhook: WebhookId(Uuid::from_u128(2)),
            owner: Some("Anna".to_owned()),
            uri: Some("http://x/".to_owned()),
            events: vec!["e1".to_owned(), "e2".to_owned()],
            types: vec!["a.b".to_owned(), "c.d".to_owned()],
            state: State::Dropped,
            attempts: 2,
            last_status: Some(500),
            reason: Some("access-revoked".to_owned()),
            detail: Some("who and what".to_owned()),
            revision: Some(7),
            created_at: time(1_800_000_000),
            finished_at: Some(time(1_800_000_060)),
            next_attempt_at: None,
        }
    }

    #[test]
    fn rows_have_a_cell_for_each_heading() {
        assert_eq!(row(&delivery()).len(), HEADINGS.len());
        assert_eq!(row(&delivery())[2], "dropped (access-revoked)");
    }
}
