//! Decisions about attempts: for a while the plan decides, and after that the current directory.
//! The attempt's row records the directory revision of the decision.

use std::time::{Duration, Instant};

use fanfare_testkit::pgproxy::{Fault, Marker};
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event};

/// A little longer than the time for which the plan decides.
const PLAN_IS_OLD: Duration = Duration::from_secs(31);

fn reader(name: &str) -> Value {
    json!({ "name": name, "permissions": [{ "access": ["read"], "scope": "task", "target": "t1" }] })
}

fn user(document: &Value, revision: i64) -> Value {
    json!({
        "specversion": "1.0", "id": format!("d{revision}"), "source": "/tests",
        "type": "directory.user", "accessrevision": revision, "data": document
    })
}

async fn directory_reaches(world: &World, revision: i64) {
    eventually(&format!("the directory is at revision {revision}"), SOON, async || {
        let now = world.sql("select revision from directory_state");
        if now == revision.to_string() { Ok(()) } else { Err(now) }
    })
    .await;
}

/// An event that names directory revision 1.
fn event_of(kind: &str, padding: usize) -> Value {
    let mut event = event();
    event["type"] = json!(kind);
    event["accessrevision"] = json!(1);
    event["data"]["Padding"] = json!("x".repeat(padding));
    event
}

/// The worker has a verdict for a retry, and then reads the payload, which was too large to be read
/// before. The owner loses access in between.
#[tokio::test]
async fn revocation_during_a_decision_holds_for_every_further_retry() {
    let world = World::new()
        .await
        .with("FANFARE_RETRY_FIRST", "2s")
        .with("FANFARE_RETRY_MAX_DELAY", "2s")
        .with("FANFARE_RETRY_ATTEMPTS", "1000");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    world.directory(&json!({ "accessrevision": 1, "users": [reader("anna")], "roles": [] })).await;
    let webhook = world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let _router = world.start("router").await;
    let (proxy, _worker) = world.start_proxied("worker").await;
    let mut held = proxy.hold(Marker::statement("may_read"));
    world.publish(&event_of("tasks.execute", 20_000)).await;
    receiver.wait_for(1, SOON).await;
    // Another user's document makes the worker read the directory again.
    world.publish(&user(&reader("bob"), 2)).await;
    tokio::time::timeout(SOON, held.reached()).await.unwrap();
    world.publish(&user(&json!({ "name": "anna" }), 3)).await;
    directory_reaches(&world, 3).await;
    let before = receiver.count();
    held.release();
    let dropped = world.deliveries(&webhook, "dropped", 1).await;
    assert_eq!(dropped[0]["reason"], "access-revoked");
    // The attempt that was allowed before.
    assert!(receiver.count() <= before + 1, "{} POSTs after the revocation", receiver.count());
}

/// A large event's job is by reference. The directory is newer than the plan's revision when the
/// job is attempted.
#[tokio::test]
async fn first_attempt_allowed_by_plan_alone_is_decided_before_its_retry() {
    let world = World::new().await.with("FANFARE_RETRY_ATTEMPTS", "1000");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    world.directory(&json!({ "accessrevision": 1, "users": [reader("anna")], "roles": [] })).await;
    let webhook = world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let _router = world.start("router").await;
    world.publish(&user(&json!({ "name": "anna" }), 2)).await;
    directory_reaches(&world, 2).await;
    let _worker = world.start("worker").await;
    world.publish(&event_of("tasks.execute", 200_000)).await;
    let dropped = world.deliveries(&webhook, "dropped", 1).await;
    assert_eq!(dropped[0]["reason"], "access-revoked");
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn briefly_deferred_first_attempt_is_decided_by_its_plan() {
    const EVENTS: usize = 5;
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.directory(&json!({ "accessrevision": 1, "users": [reader("anna")], "roles": [] })).await;
    let limit = ["--rate-limit", "60"];
    let webhook = world.webhook_of("anna", &receiver.url("/anna"), &limit).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    for _ in 0..EVENTS {
        world.publish(&event_of("tasks.execute", 0)).await;
    }
    receiver.wait_for(1, SOON).await;
    world.publish(&user(&json!({ "name": "anna", "enabled": false }), 2)).await;
    directory_reaches(&world, 2).await;
    assert!(receiver.count() < EVENTS, "nothing was put off");
    world.deliveries(&webhook, "delivered", EVENTS).await;
}

/// Jobs of first attempts wait in the queue, as under a long backlog: inline ones, and one by
/// reference.
#[tokio::test]
async fn first_attempt_deferred_for_too_long_is_decided_again() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let users = [reader("anna"), reader("ben")];
    world.directory(&json!({ "accessrevision": 1, "users": users, "roles": [] })).await;
    let annas = world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let bens = world.webhook_of("ben", &receiver.url("/ben"), &[]).await;
    let _router = world.start("router").await;
    let events = [
        event_of("tasks.execute", 0),
        event_of("tasks.execute", 200_000),
        event_of("tasks.delete", 0),
    ];
    for event in &events {
        world.publish(event).await;
    }
    eventually("the events are planned", SOON, async || {
        let count = world.sql("select count(*) from events");
        if count == "3" { Ok(()) } else { Err(count) }
    })
    .await;
    let since = Instant::now();
    world.publish(&user(&json!({ "name": "anna" }), 2)).await;
    directory_reaches(&world, 2).await;
    eventually("the plans are too old to decide", SOON, async || since.elapsed() > PLAN_IS_OLD)
        .await;
    let _worker = world.start("worker").await;
    world.deliveries(&bens, "delivered", events.len()).await;
    world.deliveries_settle(&annas).await;
    let paths = |path: &str| receiver.requests().iter().filter(|it| it.path == path).count();
    assert_eq!(paths("/anna"), 1, "only the delete event still goes to those who could read");
    for event in &events[..2] {
        let id = event["id"].as_str().unwrap();
        let of_event = ["deliveries", "list", "--webhook", &annas, "--event", id];
        let delivery = &world.json(&of_event).await[0];
        assert_eq!(
            (&delivery["state"], &delivery["reason"]),
            (&json!("dropped"), &json!("access-revoked"))
        );
        let shown = world.json(&["deliveries", "show", delivery["id"].as_str().unwrap()]).await;
        let detail = shown["detail"].as_str().unwrap();
        assert!(detail.contains("the first attempt had waited 3"), "{detail}");
        let explained = world.json(&["events", "explain", id, "--webhook", &annas]).await;
        let why = explained[0]["detail"].as_str().unwrap();
        assert!(why.contains("dropped afterwards: ") && why.contains(detail), "{why}");
    }
}

/// The answer to a claim is lost. The worker repeats the claim, and recognises it as its own.
#[tokio::test]
async fn claim_with_a_lost_answer_causes_no_delay() {
    // With this time-out a claim is valid for 70 s.
    let world = World::new().await.with("FANFARE_TIMEOUT", "60s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| Reply::status(if count == 0 { 500 } else { 200 }));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let _router = world.start("router").await;
    let (proxy, worker) = world.start_proxied("worker").await;
    for statement in ["attempts_claim", "attempts_record"] {
        proxy.inject(Marker::statement(statement), Fault::LoseAnswer);
    }
    world.publish(&event()).await;
    let requests = receiver.wait_for(2, SOON).await;
    let between = requests[1].at - requests[0].at;
    assert!(between < Duration::from_secs(30), "the retry came after {between:?}");
    world.deliveries(&webhook, "delivered", 1).await;
    assert_eq!(receiver.count(), 2);
    let lines = worker.lines();
    assert!(!lines.iter().any(|line| line.contains("duplicates")), "{lines:?}");
}
