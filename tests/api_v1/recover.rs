//! Operations that recover what webhooks missed: while they were paused or did not exist yet, and while
//! their owners were disabled; and webhooks that hold what happens while they are paused.

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::operations::{LONG, OPERATIONS, begin, ids, until, until_settled};
use super::{Api, User, refused, wrong};
use crate::world::{SOON, event};

/// A time before each test.
const BEFORE: &str = "2026-01-01T00:00:00Z";

/// A directory in which `anna` and `bob` have these documents.
fn directory(anna: &Value, bob: &Value) -> Value {
    let mut users = vec![json!({ "name": "root", "roles": ["System Administrator"] })];
    for (name, document) in [("anna", anna), ("bob", bob)] {
        if let Some(members) = document.as_object() {
            let mut user = members.clone();
            user.insert("name".to_owned(), json!(name));
            users.push(Value::Object(user));
        }
    }
    json!({ "users": users, "roles": [] })
}

/// The document of a user who may read all tasks.
fn reads_tasks() -> Value {
    json!({ "permissions": [{ "access": ["read"], "scope": "any-task" }] })
}

impl Api {
    /// Publishes events and waits until they are routed; returns their ids.
    async fn routed(&self, count: usize) -> Vec<String> {
        let before: usize = self.events();
        let mut ids = Vec::new();
        for _ in 0..count {
            let event = event();
            self.world.publish(&event).await;
            ids.push(event["id"].as_str().unwrap().to_owned());
        }
        eventually("the events are routed", SOON, async || {
            let found = self.events();
            if found == before + count { Ok(()) } else { Err(found) }
        })
        .await;
        ids
    }

    fn events(&self) -> usize {
        self.world.sql("select count(*) from events").parse().unwrap()
    }
}

/// Recovers what was missed since before the test; returns the operation when it is done.
async fn recovered(user: &User, conditions: &Value) -> Value {
    let path = begin(user, &recovery(conditions)).await;
    until(user, &path, "done").await
}

/// A request to recover by these conditions.
fn recovery(conditions: &Value) -> Value {
    let mut filter = conditions.clone();
    filter["since"] = json!(BEFORE);
    json!({ "kind": "recover", "filter": filter })
}

/// Counts what would be recovered.
async fn counted(user: &User, conditions: &Value) -> Value {
    let mut plan = recovery(conditions);
    plan["dryRun"] = json!(true);
    let answer = user.post(OPERATIONS, &plan).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn what_a_paused_webhook_missed_is_sent_once() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let _processes = [api.world.start("router").await, api.world.start("worker").await];
    let webhook =
        api.world.webhook_of("anna", &receiver.url("/hook"), &["--filter", "tasks"]).await;
    api.delivered(&[&webhook]).await;
    api.world.fanfare(&["webhooks", "pause", &webhook]).await;
    api.routed(3).await;
    let mut other = event();
    other["type"] = json!("alerts.fire");
    other["subject"] = json!("alerts/a1");
    api.world.publish(&other).await;
    eventually("the alert is routed", SOON, async || {
        let found = api.events();
        if found == 5 { Ok(()) } else { Err(found) }
    })
    .await;
    let anna = api.sign_in("anna").await;
    let only = json!({ "webhook": webhook });
    let paused = json!({ "webhook-paused": 3, "already-delivered": 1, "filter": 1 });
    assert_eq!(counted(&anna, &only).await["kept"], paused);
    api.world.fanfare(&["webhooks", "resume", &webhook]).await;
    let kept = json!({ "already-delivered": 1, "filter": 1 });
    assert_eq!(counted(&anna, &only).await, json!({ "count": 3, "dryRun": true, "kept": kept }));
    let done = recovered(&anna, &only).await;
    assert_eq!((&done["settled"], &done["kept"]), (&json!(3), &json!({ "already-delivered": 1 })));
    api.world.deliveries(&webhook, "delivered", 4).await;
    let again = recovered(&anna, &only).await;
    assert_eq!(
        (&again["settled"], &again["kept"]),
        (&json!(0), &json!({ "already-delivered": 4 }))
    );
    assert_eq!((receiver.count(), ids(&receiver).len()), (4, 4));
}

