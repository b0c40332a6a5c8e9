//! A dead letter in JSON.

use fanfare_broker::HeaderValue;
use fanfare_broker::dead_letters::{DeadLetter, Kind};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

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
    event: Option<String>,
    /// The number of attempts of a dead delivery.
    attempts: Option<i64>,
    /// The HTTP status of the last answer.
    last_status: Option<i64>,
    /// When it became a dead letter.
    #[schema(format = DateTime)]
    dead_at: Option<&'a str>,
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
pub fn json(kind: Kind, letter: &DeadLetter) -> Json<'_> {
    Json {
        id: &letter.id,
        queue: kind.name(),
        reason: &letter.reason,
        detail: Some(letter.detail.as_str()).filter(|detail| !detail.is_empty()),
        webhook: letter.webhook(kind).map(|id| id.to_string()),
        owner: letter.owner(kind),
        event: letter.event(kind),
        attempts: letter.attempts(kind),
        last_status: letter.last_status(kind),
        dead_at: letter.dead_at.as_deref(),
        message: None,
    }
}

/// A dead letter with its message in JSON.
#[must_use]
pub fn json_with_message(kind: Kind, letter: &DeadLetter) -> Json<'_> {
    let header = |(name, value): (&str, HeaderValue)| (name.to_owned(), header_json(value));
    let message = MessageJson {
        routing_key: &letter.routing_key,
        content_type: letter.message.content_type.as_deref(),
        headers: letter.message.headers.iter().map(header).collect(),
        body: String::from_utf8_lossy(&letter.message.body).into_owned(),
    };
    Json { message: Some(message), ..json(kind, letter) }
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

    fn letter(body: &'static str) -> DeadLetter {
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
    fn json_has_its_keys_in_order() {
        let letter = letter(r#"{"id":"e1","type":"galaxies.create"}"#);
        let expected = concat!(
            r#"{"id":"l1","queue":"events","reason":"unknown-filter","detail":null,"webhook":null,"#,
            r#""owner":null,"event":"e1","attempts":null,"lastStatus":null,"#,
            r#""deadAt":"2027-01-15T08:00:00.000Z"}"#,
        );
        let text = serde_json::to_string(&json(Kind::Events, &letter)).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_shown_letter_has_its_message() {
        let mut letter = letter("oops\u{1b}");
        letter.message.headers.set("a", 1).set("b", true);
        let text = serde_json::to_string(&json_with_message(Kind::Events, &letter)).unwrap();
        let expected = concat!(
            r#","routingKey":"galaxies.create","contentType":"application/cloudevents+json","#,
            r#""headers":{"a":1,"b":true},"body":"oops\u001b"}"#,
        );
        assert!(text.ends_with(expected), "{text}");
    }
}
