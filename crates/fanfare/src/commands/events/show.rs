//! Formats events for people.

use fanfare_store::events::{EventDetail, EventSummary, Planned};

use fanfare_app::clock::rfc3339;

/// The headings of a list.
pub(super) const HEADINGS: [&str; 6] =
    ["RECEIVED", "ID", "TYPE", "SUBJECT", "WEBHOOKS", "REVISION"];

/// The row of an event in a list.
pub(super) fn row(event: &EventSummary) -> Vec<String> {
    vec![
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
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    vec![
        ("Id", event.id.clone()),
        ("Source", event.source.clone()),
        ("Type", event.event_type.clone()),
        ("Subject", event.subject.clone()),
        ("Time", or_dash(event.time.map(rfc3339))),
        ("Received", rfc3339(event.received_at)),
        ("Batch", event.batch.to_string()),
        ("Asked for revision", or_dash(event.access_revision.map(|it| it.to_string()))),
        ("Decided by revision", event.decided_revision.to_string()),
        ("Traceparent", or_dash(detail.traceparent.clone())),
        ("Webhooks", webhooks(event)),
        ("Notification", detail.notification.clone()),
    ]
}

fn webhooks(event: &EventSummary) -> String {
    let settled = if event.settled { "" } else { " (not settled)" };
    format!("{}{settled}", event.webhooks)
}

/// The headings of an event's deliveries.
pub(super) const DELIVERY_HEADINGS: [&str; 3] = ["DELIVERY", "WEBHOOK", "STATE"];

/// The row of an event's delivery.
pub(super) fn delivery_row(planned: &Planned) -> Vec<String> {
    let state = planned.state.name();
    let state = match &planned.reason {
        Some(reason) => format!("{state} ({reason})"),
        None => state.to_owned(),
    };
    vec![planned.id.to_string(), planned.webhook.to_string(), state]
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use fanfare_core::ids::{BatchKey, DeliveryId, EventKey, WebhookId};
    use fanfare_core::outcome::State;
    use uuid::Uuid;

    fn event() -> EventSummary {
        EventSummary {
            key: EventKey(Uuid::from_u128(1)),
            id: "e1".to_owned(),
            source: "/main".to_owned(),
            event_type: "tasks.execute".to_owned(),
            subject: "tasks/t1".to_owned(),
            time: None,
            received_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            batch: BatchKey(Uuid::from_u128(2)),
            position: 0,
            access_revision: None,
            decided_revision: 9,
            webhooks: 1,
            settled: true,
        }
    }

    #[test]
    fn rows_have_a_cell_for_each_heading() {
        assert_eq!(row(&event()).len(), HEADINGS.len());
        let delivery = Planned {
            id: DeliveryId(Uuid::from_u128(3)),
            webhook: WebhookId(Uuid::from_u128(4)),
            state: State::Dropped,
            reason: Some("owner-disabled".to_owned()),
        };
        assert_eq!(delivery_row(&delivery).len(), DELIVERY_HEADINGS.len());
    }
}
