//! Which owners get which events, and which no longer do after the directory has changed.

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event};

fn user(document: &Value, revision: i64) -> Value {
    json!({
        "specversion": "1.0", "id": format!("d{revision}"), "source": "/tests",
        "type": "directory.user", "accessrevision": revision, "data": document
    })
}

fn reader(name: &str) -> Value {
    json!({ "name": name, "permissions": [{ "access": ["read"], "scope": "task", "target": "t1" }] })
}

/// Webhooks of users whose deliveries all fail, then a change of the directory, then the reasons.
#[tokio::test]
async fn owner_who_lost_access_gets_no_more_events() {
    let world =
        World::new().await.with("FANFARE_RETRY_MAX_DELAY", "2s").with("FANFARE_RETRY_FIRST", "2s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let names = ["disabled", "deleted", "revoked", "paused", "removed"];
    let users: Vec<Value> = names.iter().map(|name| reader(name)).collect();
    world.directory(&json!({ "accessrevision": 1, "users": users, "roles": [] })).await;
    let mut webhooks = Vec::new();
    for name in names {
        webhooks.push(world.webhook_of(name, &receiver.url(&format!("/{name}")), &[]).await);
    }
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    for webhook in &webhooks {
        world.deliveries(webhook, "retrying", 1).await;
    }
    world.publish(&user(&json!({ "name": "Disabled", "enabled": false }), 2)).await;
    world.publish(&user(&json!({ "name": "deleted", "deleted": true }), 3)).await;
    world.publish(&user(&json!({ "name": "revoked" }), 4)).await;
    world.fanfare(&["webhooks", "pause", &webhooks[3]]).await;
    world.fanfare(&["webhooks", "delete", &webhooks[4]]).await;
    let reasons =
        ["owner-disabled", "owner-deleted", "access-revoked", "webhook-paused", "webhook-deleted"];
    for (webhook, reason) in webhooks.iter().zip(reasons) {
        let dropped = &world.deliveries(webhook, "dropped", 1).await[0];
        assert_eq!(dropped["reason"], reason);
    }
}

#[tokio::test]
async fn documents_published_with_events_decide_who_gets_them() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&user(&reader("Anna"), 1)).await;
    let own = world.webhook_of("ANNA", &receiver.url("/anna"), &["--filter", "Tasks"]).await;
    let other = world.webhook_of("bob", &receiver.url("/bob"), &[]).await;
    let at = |revision: i64| {
        let mut event = event();
        event["accessrevision"] = json!(revision);
        event
    };
    world.publish(&at(1)).await;
    world.deliveries(&own, "delivered", 1).await;
    // The event names a revision that arrives after it.
    world.publish(&at(2)).await;
    world.publish(&user(&reader("bob"), 2)).await;
    world.deliveries(&other, "delivered", 1).await;
    world.deliveries(&own, "delivered", 2).await;
    // An older document does not overwrite a newer one; an event is judged by its own revision.
    world.publish(&user(&json!({ "name": "bob", "enabled": false }), 3)).await;
    world.publish(&at(3)).await;
    world.deliveries(&own, "delivered", 3).await;
    world.publish(&at(2)).await;
    world.deliveries(&own, "delivered", 4).await;
    world.deliveries(&other, "delivered", 2).await;
}

#[tokio::test]
async fn delete_event_goes_to_owners_who_could_read_the_resource() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| Reply::status(if count == 0 { 500 } else { 200 }));
    world.directory(&json!({ "accessrevision": 1, "users": [reader("anna")], "roles": [] })).await;
    let webhook = world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut delete = event();
    delete["type"] = json!("tasks.delete");
    delete["accessrevision"] = json!(1);
    world.publish(&delete).await;
    world.publish(&user(&json!({ "name": "anna" }), 2)).await;
    world.deliveries(&webhook, "delivered", 1).await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn repeated_event_is_delivered_once_and_a_batch_in_one_post() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let (first, second) = (event(), event());
    world.publish(&first).await;
    world.publish(&first).await;
    let batch = json!([first, second, event(), second]).to_string();
    let amqp = world.amqp().await;
    let kind = "application/cloudevents-batch+json";
    for _ in 0..2 {
        let sent =
            amqp.publish("reportserver.events", "tasks.execute", kind, &[], batch.as_bytes());
        sent.await.unwrap();
    }
    let last = event();
    world.publish(&last).await;
    world.deliveries(&webhook, "delivered", 3).await;
    let mut sizes = eventually("three POSTs", SOON, async || {
        let sizes: Vec<usize> =
            receiver.requests().iter().map(|request| notifications(&request.body)).collect();
        (sizes.len() >= 3).then_some(sizes)
    })
    .await;
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 2]);
}

fn notifications(body: &[u8]) -> usize {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["Notifications"].as_array().unwrap().len()
}

#[tokio::test]
async fn events_an_owner_may_no_longer_read_stay_out_of_further_attempts() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| Reply::status(if count < 3 { 500 } else { 200 }));
    let may = |targets: &[&str]| {
        let permission =
            |target: &&str| json!({ "access": ["read"], "scope": "task", "target": target });
        json!({ "name": "anna", "permissions": targets.iter().map(permission).collect::<Value>() })
    };
    let users = [may(&["t1", "t2"])];
    world.directory(&json!({ "accessrevision": 1, "users": users, "roles": [] })).await;
    let webhook = world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut second = event();
    second["subject"] = json!("tasks/t2");
    let batch = json!([event(), second]).to_string();
    let amqp = world.amqp().await;
    let kind = "application/cloudevents-batch+json";
    amqp.publish("reportserver.events", "tasks.execute", kind, &[], batch.as_bytes())
        .await
        .unwrap();
    receiver.wait_for(1, SOON).await;
    world.publish(&user(&may(&["t1"]), 2)).await;
    let all = world.deliveries(&webhook, "delivered", 1).await;
    let sizes: Vec<usize> =
        receiver.requests().iter().map(|request| notifications(&request.body)).collect();
    assert_eq!(sizes, [2, 1, 1, 1]);
    let shown = world.json(&["deliveries", "show", all[0]["id"].as_str().unwrap()]).await;
    let detail = shown["detail"].as_str().unwrap();
    assert!(detail.contains("may not read tasks/t2 as of directory revision 2"), "{detail}");

    // A retry that a person asks for leaves it out, too.
    world.publish(&user(&may(&[]), 3)).await;
    eventually("the directory is at revision 3", SOON, async || {
        let check = ["access", "check", "anna", "tasks/t1"];
        world.json(&check).await["mayRead"] == false
    })
    .await;
    for _ in 0..2 {
        world.fanfare(&["deliveries", "retry", all[0]["id"].as_str().unwrap()]).await;
        let dropped = world.deliveries(&webhook, "dropped", 1).await;
        assert_eq!(dropped[0]["reason"], "access-revoked");
    }
    assert_eq!(receiver.count(), 4);
}
