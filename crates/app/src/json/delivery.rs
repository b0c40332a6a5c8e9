//! A delivery in JSON.

use fanfare_core::answer::Trace;
use fanfare_core::payload::WhyRemoved;
use fanfare_store::deliveries::{AttemptLog, Delivery};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::rfc3339;

/// One event, or the events of one batch, for one webhook.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery)]
pub struct Json<'a> {
    /// 32 hex digits: the `Id` in the notification's body.
    id: String,
    /// The webhook's id.
    webhook: String,
    /// The webhook's owner.
    owner: Option<&'a str>,
    /// The webhook's address.
    url: Option<&'a str>,
    /// The ids of its events, in order.
    events: &'a [String],
    /// The types of its events, in the same order.
    types: &'a [String],
    /// `pending`, `retrying`, `delivered`, `dropped` or `dead`.
    state: &'static str,
    /// The number of attempts so far.
    attempts: i32,
    /// The HTTP status of the last attempt, if there was an answer.
    last_status: Option<i32>,
    /// The stable code of why it was dropped or is dead.
    reason: Option<&'a str>,
    /// When its events were received.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was delivered, dropped or given up.
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// When the next attempt is due.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    /// The reason in words, or which events the last attempt left out and why. Only when a single
    /// delivery is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// The directory revision of the last decision. Only when a single delivery is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// Why the payload of one of its events was removed, so that it can't be sent again: `age` or
    /// `erased`. Absent while all are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_removed: Option<&'static str>,
    /// Its attempts, the oldest first. Only when a single delivery is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_log: Option<Vec<AttemptJson<'a>>>,
}

/// One attempt: a POST to the webhook's address.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Attempt)]
pub struct AttemptJson<'a> {
    /// Its number, from 1.
    attempt: i32,
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
    /// How long it took.
    duration_ms: Option<i32>,
    /// The HTTP status, if there was an answer.
    status: Option<i32>,
    /// `delivered`, `gone`, `status`, `timeout`, `connect`, `dns`, `tls`, `protocol` or
    /// `blocked-target`.
    outcome: &'a str,
    /// What went wrong.
    error: Option<&'a str>,
    /// The beginning of the answer's body.
    response_body: Option<&'a str>,
    /// Why the answer's body was removed: `age`, or `erased`, which takes `error` and
    /// `responseHeaders` too. Absent if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_removed: Option<&'static str>,
    /// How the time was spent.
    timings: Timings,
    /// The answer's headers that fit into 2 KiB, in their order; `null` when there was no answer,
    /// and for a plain success over a reused connection.
    response_headers: Option<Vec<Header<'a>>>,
}

/// The phases of an attempt in their order, in milliseconds. A phase that did not occur, or is not
/// known, is `null`. The rest of `durationMs` was spent on reading the body.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// Whether the request used an open connection; `null` when that is not known.
    reused_connection: Option<bool>,
    /// Resolving the host's name; `null` for an IP address.
    dns_ms: Option<u32>,
    /// Opening the TCP connection.
    connect_ms: Option<u32>,
    /// The TLS handshake.
    tls_ms: Option<u32>,
    /// From the connection to the head of the answer. It is `null` for a plain success over a
    /// reused connection, where it is nearly all of `durationMs`.
    first_byte_ms: Option<u32>,
}

/// A header of an answer.
#[derive(Serialize, ToSchema)]
#[schema(as = Header)]
pub struct Header<'a> {
    /// Its name in lower case.
    name: &'a str,
    /// Its value; bytes that are not UTF-8 are replaced.
    value: &'a str,
}

impl Timings {
    fn of(trace: Option<&Trace>) -> Self {
        Self {
            reused_connection: trace.map_or(Some(true), Trace::reused),
            dns_ms: trace.and_then(|trace| trace.dns_ms),
            connect_ms: trace.and_then(|trace| trace.connect_ms),
            tls_ms: trace.and_then(|trace| trace.tls_ms),
            first_byte_ms: trace.and_then(|trace| trace.first_byte_ms),
        }
    }
}

fn headers(trace: &Trace) -> Option<Vec<Header<'_>>> {
    trace.first_byte_ms?;
    Some(trace.headers.iter().map(|(name, value)| Header { name, value }).collect())
}

/// A delivery in JSON.
#[must_use]
pub fn json(delivery: &Delivery) -> Json<'_> {
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
        payload_removed: delivery.payload_removed.map(WhyRemoved::code),
        attempt_log: None,
    }
}

/// A delivery and its attempts in JSON.
#[must_use]
pub fn json_with_attempts<'a>(delivery: &'a Delivery, attempts: &'a [AttemptLog]) -> Json<'a> {
    let one = |attempt: &'a AttemptLog| AttemptJson {
        attempt: attempt.attempt,
        at: rfc3339(attempt.at),
        duration_ms: attempt.duration_ms,
        status: attempt.status,
        outcome: &attempt.outcome,
        error: attempt.error.as_deref(),
        response_body: attempt.response_body.as_deref(),
        payload_removed: attempt.payload_removed.map(WhyRemoved::code),
        timings: Timings::of(attempt.trace.as_ref()),
        response_headers: attempt.trace.as_ref().and_then(headers),
    };
    Json {
        detail: delivery.detail.as_deref(),
        revision: delivery.revision,
        attempt_log: Some(attempts.iter().map(one).collect()),
        ..json(delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
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
            payload_removed: None,
        }
    }

    #[test]
    fn json_has_its_keys_in_order() {
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
            payload_removed: None,
            trace: Some(Trace { dns_ms: Some(1), connect_ms: Some(6), ..Trace::default() }),
        };
        let delivery = delivery();
        let attempts = [attempt];
        let text = serde_json::to_string(&json_with_attempts(&delivery, &attempts)).unwrap();
        let expected = concat!(
            r#""nextAttemptAt":null,"detail":"who and what","revision":7,"attemptLog":[{"attempt":1,"at":"2027-01-15T08:00:01.005Z","#,
            r#""durationMs":7,"status":null,"outcome":"timeout","error":"no answer within 15 s","#,
            r#""responseBody":null,"timings":{"reusedConnection":false,"dnsMs":1,"connectMs":6,"#,
            r#""tlsMs":null,"firstByteMs":null},"responseHeaders":null}]}"#,
        );
        assert!(text.ends_with(expected), "{text}");
    }
}
