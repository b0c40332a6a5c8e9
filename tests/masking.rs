//! Confidential data of events in requests, in the ledger and in logs.

use fanfare_testkit::receiver::Receiver;
use serde_json::{Value, json};

use crate::world::{SOON, World, event};

const PASSWORD: &str = "hunter2-in-clear";

fn connection() -> Value {
    let string = format!("Server=db;User ID=sa;Password='{PASSWORD}';Encrypt=True");
    let mut event = event();
    event["type"] = json!("connections.edit");
    event["subject"] = json!("connections/k1");
    event["data"] = json!({ "Id": "k1", "ConnectionString": string, "Provider": "SqlClient" });
    event
}

fn report() -> Value {
    let mut event = event();
    event["type"] = json!("reports.edit");
    event["subject"] = json!("categories/c1/reports/r1");
    let owner = json!({ "Name": "anna", "Email": "anna@example.org" });
    event["data"] = json!({ "Id": "r1", "Owner": owner, "Note": "Password=x" });
    event
}

/// Publishes one event with the setting at `mask`. Returns the data that the receiver got, without
/// the action's two keys, and everything that the ledger has of it and that the processes logged.
async fn deliver(mask: Option<&str>, event: Value) -> (Value, String) {
    let mut world = World::new().await;
    if let Some(mask) = mask {
        world = world.with("FANFARE_MASK", mask);
    }
    let world = world.with("FANFARE_LOG", "trace,lapin=info");
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (router, worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event).await;
    world.deliveries(&webhook, "delivered", 1).await;
    let post = receiver.wait_for(1, SOON).await.remove(0);
    let mut post: Value = serde_json::from_slice(&post.body).unwrap();
    let mut data = post["Notifications"][0].take();
    for key in ["Action", "UserAction"] {
        data.as_object_mut().unwrap().shift_remove(key).unwrap();
    }
    let events = world.sql("select * from events");
    assert!(events.contains(event["id"].as_str().unwrap()), "{events}");
    (data, [events, router.lines().join("\n"), worker.lines().join("\n")].join("\n"))
}

#[tokio::test]
async fn connection_password_is_neither_sent_nor_stored_nor_logged() {
    let (data, kept) = deliver(None, connection()).await;
    let mut expected = connection()["data"].take();
    expected["ConnectionString"] = json!("Server=db;User ID=sa;Password=***;Encrypt=True");
    assert_eq!(data.to_string(), expected.to_string());
    assert!(kept.contains("Password=***") && !kept.contains(PASSWORD), "{kept}");
}

#[tokio::test]
async fn receiver_gets_the_password_when_masking_is_off() {
    let (data, _) = deliver(Some("off"), connection()).await;
    assert_eq!(data.to_string(), connection()["data"].to_string());
}

#[tokio::test]
async fn mask_path_applies_to_events_of_its_filter() {
    let (data, kept) = deliver(Some("connection-strings,reports:$.Owner.Email"), report()).await;
    let mut expected = report()["data"].take();
    expected["Owner"]["Email"] = json!("***");
    assert_eq!(data.to_string(), expected.to_string());
    assert!(!kept.contains("anna@example.org"), "{kept}");
}
