//! How dead letters are shown.

use fanfare_broker::HeaderValue;
use fanfare_broker::dead_letters::DeadLetter;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::Job;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::choice::QueueName;
use crate::output::plain;

const WEBHOOK: &str = "x-fanfare-webhook";
const OWNER: &str = "x-fanfare-owner";
const EVENT: &str = "x-fanfare-event";
const ATTEMPTS: &str = "x-fanfare-attempts";
const LAST_STATUS: &str = "x-fanfare-last-status";

/// A dead letter in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Json<'a> {
    id: &'a str,
    queue: &'static str,
    reason: &'a str,
    detail: Option<&'a str>,
    webhook: Option<String>,
    owner: Option<&'a str>,
    event: Option<String>,
    attempts: Option<i64>,
    last_status: Option<i64>,
    dead_at: Option<&'a str>,
    #[serde(flatten)]
    message: Option<MessageJson<'a>>,
}

/// The message in JSON, for whoever looks at a single letter.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageJson<'a> {
    routing_key: &'a str,
    content_type: Option<&'a str>,
    headers: Map<String, Value>,
    body: String,
}

/// A dead letter in JSON.
pub(super) fn json(queue: QueueName, letter: &DeadLetter) -> Json<'_> {
    let headers = &letter.message.headers;
    Json {
        id: &letter.id,
        queue: queue.name(),
        reason: &letter.reason,
        detail: Some(letter.detail.as_str()).filter(|detail| !detail.is_empty()),
        webhook: webhook(letter).map(|id| id.to_string()),
        owner: headers.text(OWNER),
        event: event(queue, letter),
        attempts: headers.int(ATTEMPTS),
        last_status: headers.int(LAST_STATUS),
        dead_at: letter.dead_at.as_deref(),
        message: None,
    }
}

/// A dead letter with its message in JSON.
pub(super) fn json_with_message(queue: QueueName, letter: &DeadLetter) -> Json<'_> {
    let header = |(name, value): (&str, HeaderValue)| (name.to_owned(), header_json(value));
    let message = MessageJson {
        routing_key: &letter.routing_key,
        content_type: letter.message.content_type.as_deref(),
        headers: letter.message.headers.iter().map(header).collect(),
        body: String::from_utf8_lossy(&letter.message.body).into_owned(),
    };
    Json { message: Some(message), ..json(queue, letter) }
}

/// The webhook of a dead delivery.
pub(super) fn webhook(letter: &DeadLetter) -> Option<WebhookId> {
    if let Some(id) = letter.message.headers.text(WEBHOOK) {
        return id.parse().ok();
    }
    match Job::from_bytes(&letter.message.body) {
        Ok(Job::First(due) | Job::Due(due)) => Some(due.webhook),
        _ => None,
    }
}

/// The event's `CloudEvents` id: of a dead event its own, as far as it can be read.
fn event(queue: QueueName, letter: &DeadLetter) -> Option<String> {
    #[derive(Deserialize)]
    struct Identified {
        id: String,
    }
    if let Some(id) = letter.message.headers.text(EVENT) {
        return Some(id.to_owned());
    }
    if queue == QueueName::Deliveries {
        return None;
    }
    serde_json::from_slice::<Identified>(&letter.message.body).ok().map(|event| event.id)
}

/// The headings of a list.
pub(super) const HEADINGS: [&str; 7] =
    ["ID", "QUEUE", "DEAD SINCE", "REASON", "WEBHOOK", "EVENT", "DETAIL"];

/// A dead letter in a list.
pub(super) fn row(queue: QueueName, letter: &DeadLetter) -> Vec<String> {
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        letter.id.clone(),
        queue.name().to_owned(),
        dash(letter.dead_at.clone()),
        letter.reason.clone(),
        dash(webhook(letter).map(|id| id.to_string())),
        dash(event(queue, letter)),
        letter.detail.clone(),
    ]
}

/// A dead letter with all its properties.
pub(super) fn facts(queue: QueueName, letter: &DeadLetter) -> Vec<(&'static str, String)> {
    let headers = &letter.message.headers;
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let number = |name| dash(headers.int(name).map(|number| number.to_string()));
    vec![
        ("Id", letter.id.clone()),
        ("Queue", queue.name().to_owned()),
        ("Reason", letter.reason.clone()),
        ("Detail", letter.detail.clone()),
        ("Dead since", dash(letter.dead_at.clone())),
        ("Webhook", dash(webhook(letter).map(|id| id.to_string()))),
        ("Owner", dash(headers.text(OWNER).map(str::to_owned))),
        ("Event", dash(event(queue, letter))),
        ("Attempts", number(ATTEMPTS)),
        ("Last status", number(LAST_STATUS)),
        ("Routing key", letter.routing_key.clone()),
        ("Content type", dash(letter.message.content_type.clone())),
    ]
}

/// The message's body, safe for a terminal.
pub(super) fn body_text(letter: &DeadLetter) -> String {
    let text = String::from_utf8_lossy(&letter.message.body);
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

fn header_json(value: HeaderValue) -> Value {
    match value {
        HeaderValue::Text(text) => text.into(),
        HeaderValue::Int(number) => number.into(),
        HeaderValue::Bool(flag) => flag.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_broker::Message;
    use fanfare_core::ids::BatchKey;
    use fanfare_core::job::Due;
    use uuid::Uuid;

    fn letter(body: impl Into<bytes::Bytes>) -> DeadLetter {
        DeadLetter {
            id: "l1".to_owned(),
            reason: "unknown-filter".to_owned(),
            detail: String::new(),
            dead_at: Some("2027-01-15T08:00:00.000Z".to_owned()),
            routing_key: "galaxies.create".to_owned(),
            message: Message::new(body, "application/cloudevents+json"),
        }
    }

    #[test]
    fn json_has_the_contract_s_keys_in_order() {
        let letter = letter(r#"{"id":"e1","type":"galaxies.create"}"#);
        let expected = concat!(
            r#"{"id":"l1","queue":"events","reason":"unknown-filter","detail":null,"webhook":null,"#,
            r#""owner":null,"event":"e1","attempts":null,"lastStatus":null,"#,
            r#""deadAt":"2027-01-15T08:00:00.000Z"}"#,
        );
        let text = serde_json::to_string(&json(QueueName::Events, &letter)).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_shown_letter_has_its_message() {
        let mut letter = letter("oops\u{1b}");
        letter.message.headers.set("a", 1).set("b", true);
        let text = serde_json::to_string(&json_with_message(QueueName::Events, &letter)).unwrap();
        let expected = concat!(
            r#","routingKey":"galaxies.create","contentType":"application/cloudevents+json","#,
            r#""headers":{"a":1,"b":true},"body":"oops\u001b"}"#,
        );
        assert!(text.ends_with(expected), "{text}");
        assert_eq!(body_text(&letter), "oops\\u{1b}");
    }

    #[test]
    fn a_dead_delivery_tells_its_webhook_even_without_headers() {
        let due = Due {
            batch: BatchKey(Uuid::from_u128(1)),
            webhook: WebhookId(Uuid::from_u128(2)),
            entry: 3,
        };
        let mut letter = letter(Job::Due(due).to_bytes().unwrap());
        assert_eq!(webhook(&letter), Some(due.webhook));
        letter.message.headers.set(WEBHOOK, WebhookId(Uuid::from_u128(9)).to_string());
        assert_eq!(webhook(&letter), Some(WebhookId(Uuid::from_u128(9))));
    }
}
