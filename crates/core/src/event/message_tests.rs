//! Both content modes, and the errors for bodies in other formats.

use serde_json::json;

use super::*;
use crate::event::{
    BATCH_CONTENT_TYPE, CONTENT_TYPE, Entry, MAX_MESSAGE, Published, parse_message,
};
use crate::mask::MaskPolicy;

const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"tasks.execute",
    "subject":"tasks/t1","accessrevision":412,"data":{"Id":"t1"}}"#;

fn text(text: &str) -> AttributeValue {
    AttributeValue::Text(text.to_owned())
}

fn attributes() -> Vec<(&'static str, AttributeValue)> {
    vec![
        ("specversion", text("1.0")),
        ("id", text("1")),
        ("source", text("/s")),
        ("type", text("tasks.execute")),
        ("subject", text("tasks/t1")),
        ("accessrevision", AttributeValue::Integer(412)),
    ]
}

/// The attributes with one changed or added.
fn with(name: &'static str, value: AttributeValue) -> Vec<(&'static str, AttributeValue)> {
    let mut all = attributes();
    all.retain(|(known, _)| *known != name);
    all.push((name, value));
    all
}

fn binary<'a>(attributes: &[(&'a str, AttributeValue)], body: &'a [u8]) -> EventMessage<'a> {
    EventMessage {
        body,
        content_type: Some("application/json"),
        attributes: attributes.to_vec(),
        ..EventMessage::default()
    }
}

fn structured<'a>(content_type: &'a str, body: &'a [u8]) -> EventMessage<'a> {
    EventMessage { body, content_type: Some(content_type), ..EventMessage::default() }
}

fn taken(message: &EventMessage<'_>) -> Result<Published, Reject> {
    parse_message(message, &MaskPolicy::default())
}

#[track_caller]
fn event(message: &EventMessage<'_>) -> crate::event::Event {
    match taken(message).unwrap().entries.remove(0) {
        Entry::Event(event) => *event,
        other => panic!("expected an event, got {other:?}"),
    }
}

#[track_caller]
fn refused(message: &EventMessage<'_>, reason: Reason, words: &str) {
    let reject = taken(message).expect_err("the message should be refused");
    assert_eq!(reject.reason, reason, "{}", reject.detail);
    assert!(reject.detail.contains(words), "{}", reject.detail);
}

#[test]
fn both_content_modes_give_the_same_event() {
    let expected = event(&structured(CONTENT_TYPE, EVENT.as_bytes()));
    let body = br#"{"Id":"t1"}"#;
    assert_eq!(event(&binary(&attributes(), body)), expected);
    for content_type in [None, Some("application/json; charset=\"UTF-8\""), Some("text/plain")] {
        assert_eq!(event(&EventMessage { content_type, ..binary(&attributes(), body) }), expected);
    }
    let revision = |value| with("accessrevision", value);
    assert_eq!(event(&binary(&revision(text("412")), body)), expected);
    assert_eq!(event(&binary(&with("id", AttributeValue::Integer(1)), body)), expected);
    let published = taken(&binary(&attributes(), body)).unwrap();
    assert!(!published.batch);
}

#[test]
fn a_content_type_of_an_event_format_wins_over_headers() {
    for content_type in ["Application/CloudEvents+JSON; charset=utf-8", "application/cloudevents"] {
        let message = EventMessage {
            attributes: with("accessrevision", AttributeValue::Integer(9)),
            ..structured(content_type, EVENT.as_bytes())
        };
        assert_eq!(event(&message).access_revision, Some(412));
    }
}

