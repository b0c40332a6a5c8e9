//! Bulk operations on dead letters: replayed and discarded through the death of routers, with canaries,
//! and restored.

use std::collections::HashSet;
use std::time::Duration;

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::{Api, User, refused, wrong};
use crate::world::{SOON, event};

pub(super) const OPERATIONS: &str = "/api/v1/operations";

/// Longer than ten thousand deliveries take on a busy machine.
pub(super) const LONG: Duration = Duration::from_mins(4);

/// Begins an operation; returns its path.
pub(super) async fn begin(root: &User, operation: &Value) -> String {
    let answer = root.post(OPERATIONS, operation).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    format!("{OPERATIONS}/{}", answer.json()["id"].as_str().unwrap())
}

/// Waits until an operation has this state; returns it.
pub(super) async fn until(root: &User, path: &str, state: &str) -> Value {
    eventually(&format!("the operation is {state}"), LONG, async || {
        let operation = root.read(path).await;
        if operation["state"] == state { Ok(operation) } else { Err(operation) }
    })
    .await
}

/// Waits until an operation has settled this number of letters.
pub(super) async fn until_settled(root: &User, path: &str, least: i64) -> Value {
    eventually(&format!("{least} letters are settled"), LONG, async || {
        let operation = root.read(path).await;
        if operation["settled"].as_i64() >= Some(least) { Ok(operation) } else { Err(operation) }
    })
    .await
}

/// The different Ids of the POSTs that a receiver got.
pub(super) fn ids(receiver: &Receiver) -> HashSet<String> {
    let id = |body: &[u8]| {
        serde_json::from_slice::<Value>(body).unwrap()["Id"].as_str().unwrap().to_owned()
    };
    receiver.requests().iter().map(|request| id(&request.body)).collect()
}

#[tokio::test]
async fn ten_thousand_letters_are_replayed_once_although_routers_die() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    api.world.insert_dead(&webhook, 10_000);
    let root = api.sign_in("root").await;
    let plan = json!({ "kind": "replay", "filter": { "webhook": webhook }, "dryRun": true });
    let planned = root.post(OPERATIONS, &plan).await.json();
    assert_eq!(planned, json!({ "count": 10_000, "dryRun": true, "kept": {} }));
    let operation = json!({ "kind": "replay", "filter": { "webhook": webhook }, "rate": 1500 });
    let path = begin(&root, &operation).await;
    let _worker = api.world.start("worker").await;
    for least in [1000, 4000] {
        let mut router = api.world.start("router").await;
        let operation = until_settled(&root, &path, least).await;
        router.kill9();
        assert_eq!(operation["state"], "running", "{operation}");
        // A letter is settled when its delivery has a new series, and not before.
        let counts =
            "select settled, (select count(*) from attempts where entry = 2) from operations";
        let counts = api.world.sql(counts);
        let (settled, begun) = counts.split_once('|').unwrap_or(("one", "column"));
        assert_eq!(settled, begun, "{counts}");
    }
    let _router = api.world.start("router").await;
    let done = until(&root, &path, "done").await;
    let counted = [&done["total"], &done["settled"], &done["waiting"], &done["kept"]];
    assert_eq!(counted, [&json!(10_000), &json!(10_000), &json!(0), &json!({})]);
    eventually("all are delivered", LONG, async || {
        let operation = root.read(&path).await;
        if operation["delivered"] == 10_000 { Ok(()) } else { Err(operation) }
    })
    .await;
    assert_eq!((receiver.count(), ids(&receiver).len()), (10_000, 10_000));
}

