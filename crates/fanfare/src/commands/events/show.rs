//! How events are shown.

use anyhow::Context as _;
use fanfare_store::events::{EventDetail, EventSummary, Planned};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::rfc3339;

/// An event in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Json<'a> {
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    subject: &'a str,
    time: Option<String>,
    received_at: String,
    batch: String,
    access_revision: Option<i64>,
    decided_revision: i64,
    webhooks: i32,
    settled: bool,
    #[serde(flatten)]
    detail: Option<DetailJson<'a>>,
}

/// What `fanfare events show` adds.
#[derive(Serialize)]
struct DetailJson<'a> {
    traceparent: Option<&'a str>,
    notification: &'a RawValue,
    deliveries: Vec<DeliveryJson<'a>>,
}

/// A delivery of an event's plan in JSON.
#[derive(Serialize)]
struct DeliveryJson<'a> {
    id: String,
    webhook: String,
    state: &'static str,
    reason: Option<&'a str>,
}

/// An event in JSON.
pub(super) fn json(event: &EventSummary) -> Json<'_> {
    Json {
        id: &event.id,
        source: &event.source,
        event_type: &event.event_type,
        subject: &event.subject,
        time: event.time.map(rfc3339),
        received_at: rfc3339(event.received_at),
        batch: event.batch.0.simple().to_string(),
        access_revision: event.access_revision,
        decided_revision: event.decided_revision,
        webhooks: event.webhooks,
        settled: event.settled,
        detail: None,
    }
}

/// An event with its notification and its plan in JSON.
pub(super) fn json_with_detail<'a>(
    event: &'a EventSummary,
    detail: &'a EventDetail,
) -> anyhow::Result<Json<'a>> {
    let delivery = |planned: &'a Planned| DeliveryJson {
        id: planned.id.to_string(),
        webhook: planned.webhook.to_string(),
        state: planned.state.name(),
        reason: planned.reason.as_deref(),
    };
    let notification = serde_json::from_str(&detail.notification)
        .context("the event's notification in the database is not JSON")?;
    let detail = DetailJson {
        traceparent: detail.traceparent.as_deref(),
        notification,
        deliveries: detail.deliveries.iter().map(delivery).collect(),
    };
    Ok(Json { detail: Some(detail), ..json(event) })
}

/// The headings of a list.
pub(super) const HEADINGS: [&str; 6] =
    ["RECEIVED", "ID", "TYPE", "SUBJECT", "WEBHOOKS", "REVISION"];

/// An event in a list.
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

/// An event with all its properties.
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

/// A delivery of an event in a list.
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
            access_revision: None,
            decided_revision: 9,
            webhooks: 1,
            settled: true,
        }
    }

    const EXPECTED: &str = concat!(
        r#"{"id":"e1","source":"/main","type":"tasks.execute","subject":"tasks/t1","time":null,"#,
        r#""receivedAt":"2027-01-15T08:00:00.000Z","batch":"00000000000000000000000000000002","#,
        r#""accessRevision":null,"decidedRevision":9,"webhooks":1,"settled":true"#,
    );

    #[test]
    fn json_has_its_keys_in_order() {
        assert_eq!(serde_json::to_string(&json(&event())).unwrap(), format!("{EXPECTED}}}"));
        assert_eq!(row(&event()).len(), HEADINGS.len());
    }

    #[test]
    fn a_shown_event_has_its_notification_as_stored() {
        let delivery = Planned {
            id: DeliveryId(Uuid::from_u128(3)),
            webhook: WebhookId(Uuid::from_u128(4)),
            state: State::Dropped,
            reason: Some("owner-disabled".to_owned()),
        };
        assert_eq!(delivery_row(&delivery).len(), DELIVERY_HEADINGS.len());
        let notification = r#"{"Action":"tasks","Z":1.50,"A":null}"#.to_owned();
        let detail = EventDetail { notification, traceparent: None, deliveries: vec![delivery] };
        let event = event();
        let json = json_with_detail(&event, &detail).unwrap();
        let expected = concat!(
            r#","traceparent":null,"notification":{"Action":"tasks","Z":1.50,"A":null},"#,
            r#""deliveries":[{"id":"00000000000000000000000000000003","#,
            r#""webhook":"00000000000000000000000000000004","state":"dropped","#,
            r#""reason":"owner-disabled"}]}"#,
        );
        assert_eq!(serde_json::to_string(&json).unwrap(), format!("{EXPECTED}{expected}"));
    }
}
