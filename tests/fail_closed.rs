//! The directory grants nothing that it does not know: with refused documents, missing revisions,
//! an incomplete directory, implausible revisions, and names that another person has now.

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event, unique};

const TASKS: &str = "any-task";

fn document(kind: &str, revision: i64, data: &Value) -> Value {
    json!({
        "specversion": "1.0", "id": unique(), "source": "/tests",
        "type": format!("directory.{kind}"), "accessrevision": revision, "data": data
    })
}

fn reads(scope: &str) -> Value {
    json!({ "access": ["read"], "scope": scope, "target": "x" })
}

fn user(name: &str, permissions: &[Value]) -> Value {
    json!({ "name": name, "permissions": permissions })
}

fn at(revision: i64) -> Value {
    let mut event = event();
    event["accessrevision"] = json!(revision);
    event
}

/// Imports revision 1, in which both may read tasks, and registers a webhook for each; returns
/// their ids.
async fn anna_and_ben(world: &World, receiver: &Receiver) -> [String; 2] {
    let users = [user("anna", &[reads(TASKS)]), user("ben", &[reads(TASKS)])];
    world.directory(&json!({ "accessrevision": 1, "users": users, "roles": [] })).await;
    let of =
        async |name: &str| world.webhook_of(name, &receiver.url(&format!("/{name}")), &[]).await;
    [of("anna").await, of("ben").await]
}

/// Waits for the dead letters with this reason.
async fn letters(world: &World, reason: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters {reason}"), 2 * SOON, async || {
        let list = ["dead-letters", "list", "--queue", "events", "--reason", reason];
        let letters = world.json(&list).await.as_array().unwrap().clone();
        if letters.len() == count { Ok(letters) } else { Err(format!("{letters:?}")) }
    })
    .await
}

async fn doctor_says(world: &World, words: &str) {
    let found = world.run(&["doctor"], None).await;
    assert!(found.stdout.contains(words), "{}", found.stdout);
}

/// The number of requests that the webhook `name` got.
fn sent(receiver: &Receiver, name: &str) -> usize {
    let path = format!("/{name}");
    receiver.requests().iter().filter(|request| request.path == path).count()
}

#[tokio::test]
async fn refused_document_voids_its_users_grants_until_it_is_corrected() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let [anna, ben] = anna_and_ben(&world, &receiver).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut wrong = document("user", 2, &user("Anna", &[]));
    wrong["data"]["permissions"] = json!("all");
    world.publish(&wrong).await;
    world.publish(&document("role", 3, &json!({ "name": "r" }))).await;
    for event in [at(2), at(3), event()] {
        world.publish(&event).await;
    }
    world.deliveries(&ben, "delivered", 3).await;
    assert_eq!(sent(&receiver, "anna"), 0);
    let letter = &letters(&world, "bad-data", 1).await[0];
    let detail = letter["detail"].as_str().unwrap();
    assert!(detail.contains("the permissions of the user Anna count for nothing"), "{detail}");
    doctor_says(&world, "WRONG  directory: documents were refused").await;

    // The corrected document has the same revision.
    world.publish(&document("user", 2, &user("anna", &[reads(TASKS)]))).await;
    eventually("the directory is corrected", SOON, async || {
        let check = ["access", "check", "anna", "tasks/t1"];
        world.json(&check).await["mayRead"] == true
    })
    .await;
    world.publish(&event()).await;
    world.deliveries(&anna, "delivered", 1).await;
    world.deliveries(&ben, "delivered", 4).await;
    doctor_says(&world, "ok     directory").await;
}

#[tokio::test]
async fn revocation_with_an_unknown_scope_takes_effect() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let [_, ben] = anna_and_ben(&world, &receiver).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&document("user", 2, &user("anna", &[reads("dashboard")]))).await;
    world.publish(&at(2)).await;
    world.deliveries(&ben, "delivered", 1).await;
    assert_eq!(sent(&receiver, "anna"), 0);
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

#[tokio::test]
async fn refused_snapshot_holds_every_event_until_an_administrator_decides() {
    let world = World::new().await.with("FANFARE_DIRECTORY_HOLD", "3s");
    let receiver = Receiver::start().await;
    let [anna, ben] = anna_and_ben(&world, &receiver).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let wrong = json!({ "users": [{ "name": "ben", "enabled": "no" }], "roles": [] });
    world.publish(&document("snapshot", 2, &wrong)).await;
    letters(&world, "bad-data", 1).await;
    for event in [at(1), event()] {
        world.publish(&event).await;
    }
    letters(&world, "directory-behind", 2).await;
    assert_eq!(receiver.count(), 0);
    doctor_says(&world, "WRONG  directory: a snapshot was refused").await;

    world.fanfare(&["directory", "accept-refused"]).await;
    world.fanfare(&["dead-letters", "replay", "--reason", "directory-behind"]).await;
    world.deliveries(&anna, "delivered", 2).await;
    world.deliveries(&ben, "delivered", 2).await;

    // A body that is no JSON counts as a snapshot by its routing key. A newer snapshot replaces
    // all.
    let amqp = world.amqp().await;
    let (key, kind) = ("directory.snapshot", "application/cloudevents+json");
    amqp.publish("reportserver.events", key, kind, &[], b"{\"type\":").await.unwrap();
    letters(&world, "not-json", 1).await;
    world.publish(&event()).await;
    letters(&world, "directory-behind", 1).await;
    let only_ben = json!({ "users": [user("ben", &[reads(TASKS)])], "roles": [] });
    world.publish(&document("snapshot", 9, &only_ben)).await;
    world.publish(&at(9)).await;
    world.deliveries(&ben, "delivered", 3).await;
    assert_eq!(sent(&receiver, "anna"), 2);
}