#[tokio::test]
async fn a_receiver_that_relapses_gets_at_most_ten_more_posts_and_others_go_on() {
    let api = Api::start().await;
    let (bad, good, down) =
        (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    bad.answer_with(|_, nth| Reply::status(if nth < 25 { 200 } else { 500 }));
    down.answer_with(|_, _| Reply::status(503));
    let mut webhooks = Vec::new();
    for receiver in [&bad, &good, &down] {
        let webhook = api.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
        api.world.insert_dead(&webhook, 100);
        webhooks.push(webhook);
    }
    let _processes = [api.world.start("router").await, api.world.start("worker").await];
    let root = api.sign_in("root").await;
    let operation =
        json!({ "kind": "replay", "all": true, "canary": true, "note": "after the fix" });
    let path = begin(&root, &operation).await;
    let stopped = until(&root, &path, "stopped").await;
    assert_eq!(good.count(), 100);
    // A receiver that never recovered gets the canary alone.
    assert_eq!(down.count(), 1);
    let after_relapse = bad.count() - 25;
    assert!((1..=10).contains(&after_relapse), "{after_relapse}: {stopped}");
    assert_eq!(stopped["delivered"], json!(125));
    assert_eq!(stopped["failed"], json!(after_relapse + 1));
    let kept = json!({ "relapsed": 99 + 75 - after_relapse });
    assert_eq!((&stopped["kept"], &stopped["note"]), (&kept, &json!("after the fix")));
    // What failed again, and what was kept, is dead as before.
    let left = json!({ "kind": "replay", "all": true, "dryRun": true });
    assert_eq!(root.post(OPERATIONS, &left).await.json()["count"], json!(175));
}

#[tokio::test]
async fn letters_whose_webhook_or_owner_gets_nothing_are_not_sent() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let mut webhooks = Vec::new();
    for owner in ["anna", "anna", "bob"] {
        let webhook = api.world.webhook_of(owner, &receiver.url("/hook"), &[]).await;
        api.world.insert_dead(&webhook, 3);
        webhooks.push(webhook);
    }
    api.world.fanfare(&["webhooks", "pause", &webhooks[0]]).await;
    // Bob has no access any more.
    let reads = json!([{ "access": ["read"], "scope": "any-task" }]);
    let users = json!([
        { "name": "root", "roles": ["System Administrator"] },
        { "name": "anna", "permissions": reads }, { "name": "bob" },
    ]);
    api.world.directory(&json!({ "users": users, "roles": [] })).await;
    let root = api.sign_in("root").await;
    let all = json!({ "kind": "replay", "all": true, "canary": true, "dryRun": true });
    let planned = root.post(OPERATIONS, &all).await.json();
    let kept = json!({ "webhook-paused": 3 });
    assert_eq!(planned, json!({ "count": 6, "dryRun": true, "kept": kept }));
    let _processes = [api.world.start("router").await, api.world.start("worker").await];
    let path = begin(&root, &json!({ "kind": "replay", "all": true, "canary": true })).await;
    let done = until(&root, &path, "done").await;
    assert_eq!(
        (&done["delivered"], &done["dropped"], &done["kept"]),
        (&json!(3), &json!(3), &kept)
    );
    assert_eq!(receiver.count(), 3);
}

/// The number of dead deliveries of each endpoint. A long run sets more.
fn dead_of_each() -> u32 {
    let each = std::env::var_os("FANFARE_TEST_DEAD_OF_EACH");
    each.map_or(40, |each| each.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn fifty_endpoints_recover_by_canary_and_owners_without_access_get_nothing() {
    const ENDPOINTS: usize = 50;
    const WITHOUT_ACCESS: usize = 5;
    let dead = dead_of_each();
    let each = usize::try_from(dead).unwrap();
    let api = Api::start().await;
    let reads = json!([{ "access": ["read"], "scope": "any-task" }]);
    let directory = |without: usize| {
        let granted = |n| if n < without { json!([]) } else { reads.clone() };
        let user = |n| json!({ "name": format!("u{n}"), "permissions": granted(n) });
        let root = json!({ "name": "root", "roles": ["System Administrator"] });
        let users: Vec<Value> = std::iter::once(root).chain((0..ENDPOINTS).map(user)).collect();
        json!({ "users": users, "roles": [] })
    };
    api.world.directory(&directory(0)).await;
    let mut receivers = Vec::new();
    for n in 0..ENDPOINTS {
        let receiver = Receiver::start().await;
        let webhook = api.world.webhook_of(&format!("u{n}"), &receiver.url("/hook"), &[]).await;
        api.world.insert_dead(&webhook, dead);
        receivers.push(receiver);
    }
    api.world.directory(&directory(WITHOUT_ACCESS)).await;
    let root = api.sign_in("root").await;
    let path = begin(&root, &json!({ "kind": "replay", "all": true, "canary": true })).await;
    let _processes = [
        api.world.start("router").await,
        api.world.start("worker").await,
        api.world.start("worker").await,
    ];
    let end = eventually("the operation is done", 30 * LONG, async || {
        let operation = root.read(&path).await;
        if operation["state"] == "done" { Ok(operation) } else { Err(operation) }
    })
    .await;
    let all = json!(ENDPOINTS * each);
    assert_eq!((&end["total"], &end["settled"], &end["waiting"]), (&all, &all, &json!(0)), "{end}");
    let expected = json!((ENDPOINTS - WITHOUT_ACCESS) * each);
    let dropped = json!(WITHOUT_ACCESS * each);
    assert_eq!((&end["delivered"], &end["dropped"]), (&expected, &dropped), "{end}");
    for (n, receiver) in receivers.iter().enumerate() {
        let count = if n < WITHOUT_ACCESS { 0 } else { each };
        assert_eq!((receiver.count(), ids(receiver).len()), (count, count), "endpoint {n}");
    }
}

#[tokio::test]
async fn an_operation_is_paused_resumed_and_cancelled() {
    let api = Api::start().await;
    let webhook = api.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    api.world.insert_dead(&webhook, 30);
    let root = api.sign_in("root").await;
    let path = begin(&root, &json!({ "kind": "discard", "all": true, "rate": 1 })).await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    assert_eq!(root.post(&format!("{path}/pause"), &json!({})).await.json()["state"], "paused");
    let _router = api.world.start("router").await;
    let other = begin(&root, &json!({ "kind": "discard", "filter": { "reason": "none" } })).await;
    until(&root, &other, "done").await;
    assert_eq!(root.read(&path).await["settled"], json!(0));
    api.world.fanfare(&["operations", "resume", &id]).await;
    until_settled(&root, &path, 2).await;
    let cancelled = api.world.json(&["operations", "cancel", &id]).await;
    assert_eq!(cancelled["state"], "cancelled");
    let shown = api.world.json(&["operations", "show", &id]).await;
    let settled = shown["settled"].as_i64().unwrap();
    assert!((2..30).contains(&settled), "{shown}");
    assert_eq!(root.read(&path).await, shown);
    let listed = api.world.json(&["operations", "list"]).await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[1]), (2, &shown));
    assert_eq!(root.read(OPERATIONS).await["items"], listed);
    let answer = root.post(&format!("{path}/resume"), &json!({})).await;
    refused(&answer, 409, "operation-state");
    let history = api.world.json(&["audit", "list"]).await;
    for action in ["begun", "paused", "resumed", "cancelled", "ended"] {
        assert!(
            history.to_string().contains(&format!("operation.{action}")),
            "{action}: {history}"
        );
    }
    // What was discarded comes back.
    let restored = root.post(&format!("{path}/undo"), &json!({})).await.json();
    assert_eq!(restored, json!({ "count": settled }));
    let left = json!({ "kind": "replay", "all": true, "dryRun": true });
    assert_eq!(root.post(OPERATIONS, &left).await.json()["count"], json!(30));
    refused(&root.post(&format!("{path}/undo"), &json!({})).await, 409, "nothing-to-undo");
}

