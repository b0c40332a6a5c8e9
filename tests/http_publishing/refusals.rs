//! Each refusal with its status and its stable code.

use serde_json::{Value, json};

use super::{BATCH, Publishing, SINGLE, accepted, problem};
use crate::world::{dead_events, event};

/// An event with one member changed.
fn with(member: &str, value: Value) -> Value {
    let mut changed = event();
    changed[member] = value;
    changed
}

#[tokio::test]
async fn each_refusal_has_its_status_and_its_code() {
    let publishing = Publishing::start().await;
    let _router = publishing.world.start("router").await;
    let long = "x".repeat(1025);
    for (event, status, reason) in [
        (json!(7), 400, "not-cloudevents"),
        (json!([event()]), 400, "not-cloudevents"),
        (with("specversion", json!("0.3")), 400, "not-cloudevents"),
        (with("accessRevision", json!(7)), 400, "not-cloudevents"),
        (with("id", json!("")), 422, "missing-attribute"),
        (with("id", json!(long)), 413, "too-large"),
        (with("type", json!("tasks")), 422, "bad-type"),
        (with("type", json!("dashboards.edit")), 422, "unknown-filter"),
        (with("subject", json!("tasks")), 422, "bad-subject"),
        (with("subject", json!("alerts/a1")), 422, "subject-mismatch"),
        (with("data", json!("text")), 422, "bad-data"),
        (with("data", json!({ "Action": 1 })), 422, "reserved-key"),
    ] {
        let problem = problem(&publishing.event(&event).await, status);
        assert_eq!(problem["reason"], reason, "{event}: {problem}");
        assert_eq!(problem["type"], format!("/problems/{reason}"));
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    let single = ("Content-Type", SINGLE);
    let text = event().to_string();
    let text = text.as_bytes();
    for (headers, body, status, reason) in [
        (vec![single], &b""[..], 400, Some("not-json")),
        (vec![single], b"{", 400, Some("not-json")),
        (vec![single], b"\xff\xfe{\0}\0", 400, Some("not-json")),
        (vec![single, ("Content-Encoding", "gzip")], text, 415, Some("not-json")),
        (vec![("Content-Type", "application/cloudevents+avro")], text, 415, Some("not-json")),
        (vec![("Content-Type", "application/x-www-form-urlencoded")], text, 415, None),
        (vec![("Content-Type", BATCH)], text, 400, Some("not-cloudevents")),
        (vec![("ce-id", "%C0%A0")], b"{}", 400, Some("not-cloudevents")),
        (vec![("ce-id", "1"), ("ce-data", "{}")], b"{}", 400, Some("not-cloudevents")),
    ] {
        let problem = problem(&publishing.post(&headers, body).await, status);
        assert_eq!(problem["reason"].as_str(), reason, "{headers:?}: {problem}");
    }
    // Nothing of all this was published, and the publisher goes on.
    accepted(&publishing.event(&with("type", json!("TASKS.Execute"))).await, 1);
    let amqp = publishing.world.amqp().await;
    assert_eq!(amqp.queue_len("fanfare.events.dead").await.unwrap(), 0);
}

/// As over AMQP, where one bad event of a batch does not cost the others.
#[tokio::test]
async fn batch_with_a_bad_event_is_accepted_and_says_which() {
    let publishing = Publishing::start().await;
    // Without a directory, the whole batch would be held.
    publishing.world.directory_of_anna().await;
    let _router = publishing.world.start("router").await;
    let bad = with("type", json!("dashboards.edit"));
    let answer = publishing.batch(&json!([event(), bad, event(), 7])).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["accepted"], 2);
    let said: Vec<(u64, &str)> = body["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["index"].as_u64().unwrap(), one["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(said, [(1, "unknown-filter"), (3, "not-cloudevents")]);
    let letters = dead_events(&publishing.world.amqp().await, 2).await;
    assert!(letters.iter().any(|letter| letter.body == bad.to_string().as_bytes()));

    // A batch of which nothing is valid is not published.
    let answer = publishing.batch(&json!([bad, 7])).await;
    let refused = problem(&answer, 422);
    assert_eq!(refused["type"], "/problems/batch-refused");
    assert_eq!(refused["refused"][0]["reason"], "unknown-filter");
    assert_eq!(refused["refused"][1]["index"], 1);
    accepted(&publishing.batch(&json!([])).await, 0);
    accepted(&publishing.event(&event()).await, 1);
    let amqp = publishing.world.amqp().await;
    assert_eq!(amqp.queue_len("fanfare.events.dead").await.unwrap(), 0);
}

#[tokio::test]
async fn limits_are_those_of_amqp() {
    let publishing = Publishing::start().await;
    let _router = publishing.world.start("router").await;
    let events: Vec<Value> = (0..1000).map(|_| event()).collect();
    accepted(&publishing.batch(&json!(events)).await, 1000);
    let more = [events, vec![event()]].concat();
    assert_eq!(problem(&publishing.batch(&json!(more)).await, 413)["reason"], "too-large");

    let sized = |size: usize| {
        let mut event = with("data", json!({ "Text": "" }));
        let missing = size - event.to_string().len();
        event["data"]["Text"] = json!("x".repeat(missing));
        event.to_string()
    };
    let kind = [("Content-Type", SINGLE)];
    accepted(&publishing.post(&kind, sized(1 << 20).as_bytes()).await, 1);
    let answer = publishing.post(&kind, sized((1 << 20) + 1).as_bytes()).await;
    assert_eq!(problem(&answer, 413)["reason"], "too-large");
}