#[tokio::test]
async fn retry_waits_while_a_snapshot_is_refused() {
    let world = World::new().await.with("FANFARE_RETRY_FIRST", "5s");
    let world = world.with("FANFARE_RETRY_MAX_DELAY", "5s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let [anna, _] = anna_and_ben(&world, &receiver).await;
    let (_router, worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&at(1)).await;
    receiver.wait_for(2, SOON).await;
    // The snapshot revokes anna's access, and is refused.
    let wrong = json!({ "users": [{ "name": "ben", "enabled": "no" }], "roles": [] });
    world.publish(&document("snapshot", 2, &wrong)).await;
    worker.wait_for_line("directory-held", SOON).await;
    let before = sent(&receiver, "anna");
    let only_ben = json!({ "users": [user("ben", &[reads(TASKS)])], "roles": [] });
    world.publish(&document("snapshot", 3, &only_ben)).await;
    world.deliveries(&anna, "dropped", 1).await;
    assert_eq!(sent(&receiver, "anna"), before);
}

#[tokio::test]
async fn events_are_held_until_the_directory_is_complete() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let ben = world.webhook_of("ben", &receiver.url("/ben"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    doctor_says(&world, "ok     directory: empty: every event is held").await;
    world.publish(&event()).await;
    world.publish(&document("user", 413, &user("ben", &[reads(TASKS)]))).await;
    world.publish(&at(413)).await;
    eventually("the document is stored", SOON, async || {
        world.sql("select revision from directory_state") == "413"
    })
    .await;
    doctor_says(&world, "WRONG  directory: at revision 413, but not complete").await;
    assert_eq!(world.sql("select count(*) from events"), "0");
    let all = json!({ "users": [user("ben", &[reads(TASKS)])], "roles": [] });
    world.publish(&document("snapshot", 420, &all)).await;
    world.deliveries(&ben, "delivered", 2).await;
}

#[tokio::test]
async fn event_is_not_decided_without_a_missing_document_unless_configured() {
    for (gap, delivered) in [("hold", false), ("pass", true)] {
        let world = World::new()
            .await
            .with("FANFARE_DIRECTORY_GAP", gap)
            .with("FANFARE_DIRECTORY_GAP_WAIT", "1s")
            .with("FANFARE_DIRECTORY_HOLD", "4s");
        let receiver = Receiver::start().await;
        let [anna, _] = anna_and_ben(&world, &receiver).await;
        let (_router, _worker) = (world.start("router").await, world.start("worker").await);
        // Revision 2, which revoked anna's permission, is lost.
        world.publish(&document("role", 3, &json!({ "name": "r" }))).await;
        world.publish(&at(3)).await;
        if delivered {
            world.deliveries(&anna, "delivered", 1).await;
        } else {
            letters(&world, "directory-behind", 1).await;
            assert_eq!(receiver.count(), 0);
        }
    }
}

#[tokio::test]
async fn jump_of_the_revision_waits_until_an_administrator_accepts_it() {
    const FAR: i64 = 5_000_000;
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let [anna, ben] = anna_and_ben(&world, &receiver).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    for revision in [FAR, i64::MAX] {
        world.publish(&document("user", revision, &user("anna", &[]))).await;
    }
    world.publish(&document("snapshot", i64::MAX, &json!({ "users": [], "roles": [] }))).await;
    letters(&world, "revision-jump", 3).await;
    assert_eq!(world.sql("select revision from directory_state"), "1");
    // The next change is an ordinary one, and an event waits for it as usual.
    world.publish(&at(2)).await;
    world.publish(&document("role", 2, &json!({ "name": "r" }))).await;
    world.deliveries(&anna, "delivered", 1).await;
    world.deliveries(&ben, "delivered", 1).await;

    world.fanfare(&["directory", "accept-revision", &FAR.to_string()]).await;
    world.fanfare(&["dead-letters", "replay", "--reason", "revision-jump"]).await;
    eventually("the accepted revision is applied", SOON, async || {
        let revision = world.sql("select revision from directory_state");
        if revision == FAR.to_string() { Ok(()) } else { Err(revision) }
    })
    .await;
    letters(&world, "revision-jump", 2).await;
    world.publish(&event()).await;
    world.deliveries(&ben, "delivered", 2).await;
    assert_eq!(sent(&receiver, "anna"), 1);
}

#[tokio::test]
async fn import_replaces_a_mistaken_directory_revision() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let [_, ben] = anna_and_ben(&world, &receiver).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    // The state that an earlier version left.
    world.sql("update directory_state set revision = 9223372036854775807");
    let file = std::env::temp_dir().join(format!("fanfare-{}.json", unique()));
    let all = json!({ "accessrevision": 7, "users": [user("ben", &[reads(TASKS)])], "roles": [] });
    std::fs::write(&file, all.to_string()).unwrap();
    let import = ["directory", "import", &file.to_string_lossy(), "--reset-revision"];
    let output = world.fanfare(&import).await;
    std::fs::remove_file(&file).unwrap();
    assert!(output.contains("the directory is at revision 7"), "{output}");
    world.publish(&at(8)).await;
    world.publish(&document("user", 8, &user("ben", &[reads(TASKS)]))).await;
    world.deliveries(&ben, "delivered", 1).await;
    // The earlier history is gone, so no event is decided by it.
    world.publish(&at(6)).await;
    letters(&world, "directory-behind", 1).await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn recreated_user_gets_none_of_the_former_users_webhooks() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let [anna, ben] = anna_and_ben(&world, &receiver).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&document("user", 2, &json!({ "name": "anna", "deleted": true }))).await;
    world.publish(&document("user", 3, &user("Anna", &[reads(TASKS)]))).await;
    world.publish(&at(3)).await;
    world.deliveries(&ben, "delivered", 1).await;
    let paused = world.json(&["webhooks", "show", &anna]).await;
    assert_eq!(paused["PausedReason"], "owner-recreated");
    assert_eq!(sent(&receiver, "anna"), 0);

    world.fanfare(&["webhooks", "resume", &anna]).await;
    world.publish(&document("user", 4, &user("anna", &[reads(TASKS)]))).await;
    world.publish(&at(4)).await;
    world.deliveries(&anna, "delivered", 1).await;
}