#[tokio::test]
async fn a_command_replays_with_a_canary_and_without_a_router() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    api.world.insert_dead(&webhook, 40);
    let _worker = api.world.start("worker").await;
    let replay = ["dead-letters", "replay", "--webhook", &webhook, "--canary"];
    let dry_run: Vec<&str> = replay.iter().copied().chain(["--dry-run"]).collect();
    assert_eq!(api.world.fanfare(&dry_run).await, "would replay 40\n");
    assert_eq!(api.world.fanfare(&replay).await, "replayed 40\n");
    assert_eq!((receiver.count(), ids(&receiver).len()), (40, 40));
    assert_eq!(api.world.fanfare(&replay).await, "replayed 0\n");
}

#[tokio::test]
async fn dead_events_are_routed_again() {
    let api = Api::start().await;
    let _router = api.world.start("router").await;
    let root = api.sign_in("root").await;
    let mut unknown = event();
    unknown["type"] = json!("galaxies.create");
    api.world.publish(&unknown).await;
    let events = json!({ "queue": "events" });
    let operation = json!({ "kind": "replay", "all": true, "filter": events });
    let counted = json!({ "kind": "replay", "all": true, "filter": events, "dryRun": true });
    eventually("the event is dead", SOON, async || {
        let planned = root.post(OPERATIONS, &counted).await.json();
        if planned["count"] == 1 { Ok(()) } else { Err(planned) }
    })
    .await;
    let path = begin(&root, &operation).await;
    until(&root, &path, "done").await;
    // It is refused again, and is dead as before.
    eventually("the event is dead again", SOON, async || {
        let operation = root.read(&path).await;
        if operation["failed"] == 1 { Ok(()) } else { Err(operation) }
    })
    .await;
    assert_eq!(root.post(OPERATIONS, &counted).await.json()["count"], json!(1));
}

#[tokio::test]
async fn only_administrators_use_operations_and_wrong_ones_are_refused() {
    let api = Api::start().await;
    let anna = api.sign_in("anna").await;
    let all = json!({ "kind": "discard", "all": true });
    refused(&anna.post(OPERATIONS, &all).await, 403, "forbidden");
    // She has none of her own yet, and sees no other.
    assert_eq!(anna.read(OPERATIONS).await, json!({ "items": [], "next": null }));
    let root = api.sign_in("root").await;
    let bad = json!({ "kind": "paint", "rate": 0, "filter": { "webhook": "x", "since": "now" } });
    let problem = refused(&root.post(OPERATIONS, &bad).await, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["kind", "rate", "filter.webhook", "filter.since"]);
    let unnarrowed = json!({ "kind": "discard", "filter": { "queue": "events" } });
    let problem = refused(&root.post(OPERATIONS, &unnarrowed).await, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["filter"]);
    refused(&root.get(&format!("{OPERATIONS}/{}", super::NOBODY_S)).await, 404, "not-found");
}
