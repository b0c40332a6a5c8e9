//! An event in JSON.

use fanfare_core::payload::WhyRemoved;
use fanfare_store::events::{EventDetail, EventSummary, Planned};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::clock::rfc3339;

/// An event that the report server published.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event)]
pub struct Json<'a> {
    /// The event's id, unique within its source.
    id: &'a str,
    /// The publisher of the event.
    source: &'a str,
    /// The event's type, such as `reports.upload`.
    #[serde(rename = "type")]
    event_type: &'a str,
    /// The path of the resource that it is about.
    subject: &'a str,
    /// When it happened, if the publisher says so.
    #[schema(format = DateTime)]
    time: Option<String>,
    /// When it was received and routed.
    #[schema(format = DateTime)]
    received_at: String,
    /// The batch with which it was published.
    batch: String,
    /// The directory revision that the event requires.
    access_revision: Option<i64>,
    /// The directory revision at which its receivers were decided.
    decided_revision: i64,
    /// The number of webhooks that it goes to.
    webhooks: i32,
    /// Whether all its deliveries have ended.
    settled: bool,
    #[serde(flatten)]
    detail: Option<DetailJson<'a>>,
}

/// More about an event. Only when a single event is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventDetail)]
pub struct DetailJson<'a> {
    /// The trace context (W3C `traceparent`) that receivers get.
    traceparent: Option<&'a str>,
    /// The notification that receivers get; `null` when its data was removed.
    #[schema(value_type = Option<Object>)]
    notification: &'a RawValue,
    /// Why its data was removed: `age` (it was older than payloads are kept) or `erased` (a person
    /// asked for it). Absent while it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_removed: Option<&'static str>,
    /// Its deliveries, one for each webhook that it goes to.
    deliveries: Vec<PlannedJson<'a>>,
}

/// A delivery of an event.
#[derive(Serialize, ToSchema)]
#[schema(as = PlannedDelivery)]
pub struct PlannedJson<'a> {
    /// The delivery's id.
    id: String,
    /// The webhook's id.
    webhook: String,
    /// The delivery's state.
    state: &'static str,
    /// The stable code of why it was dropped or is dead.
    reason: Option<&'a str>,
}

/// An event in JSON.
#[must_use]
pub fn json(event: &EventSummary) -> Json<'_> {
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
///
/// # Errors
///
/// The notification in the database is not JSON.
pub fn json_with_detail<'a>(
    event: &'a EventSummary,
    detail: &'a EventDetail,
) -> Result<Json<'a>, serde_json::Error> {
    let delivery = |planned: &'a Planned| PlannedJson {
        id: planned.id.to_string(),
        webhook: planned.webhook.to_string(),
        state: planned.state.name(),
        reason: planned.reason.as_deref(),
    };
    let detail = DetailJson {
        traceparent: detail.traceparent.as_deref(),
        notification: serde_json::from_str(&detail.notification)?,
        payload_removed: detail.payload_removed.map(WhyRemoved::code),
        deliveries: detail.deliveries.iter().map(delivery).collect(),
    };
    Ok(Json { detail: Some(detail), ..json(event) })
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

    const EXPECTED: &str = concat!(
        r#"{"id":"e1","source":"/main","type":"tasks.execute","subject":"tasks/t1","time":null,"#,
        r#""receivedAt":"2027-01-15T08:00:00.000Z","batch":"00000000000000000000000000000002","#,
        r#""accessRevision":null,"decidedRevision":9,"webhooks":1,"settled":true"#,
    );

    #[test]
    fn json_has_its_keys_in_order() {
        assert_eq!(serde_json::to_string(&json(&event())).unwrap(), format!("{EXPECTED}}}"));
    }

    #[test]
    fn a_shown_event_has_its_notification_as_stored() {
        let delivery = Planned {
            id: DeliveryId(Uuid::from_u128(3)),
            webhook: WebhookId(Uuid::from_u128(4)),
            state: State::Dropped,
            reason: Some("owner-disabled".to_owned()),
        };
        let notification = r#"{"Action":"tasks","Z":1.50,"A":null}"#.to_owned();
        let mut detail = EventDetail {
            notification,
            payload_removed: None,
            traceparent: None,
            deliveries: vec![delivery],
        };
        let event = event();
        let json = json_with_detail(&event, &detail).unwrap();
        let expected = concat!(
            r#","traceparent":null,"notification":{"Action":"tasks","Z":1.50,"A":null},"#,
            r#""deliveries":[{"id":"00000000000000000000000000000003","#,
            r#""webhook":"00000000000000000000000000000004","state":"dropped","#,
            r#""reason":"owner-disabled"}]}"#,
        );
        assert_eq!(serde_json::to_string(&json).unwrap(), format!("{EXPECTED}{expected}"));
        (detail.notification, detail.payload_removed) = ("null".to_owned(), Some(WhyRemoved::Age));
        let json = serde_json::to_string(&json_with_detail(&event, &detail).unwrap()).unwrap();
        assert!(json.contains(r#""notification":null,"payloadRemoved":"age","#), "{json}");
    }
}