#[tokio::test]
async fn access_decides_as_of_then_and_now() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let _processes = [api.world.start("router").await, api.world.start("worker").await];
    let webhook = api.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let root = api.sign_in("root").await;
    let only = json!({ "webhook": webhook });
    // While the owner is disabled: the permissions are those of then.
    let mut disabled = reads_tasks();
    disabled["enabled"] = json!(false);
    api.world.directory(&directory(&disabled, &reads_tasks())).await;
    api.routed(2).await;
    let planned = counted(&root, &only).await;
    assert_eq!(planned, json!({ "count": 0, "dryRun": true, "kept": { "owner-may-not-read": 2 } }));
    assert_eq!(recovered(&root, &only).await["settled"], json!(0));
    // Without permissions then.
    api.world.directory(&directory(&json!({}), &reads_tasks())).await;
    api.routed(1).await;
    // All permissions again.
    api.world.directory(&directory(&reads_tasks(), &reads_tasks())).await;
    let planned = counted(&root, &json!({ "owner": "Anna" })).await;
    let kept = json!({ "owner-could-not-read": 1 });
    assert_eq!(planned, json!({ "count": 2, "dryRun": true, "kept": kept }));
    let done = recovered(&root, &json!({ "owner": "anna" })).await;
    assert_eq!((&done["settled"], &done["kept"]), (&json!(2), &kept));
    api.world.deliveries(&webhook, "delivered", 2).await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_later_user_of_the_same_name_gets_nothing_of_the_former() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let _processes = [api.world.start("router").await, api.world.start("worker").await];
    let webhook = api.world.webhook_of("bob", &receiver.url("/hook"), &["--paused"]).await;
    api.routed(2).await;
    api.world.directory(&directory(&reads_tasks(), &Value::Null)).await;
    api.world.directory(&directory(&reads_tasks(), &reads_tasks())).await;
    api.world.fanfare(&["webhooks", "resume", &webhook]).await;
    api.routed(1).await;
    api.world.deliveries(&webhook, "delivered", 1).await;
    let root = api.sign_in("root").await;
    let planned = counted(&root, &json!({ "webhook": webhook })).await;
    let kept = json!({ "already-delivered": 1, "owner-could-not-read": 2 });
    assert_eq!(planned, json!({ "count": 0, "dryRun": true, "kept": kept }));
}

#[tokio::test]
async fn a_webhook_gets_events_from_before_it_existed() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let _processes = [api.world.start("router").await, api.world.start("worker").await];
    let events = api.routed(3).await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let recover = ["operations", "recover", "--webhook", &webhook, "--since", "1h"];
    let dry_run: Vec<&str> = recover.iter().copied().chain(["--dry-run"]).collect();
    assert_eq!(api.world.fanfare(&dry_run).await, "would recover 3\n");
    assert_eq!(api.world.fanfare(&recover).await, "recovered 3\n");
    api.world.deliveries(&webhook, "delivered", 3).await;
    assert_eq!(ids(&receiver).len(), 3);
    let explained = api.world.json(&["events", "explain", &events[0], "--webhook", &webhook]).await;
    assert!(explained.to_string().contains("\"sent\""), "{explained}");
}

#[tokio::test]
async fn two_thousand_missed_events_are_sent_once_although_routers_die() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    api.world.sql(
        "insert into events (key, batch, position, source, event_id, event_type, subject,
                             decided_revision, notification, webhooks, received_at, first_pending)
         select key, key, 0, '/missed', n::text, 'tasks.execute', 'tasks/t1',
                (select revision from directory_state),
                '{\"Action\":\"tasks\",\"UserAction\":\"execute\"}', '{}',
                now() - interval '1 minute' + n * interval '10 milliseconds', false
         from (select gen_random_uuid() as key, n from generate_series(1, 2000) n) keys",
    );
    let root = api.sign_in("root").await;
    let all = json!({ "kind": "recover", "filter": { "since": BEFORE }, "rate": 400 });
    let paths = [begin(&root, &all).await, begin(&root, &all).await];
    let _worker = api.world.start("worker").await;
    for least in [300, 900] {
        let mut router = api.world.start("router").await;
        until_settled(&root, &paths[0], least).await;
        router.kill9();
    }
    let _router = api.world.start("router").await;
    let [first, second] =
        [until(&root, &paths[0], "done").await, until(&root, &paths[1], "done").await];
    let of = |operation: &Value| operation["settled"].as_i64().unwrap();
    assert_eq!(of(&first) + of(&second), 2000, "{first} {second}");
    eventually("all are delivered", LONG, async || {
        let found = receiver.count();
        if found == 2000 { Ok(()) } else { Err(found) }
    })
    .await;
    api.world.deliveries_settle(&webhook).await;
    assert_eq!((receiver.count(), ids(&receiver).len()), (2000, 2000));
}

