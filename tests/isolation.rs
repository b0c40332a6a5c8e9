//! A failing endpoint does not affect others, and gets its deliveries after it has recovered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event, publish_on};

async fn publish(world: &World, count: usize) {
    let amqp = world.amqp().await;
    for _ in 0..count {
        publish_on(&amqp, &event()).await;
    }
}

#[tokio::test]
async fn hanging_endpoint_delays_no_other_and_loses_nothing() {
    const EVENTS: usize = 300;
    let world = World::new().await.with("FANFARE_TIMEOUT", "1s").with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    receiver.answer_with(move |request, _| {
        let hangs = request.path == "/bad" && !is_well.load(Ordering::SeqCst);
        if hangs { Reply::Hang } else { Reply::status(200) }
    });
    let bad = world.webhook(&receiver.url("/bad")).await;
    let good = world.webhook(&receiver.url("/good")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    world.deliveries_settle(&good).await;
    let to_bad = receiver.requests().iter().filter(|it| it.path == "/bad").count();
    assert!(to_bad < EVENTS / 3, "{to_bad} requests went to the hanging endpoint");
    well.store(true, Ordering::SeqCst);
    // Deferred deliveries return over some seconds.
    let all = eventually("everything is delivered", 3 * SOON, async || {
        let list =
            ["deliveries", "list", "--webhook", &bad, "--state", "delivered", "--limit", "999"];
        let list = world.json(&list).await.as_array().unwrap().clone();
        if list.len() == EVENTS { Ok(list) } else { Err(list.len()) }
    })
    .await;
    // A deferral does not count as an attempt.
    let once = all.iter().filter(|delivery| delivery["attempts"] == 1).count();
    assert!(once > EVENTS / 2, "{once} were delivered by their first attempt");
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

/// Longer than any test runs.
const NO_TIMEOUT: &str = "5m";

/// Receivers that stand for hosts: each has its own port, and hangs once `hangs` is set.
async fn hosts(count: usize, hangs: &Arc<AtomicBool>) -> Vec<Receiver> {
    let mut hosts = Vec::new();
    for _ in 0..count {
        let receiver = Receiver::start().await;
        let hangs = Arc::clone(hangs);
        receiver.answer_with(move |_, _| {
            if hangs.load(Ordering::SeqCst) { Reply::Hang } else { Reply::status(200) }
        });
        hosts.push(receiver);
    }
    hosts
}

async fn arrive(receiver: &Receiver, count: usize) {
    eventually(&format!("{count} requests"), SOON, async || {
        let arrived = receiver.count();
        if arrived >= count { Ok(()) } else { Err(arrived) }
    })
    .await;
}

/// An installation whose worker has few permits, so that a test can use all of them.
async fn small_world() -> World {
    let world = World::new().await.with("FANFARE_TIMEOUT", NO_TIMEOUT).with("FANFARE_LOG", "info");
    world.with("FANFARE_CONCURRENCY", "256")
}

#[tokio::test]
async fn owner_with_hanging_webhooks_leaves_permits_to_others() {
    const EVENTS: usize = 100;
    let world = small_world().await;
    let administrator = json!(["System Administrator"]);
    world
        .directory(&json!({ "roles": [], "users": [
            { "name": "anna", "roles": administrator }, { "name": "bob", "roles": administrator },
        ] }))
        .await;
    let hosts = hosts(20, &Arc::new(AtomicBool::new(true))).await;
    for host in &hosts {
        for path in ["/1", "/2"] {
            world.webhook_of("bob", &host.url(path), &[]).await;
        }
    }
    let well = Receiver::start().await;
    world.webhook_of("anna", &well.url("/hook"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    // No request to bob ends before all of anna's have arrived.
    arrive(&well, EVENTS).await;
}

#[tokio::test]
async fn hanging_host_leaves_permits_to_others() {
    const USERS: usize = 12;
    const EVENTS: usize = 100;
    let world = small_world().await;
    let user =
        |number| json!({ "name": format!("user{number}"), "roles": ["System Administrator"] });
    let users: Vec<Value> = (0..USERS).map(user).collect();
    world.directory(&json!({ "roles": [], "users": users })).await;
    let hangs = Arc::new(AtomicBool::new(false));
    let [host] = <[Receiver; 1]>::try_from(hosts(1, &hangs).await).ok().unwrap();
    for number in 1..USERS {
        world.webhook_of(&format!("user{number}"), &host.url("/hook"), &[]).await;
    }
    let well = Receiver::start().await;
    world.webhook_of("user0", &well.url("/hook"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    arrive(&host, EVENTS * (USERS - 1)).await;
    hangs.store(true, Ordering::SeqCst);
    publish(&world, EVENTS).await;
    arrive(&well, 2 * EVENTS).await;
}

/// An installation whose worker has a prefetch of one job, and a receiver on which every request
/// hangs until `well` is set. Both webhooks have the same owner.
async fn narrow_world(timeout: &str) -> (World, Receiver, Arc<AtomicBool>) {
    let world = World::new().await.with("FANFARE_TIMEOUT", timeout).with("FANFARE_LOG", "info");
    let well = Arc::new(AtomicBool::new(false));
    let receiver = Receiver::start().await;
    let is_well = Arc::clone(&well);
    receiver.answer_with(move |_, _| {
        if is_well.load(Ordering::SeqCst) { Reply::status(200) } else { Reply::Hang }
    });
    (world.with("FANFARE_PREFETCH", "1"), receiver, well)
}

/// The number of POSTs of each delivery at a receiver.
fn counts(receiver: &Receiver) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for request in receiver.requests() {
        *counts.entry(request.header("webhook-id").unwrap().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn hanging_host_does_not_hold_the_prefetched_jobs() {
    const EVENTS: usize = 60;
    let (world, bad, _) = narrow_world(NO_TIMEOUT).await;
    for path in ["/1", "/2", "/3"] {
        world.webhook(&bad.url(path)).await;
    }
    let well = Receiver::start().await;
    world.webhook(&well.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    // The other host answers no request, and no job waits for it.
    arrive(&well, EVENTS).await;
    let open = bad.count();
    assert!((4..EVENTS).contains(&open), "{open} requests went to the hanging host");
}

#[tokio::test]
async fn slow_attempt_is_made_once_and_retried() {
    const EVENTS: usize = 2;
    let (world, receiver, well) = narrow_world("4s").await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    // The second job arrives while the first attempt is in progress.
    arrive(&receiver, EVENTS).await;
    well.store(true, Ordering::SeqCst);
    let all = world.deliveries(&webhook, "delivered", EVENTS).await;
    assert!(all.iter().all(|delivery| delivery["attempts"] == 2), "{all:?}");
    assert_eq!(receiver.count(), 2 * EVENTS);
}

#[tokio::test]
async fn slow_attempts_of_a_dead_worker_are_made_again() {
    const EVENTS: usize = 3;
    let (world, receiver, well) = narrow_world("20s").await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, mut worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    arrive(&receiver, EVENTS).await;
    // Two of the three have given back their jobs.
    eventually("the attempts are claimed", SOON, async || {
        let claims = world.sql("select count(*) from claims where entry = 1 and until > now()");
        if claims == EVENTS.to_string() { Ok(()) } else { Err(claims) }
    })
    .await;
    assert_eq!(world.sql("select count(*) from attempts"), "0");
    worker.kill9();
    well.store(true, Ordering::SeqCst);
    let _worker = world.start("worker").await;
    let list = ["deliveries", "list", "--webhook", &webhook, "--state", "delivered"];
    eventually("all are delivered", 4 * SOON, async || {
        let list = world.json(&list).await;
        if list.as_array().unwrap().len() == EVENTS { Ok(()) } else { Err(list) }
    })
    .await;
    let counts = counts(&receiver);
    assert!(counts.len() == EVENTS && counts.values().all(|count| *count == 2), "{counts:?}");
}

#[tokio::test]
async fn stopping_worker_records_its_slow_attempts() {
    const EVENTS: usize = 2;
    let (world, receiver, _) = narrow_world("15s").await;
    receiver.answer_with(|_, _| Reply::status(200).after(Duration::from_secs(5)));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, mut worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    arrive(&receiver, EVENTS).await;
    worker.terminate();
    assert!(worker.wait_exit(SOON).await.success());
    world.deliveries(&webhook, "delivered", EVENTS).await;
    assert_eq!(receiver.count(), EVENTS);
}

#[tokio::test]
async fn retry_does_not_wait_for_a_hanging_endpoint_of_the_same_event() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let failed = AtomicBool::new(false);
    receiver.answer_with(move |request, _| match request.path.as_str() {
        "/hangs" => Reply::Hang,
        _ if !failed.swap(true, Ordering::SeqCst) => Reply::status(500),
        _ => Reply::status(200),
    });
    let hangs = world.webhook(&receiver.url("/hangs")).await;
    let fails = world.webhook(&receiver.url("/fails")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, 1).await;
    let delivered = &world.deliveries(&fails, "delivered", 1).await[0];
    assert_eq!(delivered["attempts"], 2);
    // Both were in one job, and this attempt is still in progress.
    let pending = &world.deliveries(&hangs, "pending", 1).await[0];
    assert_eq!(pending["attempts"], 0);
}

#[tokio::test]
async fn webhook_that_fails_for_too_long_is_paused_with_a_reason() {
    let world = World::new().await.with("FANFARE_PAUSE_FAILING_AFTER", "1s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, 1).await;
    let show = ["webhooks", "show", &webhook];
    eventually("the webhook is paused", SOON, async || {
        let shown = world.json(&show).await;
        let paused = shown["IsPaused"] == true && shown["PausedReason"] == "failing";
        if paused { Ok(()) } else { Err(shown) }
    })
    .await;
    world.deliveries_settle(&webhook).await;
    receiver.answer_with(|_, _| Reply::status(200));
    world.fanfare(&["webhooks", "resume", &webhook]).await;
    publish(&world, 1).await;
    eventually("the webhook is attempted again", SOON, async || {
        let list = world.json(&["deliveries", "list", "--webhook", &webhook]).await;
        if list[0]["state"] == "delivered" { Ok(()) } else { Err(list) }
    })
    .await;
    assert_eq!(world.json(&show).await["PausedReason"], Value::Null);
}

#[tokio::test]
async fn rate_limit_of_a_webhook_is_kept() {
    const EVENTS: usize = 40;
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/other")).await;
    let url = receiver.url("/limited");
    let limited = world.webhook_of("anna", &url, &["--rate-limit", "300"]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    let all = world.deliveries(&limited, "delivered", EVENTS).await;
    assert!(all.iter().all(|delivery| delivery["attempts"] == 1));
    let times: Vec<Instant> =
        receiver.requests().iter().filter(|it| it.path == "/limited").map(|it| it.at).collect();
    let most = times.iter().map(|&from| {
        let until = from + Duration::from_secs(3);
        times.iter().filter(|&&at| from <= at && at < until).count()
    });
    // Five a second, and a burst of one second, in any three seconds.
    let most = most.max().unwrap();
    assert!(most <= 21, "{most} within three seconds");
}

#[tokio::test]
async fn large_events_reach_every_receiver_whole() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let mut webhooks = Vec::new();
    for number in 0..3 {
        webhooks.push(world.webhook(&receiver.url(&format!("/{number}"))).await);
    }
    let failed = AtomicBool::new(false);
    receiver.answer_with(move |_, _| {
        Reply::status(if failed.swap(true, Ordering::SeqCst) { 200 } else { 500 })
    });
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let text = "ä".repeat(450_000);
    let mut large = event();
    large["data"]["Text"] = json!(text);
    world.publish(&large).await;
    for webhook in &webhooks {
        world.deliveries(webhook, "delivered", 1).await;
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4);
    for request in requests {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert!(body["Notifications"][0]["Text"] == json!(text));
    }
}

#[tokio::test]
async fn webhook_with_a_missing_key_waits_and_blocks_no_other() {
    const EVENTS: usize = 100;
    let other_key = "other:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let sealed = world.webhook(&receiver.url("/sealed")).await;
    let world = world.with("FANFARE_SECRET_KEYS", other_key);
    let open = world.webhook_of("anna", &receiver.url("/open"), &[]).await;
    let (_router, worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, EVENTS).await;
    world.deliveries(&open, "delivered", EVENTS).await;
    worker.wait_for_line("a webhook can't be read; its deliveries wait", SOON).await;
    // No delivery is dropped or dead.
    world.deliveries(&sealed, "pending", EVENTS).await;
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
    assert_eq!(receiver.count(), EVENTS);
}
