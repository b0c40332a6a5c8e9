//! A dead letter in JSON.

use fanfare_broker::HeaderValue;
use fanfare_core::dead_letter::Letter;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock;
use crate::dead_letters::Shown;

/// An event or a delivery that was given up, and is kept for a person.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetter)]
pub struct Json<'a> {
    /// Its id, which does not change.
    id: &'a str,
    /// `events` or `deliveries`.
    queue: &'static str,
    /// A stable code, such as `unknown-filter` or `exhausted`.
    reason: &'a str,
    /// The reason in more words.
    detail: Option<&'a str>,
    /// The webhook of a dead delivery.
    webhook: Option<String>,
    /// The webhook's owner.
    owner: Option<&'a str>,
    /// The event's id.
    event: Option<&'a str>,
    /// The number of attempts of a dead delivery.
    attempts: Option<i32>,
    /// The HTTP status of the last answer.
    last_status: Option<i32>,
    /// When it became a dead letter.
    #[schema(format = DateTime)]
    dead_at: String,
    /// The type of its first event.
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    /// The host of the webhook's address.
    host: Option<&'a str>,
    /// The outcome of the last attempt.
    outcome: Option<&'a str>,
    /// The error of the last attempt.
    error: Option<&'a str>,
    /// The error or the detail without its numbers and ids, by which letters are grouped.
    cause: Option<&'a str>,
    #[serde(flatten)]
    #[schema(ignore)]
    message: Option<MessageJson<'a>>,
}

/// The message in JSON, when a single letter is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageJson<'a> {
    routing_key: &'a str,
    content_type: Option<&'a str>,
    headers: Map<String, Value>,
    body: String,
}

/// A dead letter in JSON.
#[must_use]
pub fn json(letter: &Letter) -> Json<'_> {
    Json {
        id: &letter.id,
        queue: letter.kind.name(),
        reason: &letter.reason,
        detail: Some(letter.detail.as_str()).filter(|detail| !detail.is_empty()),
        webhook: letter.webhook.map(|id| id.to_string()),
        owner: letter.owner.as_deref(),
        event: letter.event.as_deref(),
        attempts: letter.attempts,
        last_status: letter.last_status,
        dead_at: clock::rfc3339(letter.died_at),
        event_type: letter.event_type.as_deref(),
        host: letter.host.as_deref(),
        outcome: letter.outcome.as_deref(),
        error: letter.error.as_deref(),
        cause: letter.cause.as_deref(),
        message: None,
    }
}

/// A dead letter with its message in JSON.
#[must_use]
pub fn json_with_message(shown: &Shown) -> Json<'_> {
    let header = |(name, value): (&str, HeaderValue)| (name.to_owned(), header_json(value));
    let Shown { letter, message } = shown;
    let message = MessageJson {
        routing_key: &message.routing_key,
        content_type: message.message.content_type.as_deref(),
        headers: message.message.headers.iter().map(header).collect(),
        body: String::from_utf8_lossy(&message.message.body).into_owned(),
    };
    Json { message: Some(message), ..json(letter) }
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
    use chrono::DateTime;
    use fanfare_broker::Message;
    use fanfare_broker::dead_letters::{DeadLetter, Kind};

    fn letter() -> Letter {
        let message = Message::new(r#"{"id":"e1","type":"galaxies.create"}"#, "a/b");
        let letter = DeadLetter::of_message(message);
        let letter = DeadLetter {
            id: "l1".to_owned(),
            reason: "unknown-filter".to_owned(),
            dead_at: Some("2027-01-15T08:00:00.000Z".to_owned()),
            routing_key: "galaxies.create".to_owned(),
            ..letter
        };
        letter.facts(Kind::Events, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn json_has_its_keys_in_order() {
        let expected = concat!(
            r#"{"id":"l1","queue":"events","reason":"unknown-filter","detail":null,"webhook":null,"#,
            r#""owner":null,"event":"e1","attempts":null,"lastStatus":null,"#,
            r#""deadAt":"2027-01-15T08:00:00.000Z","type":"galaxies.create","host":null,"#,
            r#""outcome":null,"error":null,"cause":null}"#,
        );
        assert_eq!(serde_json::to_string(&json(&letter())).unwrap(), expected);
    }

    #[test]
    fn a_shown_letter_has_its_message() {
        let mut message = Message::new("oops\u{1b}", "application/cloudevents+json");
        message.headers.set("a", 1).set("b", true);
        let message = DeadLetter {
            routing_key: "galaxies.create".to_owned(),
            ..DeadLetter::of_message(message)
        };
        let shown = Shown { letter: letter(), message };
        let text = serde_json::to_string(&json_with_message(&shown)).unwrap();
        let expected = concat!(
            r#","routingKey":"galaxies.create","contentType":"application/cloudevents+json","#,
            r#""headers":{"a":1,"b":true},"body":"oops\u001b"}"#,
        );
        assert!(text.ends_with(expected), "{text}");
    }
}
