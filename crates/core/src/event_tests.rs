//! What is taken, what is refused, and for which reason.

use super::*;
use serde_json::{Value, json};

fn upload() -> Value {
    json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "reports.upload",
        "time": "2026-11-23T10:00:00Z", "subject": "categories/c1/reports/r1",
        "accessrevision": 412, "data": { "Id": "r1", "Name": null, "Z": 1.0, "A": [] }
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut event = upload();
    event[name] = value;
    event
}

fn without(name: &str) -> Value {
    let mut event = upload();
    event.as_object_mut().unwrap().remove(name);
    event
}

fn event(value: &Value) -> Event {
    let mut published = parse(value.to_string().as_bytes(), None, &MaskPolicy::default()).unwrap();
    match published.entries.remove(0) {
        Entry::Event(event) => *event,
        other => panic!("expected an event, got {other:?}"),
    }
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, reason: Reason) {
    let reject = parse(body.as_ref(), None, &MaskPolicy::default())
        .expect_err("the event should be refused");
    assert_eq!(reject.reason, reason, "{}", reject.detail);
    assert!(!reject.detail.is_empty());
}

#[test]
fn an_event_becomes_a_flat_notification() {
    let event = event(&upload());
    let expected =
        r#"{"Action":"reports","UserAction":"upload","Id":"r1","Name":null,"Z":1.0,"A":[]}"#;
    assert_eq!(event.notification, expected);
    assert_eq!(event.access_revision, Some(412));
    assert_eq!(event.filter, Filter::Reports);
}

#[test]
fn empty_data_gives_just_the_two_keys() {
    let notification = event(&with("data", json!({}))).notification;
    assert_eq!(notification, r#"{"Action":"reports","UserAction":"upload"}"#);
}

#[test]
fn types_are_compared_without_case() {
    let event = event(&with("type", json!("REPORTS.Upload")));
    assert_eq!((event.filter, event.action.as_str()), (Filter::Reports, "Upload"));
    assert!(event.notification.starts_with(r#"{"Action":"reports","UserAction":"Upload","#));
}

#[test]
fn each_malformed_event_has_its_reason() {
    refused("{", Reason::NotJson);
    refused([0xff, 0xfe], Reason::NotJson);
    refused("", Reason::NotJson);
    refused("17", Reason::NotCloudEvents);
    refused("{}", Reason::MissingAttribute);
    refused(without("specversion").to_string(), Reason::NotCloudEvents);
    refused(with("specversion", json!("0.3")).to_string(), Reason::NotCloudEvents);
    refused(with("id", json!(5)).to_string(), Reason::NotCloudEvents);
    refused(with("id", json!("a\u{0}b")).to_string(), Reason::NotCloudEvents);
    refused(with("time", json!("yesterday")).to_string(), Reason::NotCloudEvents);
    refused(with("accessrevision", json!("x")).to_string(), Reason::NotCloudEvents);
    refused(with("accessrevision", json!(-1)).to_string(), Reason::NotCloudEvents);
    for name in ["id", "source", "type", "subject"] {
        refused(without(name).to_string(), Reason::MissingAttribute);
        refused(with(name, json!("")).to_string(), Reason::MissingAttribute);
    }
    refused(with("type", json!("dashboards.edit")).to_string(), Reason::UnknownFilter);
    for text in ["reports", "reports.", ".edit", "reports.a.b", "reports.a b"] {
        refused(with("type", json!(text)).to_string(), Reason::BadType);
    }
    for text in ["reports/r1", "categories//reports/r1", "categories/c1/reports/", "nonsense"] {
        refused(with("subject", json!(text)).to_string(), Reason::BadSubject);
    }
    refused(with("subject", json!("tasks/t1")).to_string(), Reason::SubjectMismatch);
    refused(without("data").to_string(), Reason::BadData);
    refused(with("data", json!([1])).to_string(), Reason::BadData);
    refused(with("data", json!({ "Action": 1 })).to_string(), Reason::ReservedKey);
    refused(with("data", json!({ "UserAction": null })).to_string(), Reason::ReservedKey);
}

#[test]
fn a_reserved_key_behind_an_escape_is_seen() {
    let body = upload().to_string().replace("\"Name\"", "\"\\u0041ction\"");
    refused(body, Reason::ReservedKey);
}

#[test]
fn limits_are_kept_exactly() {
    let room = MAX_MESSAGE - with("data", json!({ "x": "" })).to_string().len();
    assert!(
        parse(
            with("data", json!({ "x": "a".repeat(room) })).to_string().as_bytes(),
            None,
            &MaskPolicy::default()
        )
        .is_ok()
    );
    refused(with("data", json!({ "x": "a".repeat(room + 1) })).to_string(), Reason::TooLarge);
    assert!(
        parse(
            Value::from(vec![json!(1); MAX_BATCH]).to_string().as_bytes(),
            None,
            &MaskPolicy::default()
        )
        .is_ok()
    );
    refused(Value::from(vec![json!(1); MAX_BATCH + 1]).to_string(), Reason::TooLarge);
}

#[test]
fn a_bad_event_in_a_batch_leaves_the_others_alone() {
    let body = format!("[{}, {{ \"id\": 1 }}, {}]", upload(), with("id", json!("2")));
    let published = parse(body.as_bytes(), None, &MaskPolicy::default()).unwrap();
    assert!(published.batch);
    assert!(matches!(&published.entries[0], Entry::Event(_)));
    assert!(matches!(&published.entries[1], Entry::Rejected { raw, .. } if raw == "{ \"id\": 1 }"));
    assert!(matches!(&published.entries[2], Entry::Event(event) if event.id == "2"));
}

#[test]
fn the_trace_context_comes_from_the_event_or_the_message() {
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let traced = |value: &Value| match &parse(
        value.to_string().as_bytes(),
        Some(header),
        &MaskPolicy::default(),
    )
    .unwrap()
    .entries[0]
    {
        Entry::Event(event) => event.traceparent.clone(),
        other => panic!("expected an event, got {other:?}"),
    };
    assert_eq!(traced(&upload()).as_deref(), Some(header));
    assert_eq!(traced(&with("traceparent", json!(own))).as_deref(), Some(own));
    assert_eq!(traced(&with("traceparent", json!("x\u{df}"))), None);
}