#[tokio::test]
async fn a_webhook_that_holds_gets_everything_once_when_it_is_resumed() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    // The first event fails once, and its retry is due while the webhook is paused.
    receiver.answer_with(|_, nth| Reply::status(if nth == 0 { 500 } else { 200 }));
    let _processes = [api.world.start("router").await, api.world.start("worker").await];
    let webhook = api.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let anna = api.sign_in("anna").await;
    api.routed(1).await;
    api.world.deliveries(&webhook, "retrying", 1).await;
    let path = format!("/api/v1/webhooks/{webhook}");
    let hold = r#"{"paused":true,"whilePaused":"hold"}"#;
    let answer = anna.send("PATCH", &path, hold).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let paused = answer.json();
    assert_eq!((&paused["paused"], &paused["whilePaused"]), (&json!(true), &json!("hold")));
    assert!(paused["heldSince"].is_string(), "{paused}");
    api.routed(5).await;
    api.world.deliveries(&webhook, "dropped", 1).await;
    assert_eq!(receiver.count(), 1);
    let resumed = anna.send("PATCH", &path, r#"{"paused":false}"#).await.json();
    assert_eq!((&resumed["paused"], &resumed["heldSince"]), (&json!(false), &Value::Null));
    eventually("all are delivered", 3 * SOON, async || {
        let found = receiver.count();
        if found == 7 { Ok(()) } else { Err(found) }
    })
    .await;
    api.world.deliveries(&webhook, "delivered", 6).await;
    assert_eq!(ids(&receiver).len(), 6);
    let operation = api.world.json(&["operations", "list"]).await[0].clone();
    assert_eq!((&operation["kind"], &operation["askedBy"]), (&json!("recover"), &json!("anna")));
    let path = format!("{OPERATIONS}/{}", operation["id"].as_str().unwrap());
    let done = until(&anna, &path, "done").await;
    assert_eq!((&done["settled"], receiver.count()), (&json!(6), 7));
}

#[tokio::test]
async fn a_pause_without_a_choice_drops_and_a_hold_is_kept_for_later_pauses() {
    let api = Api::start().await;
    let webhook = api.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    let anna = api.sign_in("anna").await;
    let path = format!("/api/v1/webhooks/{webhook}");
    for (pause, expected) in
        [(["--drop"].as_slice(), "drop"), (&[], "drop"), (&["--hold"], "hold"), (&[], "hold")]
    {
        let args: Vec<&str> =
            ["webhooks", "pause", &webhook].iter().chain(pause).copied().collect();
        api.world.fanfare(&args).await;
        let shown = anna.read(&path).await;
        assert_eq!(shown["whilePaused"], json!(expected), "{pause:?}");
        assert_eq!(shown["heldSince"].is_string(), expected == "hold", "{pause:?}");
        api.world.fanfare(&["webhooks", "resume", &webhook]).await;
        assert_eq!(anna.read(&path).await["heldSince"], Value::Null);
    }
    let listed = api.world.json(&["operations", "list"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let bad = anna.send("PATCH", &path, r#"{"whilePaused":"keep"}"#).await;
    assert_eq!(wrong(&refused(&bad, 400, "invalid-request")), ["whilePaused"]);
}

#[tokio::test]
async fn owners_recover_for_their_own_webhooks_and_administrators_for_all() {
    let api = Api::start().await;
    let webhook = api.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    let (anna, bob, root) =
        (api.sign_in("anna").await, api.sign_in("bob").await, api.sign_in("root").await);
    let own = recovery(&json!({ "webhook": webhook }));
    refused(&bob.post(OPERATIONS, &own).await, 403, "forbidden");
    refused(&anna.post(OPERATIONS, &recovery(&json!({}))).await, 403, "forbidden");
    let by_owner = recovery(&json!({ "owner": "anna" }));
    refused(&anna.post(OPERATIONS, &by_owner).await, 403, "forbidden");
    let path = begin(&anna, &own).await;
    refused(&bob.get(&path).await, 403, "forbidden");
    refused(&bob.post(&format!("{path}/cancel"), &json!({})).await, 403, "forbidden");
    assert_eq!(anna.read(&path).await["filter"]["webhook"], json!(webhook));
    let cancelled = anna.post(&format!("{path}/cancel"), &json!({})).await.json();
    assert_eq!(cancelled["state"], "cancelled");
    begin(&root, &recovery(&json!({}))).await;
    let untimed = json!({ "kind": "recover", "filter": { "webhook": webhook } });
    let problem = refused(&root.post(OPERATIONS, &untimed).await, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["filter.since"]);
    let mut more = own.clone();
    more["filter"]["status"] = json!(500);
    let problem = refused(&root.post(OPERATIONS, &more).await, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["filter"]);
}
