//! How deliveries and their attempts are shown.

use chrono::{DateTime, Utc};
use fanfare_store::deliveries::{AttemptLog, Delivery};
use serde::Serialize;

use crate::clock::rfc3339;

/// A delivery in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Json<'a> {
    id: String,
    webhook: String,
    owner: Option<&'a str>,
    url: Option<&'a str>,
    events: &'a [String],
    types: &'a [String],
    state: &'static str,
    attempts: i32,
    last_status: Option<i32>,
    reason: Option<&'a str>,
    created_at: String,
    finished_at: Option<String>,
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_log: Option<Vec<AttemptJson<'a>>>,
}

/// An attempt in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptJson<'a> {
    attempt: i32,
    at: String,
    duration_ms: Option<i32>,
    status: Option<i32>,
    outcome: &'a str,
    error: Option<&'a str>,
    response_body: Option<&'a str>,
}

/// A delivery in JSON.
pub(super) fn json(delivery: &Delivery) -> Json<'_> {
    Json {
        id: delivery.id.to_string(),
        webhook: delivery.webhook.to_string(),
        owner: delivery.owner.as_deref(),
        url: delivery.uri.as_deref(),
        events: &delivery.events,
        types: &delivery.types,
        state: delivery.state.name(),
        attempts: delivery.attempts,
        last_status: delivery.last_status,
        reason: delivery.reason.as_deref(),
        created_at: rfc3339(delivery.created_at),
        finished_at: delivery.finished_at.map(rfc3339),
        next_attempt_at: delivery.next_attempt_at.map(rfc3339),
        detail: None,
        revision: None,
        attempt_log: None,
    }
}

/// A delivery and its attempts in JSON.
pub(super) fn json_with_attempts<'a>(
    delivery: &'a Delivery,
    attempts: &'a [AttemptLog],
) -> Json<'a> {
    let one = |attempt: &'a AttemptLog| AttemptJson {
        attempt: attempt.attempt,
        at: rfc3339(attempt.at),
        duration_ms: attempt.duration_ms,
        status: attempt.status,
        outcome: &attempt.outcome,
        error: attempt.error.as_deref(),
        response_body: attempt.response_body.as_deref(),
    };
    Json {
        detail: delivery.detail.as_deref(),
        revision: delivery.revision,
        attempt_log: Some(attempts.iter().map(one).collect()),
        ..json(delivery)
    }
}

/// The headings of a list.
pub(super) const HEADINGS: [&str; 8] =
    ["ID", "CREATED", "STATE", "ATTEMPTS", "STATUS", "OWNER", "TYPES", "URL"];

/// A delivery in a list.
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

/// A delivery with all its properties.
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
pub(super) const ATTEMPT_HEADINGS: [&str; 6] =
    ["ATTEMPT", "AT", "MS", "STATUS", "OUTCOME", "ERROR OR ANSWER"];

/// An attempt in a list.
pub(super) fn attempt_row(attempt: &AttemptLog) -> Vec<String> {
    let said = attempt.error.as_deref().or(attempt.response_body.as_deref());
    let said: String = said.unwrap_or_default().chars().take(200).collect();
    vec![
        attempt.attempt.to_string(),
        rfc3339(attempt.at),
        or_dash(attempt.duration_ms),
        or_dash(attempt.status),
        attempt.outcome.clone(),
        said,
    ]
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
    fn json_has_the_contract_s_keys_in_order() {
        let expected = concat!(
            r#"{"id":"00000000000000000000000000000001","webhook":"00000000000000000000000000000002","#,
            r#""owner":"Anna","url":"http://x/","events":["e1","e2"],"types":["a.b","c.d"],"#,
            r#""state":"dropped","attempts":2,"lastStatus":500,"reason":"access-revoked","#,
            r#""createdAt":"2027-01-15T08:00:00.000Z","finishedAt":"2027-01-15T08:01:00.000Z","#,
            r#""nextAttemptAt":null}"#,
        );
        assert_eq!(serde_json::to_string(&json(&delivery())).unwrap(), expected);
    }

    #[test]
    fn a_shown_delivery_has_its_attempts() {
        let attempt = AttemptLog {
            attempt: 1,
            at: DateTime::from_timestamp(1_800_000_001, 5_000_000).unwrap(),
            duration_ms: Some(7),
            status: None,
            outcome: "timeout".to_owned(),
            error: Some("no answer within 15 s".to_owned()),
            response_body: None,
        };
        let delivery = delivery();
        let attempts = [attempt];
        let text = serde_json::to_string(&json_with_attempts(&delivery, &attempts)).unwrap();
        let expected = concat!(
            r#""nextAttemptAt":null,"detail":"who and what","revision":7,"attemptLog":[{"attempt":1,"at":"2027-01-15T08:00:01.005Z","#,
            r#""durationMs":7,"status":null,"outcome":"timeout","error":"no answer within 15 s","#,
            r#""responseBody":null}]}"#,
        );
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn rows_have_a_cell_for_each_heading() {
        assert_eq!(row(&delivery()).len(), HEADINGS.len());
        assert_eq!(row(&delivery())[2], "dropped (access-revoked)");
    }
}
