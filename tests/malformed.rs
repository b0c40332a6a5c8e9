//! Malformed events: each is kept with its reason, and none blocks later events.

use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event};

fn with(name: &str, value: Value) -> String {
    let mut event = event();
    event[name] = value;
    event.to_string()
}

fn without(name: &str) -> String {
    let mut event = event();
    event.as_object_mut().unwrap().remove(name);
    event.to_string()
}

/// Bodies that are published, and the reasons with which they must be kept.
fn cases() -> Vec<(String, &'static str)> {
    let too_many = Value::from(vec![event(); 1001]).to_string();
    let too_large = with("data", json!({ "Id": "t1", "Filler": "x".repeat(1024 * 1024) }));
    vec![
        ("{ this is not JSON".to_owned(), "not-json"),
        ("[1, 2".to_owned(), "not-json"),
        ("\"text\"".to_owned(), "not-cloudevents"),
        (without("specversion"), "not-cloudevents"),
        (with("specversion", json!("0.3")), "not-cloudevents"),
        (without("id"), "missing-attribute"),
        (without("source"), "missing-attribute"),
        (without("type"), "missing-attribute"),
        (without("subject"), "missing-attribute"),
        (with("type", json!("dashboards.edit")), "unknown-filter"),
        (with("type", json!("tasks")), "bad-type"),
        (with("type", json!("directory.group")), "bad-type"),
        (with("subject", json!("somewhere/t1")), "bad-subject"),
        (with("subject", json!("categories/c1")), "subject-mismatch"),
        (with("data", json!([1])), "bad-data"),
        (without("data"), "bad-data"),
        (with("data", json!({ "Action": "x" })), "reserved-key"),
        (with("data", json!({ "UserAction": "x" })), "reserved-key"),
        (too_many, "too-large"),
        (too_large, "too-large"),
    ]
}

#[tokio::test]
async fn malformed_events_are_kept_unchanged_with_their_reasons_and_block_no_others() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let amqp = world.amqp().await;
    let mut cases = cases();
    let content_type = "application/cloudevents+json";
    for (body, _) in &cases {
        let key = "tasks.execute";
        let sent = amqp.publish("reportserver.events", key, content_type, &[], body.as_bytes());
        sent.await.unwrap();
    }
    // A malformed event of a batch is kept alone; the valid one behind it is delivered.
    let bad = without("source");
    let batch = format!("[{bad}, {}]", event());
    let batch_type = "application/cloudevents-batch+json";
    let sent =
        amqp.publish("reportserver.events", "tasks.execute", batch_type, &[], batch.as_bytes());
    sent.await.unwrap();
    cases.push((bad, "missing-attribute"));
    receiver.wait_for(1, SOON).await;
    world.deliveries(&webhook, "delivered", 1).await;
    eventually("all of them are dead letters", SOON, async || {
        let count = amqp.queue_len("fanfare.events.dead").await.unwrap();
        if count as usize == cases.len() { Ok(()) } else { Err(count) }
    })
    .await;
    let listed = world.json(&["dead-letters", "list", "--queue", "events"]).await;
    assert_eq!(listed.as_array().unwrap().len(), cases.len());
    let letters = amqp.drain("fanfare.events.dead").await.unwrap();
    for (body, reason) in &cases {
        let letter = letters.iter().find(|letter| letter.body == body.as_bytes());
        let letter = letter.unwrap_or_else(|| panic!("no unchanged letter of {body:.80}"));
        assert_eq!(letter.header("x-fanfare-reason").as_deref(), Some(*reason), "{body:.80}");
        assert!(!letter.header("x-fanfare-detail").unwrap().is_empty());
    }
}

#[tokio::test]
async fn replay_after_a_directory_correction_delivers_a_held_event() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut ahead = event();
    ahead["accessrevision"] = json!(1_000);
    world.publish(&ahead).await;
    world.publish(&event()).await;
    // The next event does not wait.
    world.deliveries(&webhook, "delivered", 1).await;
    let behind = |letters: &Value| letters[0]["reason"] == "directory-behind";
    eventually("the held event is a dead letter", 2 * SOON, async || {
        let letters = world.json(&["dead-letters", "list", "--queue", "events"]).await;
        if behind(&letters) { Ok(()) } else { Err(letters) }
    })
    .await;
    world
        .directory(&json!({
            "accessrevision": 1_000,
            "users": [{ "name": "anna", "roles": ["System Administrator"] }], "roles": []
        }))
        .await;
    world.fanfare(&["dead-letters", "replay", "--reason", "directory-behind"]).await;
    world.deliveries(&webhook, "delivered", 2).await;
}
