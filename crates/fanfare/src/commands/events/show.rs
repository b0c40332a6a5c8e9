//! Formats events for people.

use fanfare_core::payload::WhyRemoved;
use fanfare_store::events::{EventDetail, EventSummary, Planned};

use fanfare_app::clock::rfc3339;

use crate::table::{or_dash, state};

/// The headings of a list.
pub(super) const HEADINGS: [&str; 6] =
    ["RECEIVED", "ID", "TYPE", "SUBJECT", "WEBHOOKS", "REVISION"];

/// The row of an event in a list.
pub(super) fn row(event: &EventSummary) -> [String; HEADINGS.len()] {
    [
        rfc3339(event.received_at),
        event.id.clone(),
        event.event_type.clone(),
        event.subject.clone(),
        webhooks(event),
        event.decided_revision.to_string(),
    ]
}

/// All properties of an event.
pub(super) fn facts(event: &EventSummary, detail: &EventDetail) -> Vec<(&'static str, String)> {
    vec![
        ("Id", event.id.clone()),
        ("Source", event.source.clone()),
        ("Type", event.event_type.clone()),
        ("Subject", event.subject.clone()),
        ("Time", or_dash(event.time.map(rfc3339))),
        ("Received", rfc3339(event.received_at)),
        ("Batch", event.batch.to_string()),
        ("Asked for revision", or_dash(event.access_revision)),
        ("Decided by revision", event.decided_revision.to_string()),
        ("Traceparent", or_dash(detail.traceparent.as_ref())),
        ("Webhooks", webhooks(event)),
        ("Notification", detail.notification.clone()),
        ("Payload removed", or_dash(detail.payload_removed.map(WhyRemoved::sentence))),
    ]
}

fn webhooks(event: &EventSummary) -> String {
    let settled = if event.settled { "" } else { " (not settled)" };
    format!("{}{settled}", event.webhooks)
}

/// The headings of an event's deliveries.
pub(super) const DELIVERY_HEADINGS: [&str; 3] = ["DELIVERY", "WEBHOOK", "STATE"];

/// The row of an event's delivery.
pub(super) fn delivery_row(planned: &Planned) -> [String; DELIVERY_HEADINGS.len()] {
    let state = state(planned.state, planned.reason.as_deref());
    [planned.id.to_string(), planned.webhook.to_string(), state]
}