#[tokio::test]
async fn names_that_the_report_server_distinguishes_are_distinct() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let users = [user("weiß", &[reads(TASKS)]), user("weiss", &[]), user("admın", &[reads(TASKS)])];
    world.directory(&json!({ "accessrevision": 1, "users": users, "roles": [] })).await;
    for name in ["weiss", "admin"] {
        world.webhook_of(name, &receiver.url("/other"), &[]).await;
    }
    let own = world.webhook_of("weiß", &receiver.url("/own"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    world.deliveries(&own, "delivered", 1).await;
    assert_eq!(sent(&receiver, "other"), 0);
}

/// Publishes a batch with one routing key, as a report server does that uses its first entry's
/// type.
async fn publish_batch(world: &World, key: &str, entries: &[Value]) {
    let (kind, body) = ("application/cloudevents-batch+json", json!(entries).to_string());
    let amqp = world.amqp().await;
    amqp.publish("reportserver.events", key, kind, &[], body.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn replayed_batch_with_the_routing_key_of_a_document_keeps_its_events() {
    let world = World::new().await.with("FANFARE_DIRECTORY_HOLD", "3s");
    let receiver = Receiver::start().await;
    let [anna, ben] = anna_and_ben(&world, &receiver).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let entries = [document("user", 2, &user("anna", &[reads(TASKS)])), at(4)];
    publish_batch(&world, "directory.user", &entries).await;
    letters(&world, "directory-behind", 1).await;
    for revision in [3, 4] {
        world.publish(&document("role", revision, &json!({ "name": "r" }))).await;
    }
    world.fanfare(&["dead-letters", "replay", "--reason", "directory-behind"]).await;
    world.deliveries(&anna, "delivered", 1).await;
    world.deliveries(&ben, "delivered", 1).await;
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

#[tokio::test]
async fn document_refused_by_the_database_is_kept_from_either_queue() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let [anna, ben] = anna_and_ben(&world, &receiver).await;
    world.sql(
        "create function refuse() returns trigger language plpgsql as $$
         begin
             if upper(new.name_key) = 'ANNA' and not new.void then
                 raise exception 'refused' using errcode = '22023';
             end if;
             return new;
         end $$;
         create trigger refuse before insert on directory_versions
             for each row execute function refuse()",
    );
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    // Only the queue of events has this batch. Its other entries are accepted.
    let role = document("role", 3, &json!({ "name": "r" }));
    let entries = [document("user", 2, &user("anna", &[reads(TASKS)])), role, at(3)];
    publish_batch(&world, "tasks.execute", &entries).await;
    world.deliveries(&ben, "delivered", 1).await;
    let letter = &letters(&world, "bad-data", 1).await[0];
    let detail = letter["detail"].as_str().unwrap();
    assert!(detail.contains("the permissions of the user anna count for nothing"), "{detail}");
    assert_eq!(sent(&receiver, "anna"), 0);

    world.sql("drop trigger refuse on directory_versions");
    world.fanfare(&["dead-letters", "replay", "--reason", "bad-data"]).await;
    eventually("the document is applied", SOON, async || {
        let check = ["access", "check", "anna", "tasks/t1"];
        world.json(&check).await["mayRead"] == true
    })
    .await;
    world.publish(&event()).await;
    world.deliveries(&anna, "delivered", 1).await;
}
