//! A dead event is corrected by an administrator: checked as a router checks it, and published in its place.

use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::{Api, User, refused, wrong};
use crate::world::{SOON, World, event};

const LIST: &str = "/api/v1/dead-letters?queue=events";

/// The path by which the only dead event is mended.
async fn the_letter(root: &User) -> (Value, String) {
    let letter = eventually("a dead event", SOON, async || {
        let answer = root.get(LIST).await;
        let items = answer.json()["items"].take();
        items.get(0).cloned().ok_or(answer)
    })
    .await;
    let path = format!("/api/v1/dead-letters/{}/mend", letter["id"].as_str().unwrap());
    (letter, path)
}

/// Waits until the queue of dead events has this many messages.
async fn queue_has(world: &World, count: u32) {
    let amqp = world.amqp().await;
    eventually("the queue of dead events", SOON, async || {
        let found = amqp.queue_len("fanfare.events.dead").await.unwrap();
        if found == count { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test]
async fn a_mended_event_is_delivered_and_its_original_is_kept() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let (root, anna) = (api.sign_in("root").await, api.sign_in("anna").await);
    let good = event();
    let mut bad = good.clone();
    bad["type"] = json!("galaxies.execute");
    api.world.publish(&bad).await;
    let (letter, path) = the_letter(&root).await;
    refused(&anna.post(&path, &json!({ "event": good })).await, 403, "forbidden");
    // It is checked as a router checks it.
    let problem =
        refused(&root.post(&path, &json!({ "event": bad })).await, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["event"]);
    assert!(problem["detail"].as_str().unwrap().contains("galaxies"), "{problem}");
    let batch = json!({ "event": [good, bad, 7] });
    let problem = refused(&root.post(&path, &batch).await, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["event[1]", "event[2]"]);
    let document = json!({ "event": {
        "specversion": "1.0", "type": "directory.user", "accessrevision": 9,
        "data": { "name": "anna", "enabled": true, "roles": ["System Administrator"] }
    } });
    let problem = refused(&root.post(&path, &document).await, 400, "invalid-request");
    assert!(problem["detail"].as_str().unwrap().contains("directory"), "{problem}");
    let expected = json!({ "id": letter["id"], "events": [good["id"]], "repeated": [], "dryRun": true, "confirmed": false });
    let dry = root.post(&path, &json!({ "event": good, "dryRun": true })).await;
    dry.is(200, Some(&expected));
    assert_eq!(the_letter(&root).await.0, letter);

    let expected = json!({ "id": letter["id"], "events": [good["id"]], "repeated": [], "dryRun": false, "confirmed": true });
    root.post(&path, &json!({ "event": good })).await.is(200, Some(&expected));
    api.world.deliveries(&webhook, "delivered", 1).await;
    assert_eq!(root.read(LIST).await["items"], json!([]));
    queue_has(&api.world, 0).await;
    assert_eq!(receiver.count(), 1);
    // It is not published twice.
    refused(&root.post(&path, &json!({ "event": good })).await, 404, "not-found");

    let kept = api.world.sql(
        "select settled_as, convert_from(body, 'UTF8') from kept_messages where mended_as is not null",
    );
    assert!(kept.contains("replayed") && kept.contains("galaxies.execute"), "{kept}");
    let audit = root.read("/api/v1/audit?action=dead-letter.mended").await;
    let entry = &audit["items"][0];
    assert_eq!((&entry["actor"], &entry["objectId"]), (&json!("root"), &letter["id"]), "{entry}");
    assert_eq!(entry["after"]["events"], json!([good["id"]]), "{entry}");
    for side in ["before", "after"] {
        let digest = entry[side]["digest"].as_str().unwrap();
        assert!(digest.starts_with("sha256:") && digest.len() == 71, "{entry}");
    }
    assert_ne!(entry["before"]["digest"], entry["after"]["digest"]);
}

/// Routers drop an event with a known source and id as a duplicate.
#[tokio::test]
async fn an_event_that_was_routed_before_is_told_before_it_is_published() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let root = api.sign_in("root").await;
    let known = event();
    api.world.publish(&known).await;
    api.world.deliveries(&webhook, "delivered", 1).await;
    let mut bad = event();
    bad["type"] = json!("galaxies.execute");
    api.world.publish(&bad).await;
    let (letter, path) = the_letter(&root).await;

    let batch = json!([known, event()]);
    let dry = root.post(&path, &json!({ "event": batch, "dryRun": true })).await;
    assert_eq!(dry.json()["repeated"], json!([known["id"]]), "{dry:?}");
    let problem =
        refused(&root.post(&path, &json!({ "event": batch })).await, 409, "already-routed");
    let id = known["id"].as_str().unwrap();
    assert!(problem["detail"].as_str().unwrap().contains(id), "{problem}");
    let mend = ["dead-letters", "mend", letter["id"].as_str().unwrap(), "--file", "-"];
    let said = api.world.run(&mend, Some(&known.to_string())).await;
    assert_eq!(said.status.code(), Some(1), "{}", said.stderr);
    assert!(
        said.stderr.contains(id) && said.stderr.contains("--allow-repeated"),
        "{}",
        said.stderr
    );
    assert_eq!(the_letter(&root).await.0, letter);

    let all = json!({ "event": batch, "allowRepeated": true });
    assert_eq!(root.post(&path, &all).await.status, 200);
    api.world.deliveries(&webhook, "delivered", 2).await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_masked_value_is_not_published_where_the_value_was() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let root = api.sign_in("root").await;
    let mut bad = event();
    bad["type"] = json!("galaxies.edit");
    bad["data"] = json!({ "Id": "t1", "C": "Server=db;Password=hunter2" });
    api.world.publish(&bad).await;
    let (letter, path) = the_letter(&root).await;
    let id = letter["id"].as_str().unwrap();
    let shown = api.world.json(&["dead-letters", "show", id]).await;
    let mut masked: Value = serde_json::from_str(shown["body"].as_str().unwrap()).unwrap();
    assert_eq!(masked["data"]["C"], json!("Server=db;Password=***"));
    // Nothing of a task is masked, so its receivers would get the mask in place of the password.
    masked["type"] = json!("tasks.execute");
    let problem =
        refused(&root.post(&path, &json!({ "event": masked })).await, 400, "invalid-request");
    assert!(problem["detail"].as_str().unwrap().contains("(masked)"), "{problem}");
    let mut whole = masked.clone();
    whole["data"]["C"] = json!("Server=db;Password=hunter3");
    assert_eq!(root.post(&path, &json!({ "event": whole })).await.status, 200);
    api.world.deliveries(&webhook, "delivered", 1).await;
    let post = receiver.wait_for(1, SOON).await.remove(0);
    assert!(String::from_utf8_lossy(&post.body).contains("hunter3"));
}

#[tokio::test]
async fn a_command_mends_what_binary_mode_and_dead_deliveries_leave() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let _router = api.world.start("router").await;
    let root = api.sign_in("root").await;
    let amqp = api.world.amqp().await;
    let sent = amqp.publish(
        "reportserver.events",
        "tasks.execute",
        "application/json",
        &[("cloudEvents:id", "b1"), ("cloudEvents:type", "tasks.execute")],
        b"{\"Id\":\"t1\"}",
    );
    sent.await.unwrap();
    let (letter, _) = the_letter(&root).await;
    let id = letter["id"].as_str().unwrap();
    let mend = ["dead-letters", "mend", id, "--file", "-"];
    let bad = api.world.run(&mend, Some("{\n  \"id\": oops }")).await;
    let text = &bad.stderr;
    assert_eq!(bad.status.code(), Some(1), "{text}");
    assert!(text.contains("line 2 column") && text.contains("not-json"), "{text}");
    let good = event().to_string();
    let dry = [&mend[..], &["--dry-run"]].concat();
    assert_eq!(api.world.fanfare_with(&dry, Some(&good)).await, "would publish 1 event\n");
    assert_eq!(api.world.fanfare_with(&mend, Some(&good)).await, "published 1 event\n");
    let _worker = api.world.start("worker").await;
    api.world.deliveries(&webhook, "delivered", 1).await;

    api.world.insert_dead(&webhook, 1);
    let dead = root.read("/api/v1/dead-letters?queue=deliveries").await;
    let dead = dead["items"][0]["id"].as_str().unwrap();
    let path = format!("/api/v1/dead-letters/{dead}/mend");
    refused(&root.post(&path, &json!({ "event": event() })).await, 409, "not-mendable");
}

#[tokio::test]
async fn a_mended_event_is_published_by_a_router_when_its_console_could_not() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let root = api.sign_in("root").await;
    let mut bad = event();
    bad["type"] = json!("galaxies.execute");
    api.world.publish(&bad).await;
    let (letter, _) = the_letter(&root).await;
    let id = letter["id"].as_str().unwrap();
    let good = event().to_string();
    let file = std::env::temp_dir().join(format!("fanfare-mended-{id}.json"));
    std::fs::write(&file, &good).unwrap();
    let mend = ["dead-letters", "mend", id, "--file", file.to_str().unwrap()];
    let nowhere = [("FANFARE_AMQP_URL", "amqp://127.0.0.1:1")];
    let output = api.world.run_with_envs(&mend, &nowhere).await;
    std::fs::remove_file(&file).unwrap();
    let text = &output.stdout;
    assert_eq!(text, "stored 1 event; a router publishes it within minutes\n");
    assert_eq!(root.read(LIST).await["items"], json!([]));
    assert_eq!(receiver.count(), 0);
    api.world.sql("update kept_messages set return_at = now() where settled_at is null");
    api.world.deliveries(&webhook, "delivered", 1).await;
    queue_has(&api.world, 0).await;
}