#[test]
fn a_directory_document_may_come_in_binary_mode() {
    let attributes =
        [("type", text("directory.user")), ("accessrevision", AttributeValue::Integer(7))];
    let message = binary(&attributes, br#"{"name":"anna"}"#);
    match taken(&message).unwrap().entries.remove(0) {
        Entry::Directory(document) => assert_eq!(document.revision, 7),
        other => panic!("expected a document, got {other:?}"),
    }
}

#[test]
fn errors_in_binary_mode_have_their_reason() {
    let refused_with = |name, value, reason, words| {
        refused(&binary(&with(name, value), br#"{"Id":"t1"}"#), reason, words);
    };
    let bad = Reason::NotCloudEvents;
    refused_with("accessRevision", AttributeValue::Integer(9), bad, "accessRevision");
    refused_with("accessrevision", AttributeValue::Integer(-1), bad, "accessrevision");
    refused_with("accessrevision", text("412.0"), bad, "accessrevision");
    refused_with("accessrevision", AttributeValue::Flag(true), bad, "accessrevision");
    refused_with("accessrevision", AttributeValue::Other, bad, "accessrevision");
    refused_with("id", AttributeValue::Other, bad, "id");
    refused_with("specversion", text("0.3"), bad, "specversion");
    refused_with("data", text("{}"), bad, "body");
    refused_with("id", text(""), Reason::MissingAttribute, "id");
    refused_with("type", text("dashboards.edit"), Reason::UnknownFilter, "dashboards");
    let twice: Vec<_> = attributes().into_iter().chain([("id", text("2"))]).collect();
    refused(&binary(&twice, b"{}"), bad, "more than once");
    let body = |body, reason, words| refused(&binary(&attributes(), body), reason, words);
    body(b"", Reason::BadData, "missing");
    body(b"\xEF\xBB\xBF \n", Reason::BadData, "missing");
    body(b"null", Reason::BadData, "missing");
    body(b"[{}]", Reason::BadData, "batch");
    body(b"\"{}\"", Reason::BadData, "a text that holds JSON");
    body(b"<task/>", Reason::NotJson, "not JSON");
    body(b"{} {}", Reason::NotJson, "not JSON");
    body(br#"{"Action":1}"#, Reason::ReservedKey, "Action");
    body(&vec![b' '; MAX_MESSAGE + 1], Reason::TooLarge, "limit");
}

#[test]
fn malformed_optional_attributes_count_as_absent_in_binary_mode_too() {
    for value in [AttributeValue::Other, AttributeValue::Integer(7), text("yesterday")] {
        assert_eq!(event(&binary(&with("time", value.clone()), b"{}")).time, None);
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let attributes = with("traceparent", value);
        let message = EventMessage { traceparent: Some(header), ..binary(&attributes, b"{}") };
        assert_eq!(event(&message).traceparent.as_deref(), Some(header));
    }
    let time = event(&binary(&with("time", text("2026-11-23T10:00:00")), b"{}")).time;
    assert_eq!(time.map(|time| time.timestamp()), Some(1_795_428_000));
}

#[test]
fn a_byte_order_mark_before_json_is_skipped() {
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    let expected = event(&structured(CONTENT_TYPE, EVENT.as_bytes()));
    assert_eq!(event(&structured(CONTENT_TYPE, &marked(EVENT))), expected);
    assert_eq!(event(&structured(BATCH_CONTENT_TYPE, &marked(&format!("[{EVENT}]")))), expected);
    assert_eq!(event(&binary(&attributes(), &marked(r#"{"Id":"t1"}"#))), expected);
}

#[test]
fn a_body_that_contradicts_its_content_type_is_refused() {
    let array = format!("[{EVENT}]");
    assert!(taken(&structured(BATCH_CONTENT_TYPE, array.as_bytes())).unwrap().batch);
    // Another content type leaves the choice to the body.
    assert!(taken(&structured("application/json", array.as_bytes())).unwrap().batch);
    let bad = Reason::NotCloudEvents;
    refused(&structured(CONTENT_TYPE, array.as_bytes()), bad, BATCH_CONTENT_TYPE);
    refused(&structured(BATCH_CONTENT_TYPE, EVENT.as_bytes()), bad, CONTENT_TYPE);
    let many = json!(vec![1; 1001]).to_string();
    refused(&structured(CONTENT_TYPE, many.as_bytes()), Reason::TooLarge, "1000");
}

#[test]
fn a_body_in_another_encoding_is_refused_with_its_name() {
    let refused_as = |message: &EventMessage<'_>, words| refused(message, Reason::NotJson, words);
    let plain = structured(CONTENT_TYPE, EVENT.as_bytes());
    refused_as(&EventMessage { content_encoding: Some("gzip"), ..plain.clone() }, "gzip");
    for plainly in ["", "identity", "UTF-8"] {
        event(&EventMessage { content_encoding: Some(plainly), ..plain.clone() });
    }
    let utf_16: Vec<u8> = EVENT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let charset = "application/cloudevents+json; Charset=\"UTF-16\"";
    refused_as(&structured(charset, &utf_16), "UTF-16");
    refused_as(&structured(charset, EVENT.as_bytes()), "UTF-16");
    refused_as(&structured(CONTENT_TYPE, &utf_16), "UTF-16");
    refused_as(&structured(CONTENT_TYPE, &[b"\xFF\xFE", &utf_16[..]].concat()), "UTF-16");
    refused_as(&structured(CONTENT_TYPE, b"\x1F\x8B\x08"), "gzip");
    refused_as(&structured(CONTENT_TYPE, b"{\"id\":\"\xE4\"}"), "UTF-8");
    refused_as(&structured(CONTENT_TYPE, b""), "empty");
    refused_as(&structured("application/cloudevents+xml", b"<event/>"), "cloudevents+xml");
}

#[test]
fn the_id_of_a_single_event_is_read_even_if_the_event_is_invalid() {
    let id = |body: &[u8]| structured(CONTENT_TYPE, body).id();
    assert_eq!(id(b"\xEF\xBB\xBF{\"id\":\"e1\",\"type\":3}").as_deref(), Some("e1"));
    for body in [&br#"{"id":7}"#[..], br#"[{"id":"e1"}]"#, b"{"] {
        assert_eq!(id(body), None);
    }
    assert_eq!(binary(&attributes(), b"{").id().as_deref(), Some("1"));
}

#[test]
fn the_routing_key_is_the_type_of_the_first_event() {
    let key = |body: &str| {
        EventMessage { body: body.as_bytes(), ..EventMessage::default() }.routing_key()
    };
    assert_eq!(key(r#"{"id":1,"type":"reports.upload"}"#), "reports.upload");
    assert_eq!(key("\u{feff} [{\"type\":\"a.b\"},{\"type\":\"c.d\"}]"), "a.b");
    for body in ["", "42", "{}", r#"{"type":7}"#, "[]", "[7]", "["] {
        assert_eq!(key(body), "", "{body}");
    }
    // AMQP allows 255 bytes, and a character is never cut.
    assert_eq!(key(&format!(r#"{{"type":"{}"}}"#, "ä".repeat(200))).len(), 254);
    let headers = with("type", text("tasks.edit"));
    assert_eq!(binary(&headers, br#"{"type":"a.b"}"#).routing_key(), "tasks.edit");
}
