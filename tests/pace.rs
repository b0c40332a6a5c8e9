//! The pace of webhooks: rate limits of owners, and holds and limits that receivers ask for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::{SOON, World, event, publish_on};

/// Long enough for a paced webhook.
const SLOWLY: Duration = Duration::from_mins(4);

/// The times of a receiver's requests, and whether it accepted each.
type Log = Arc<Mutex<Vec<(Instant, bool)>>>;

fn log(log: &Log) -> Vec<(Instant, bool)> {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Accepts one request in each `every`, and refuses the others.
fn one_each(receiver: &Receiver, every: Duration, retry_after: &'static str) -> Log {
    let seen = Log::default();
    let kept = Arc::clone(&seen);
    receiver.answer_with(move |request, _| {
        let mut seen = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.iter().rev().find(|(_, taken)| *taken).map(|(at, _)| *at);
        let taken = last.is_none_or(|last| request.at.duration_since(last) >= every);
        seen.push((request.at, taken));
        if taken {
            Reply::status(200)
        } else {
            Reply::status(429).with_header("retry-after", retry_after)
        }
    });
    seen
}

async fn two_workers(world: &World) -> (Process, Process, Process) {
    (world.start("router").await, world.start("worker").await, world.start("worker").await)
}

/// Publishes events as one burst; returns their ids.
async fn publish(world: &World, events: usize) -> Vec<String> {
    let amqp = Amqp::connect(&world.report_server_url()).await.unwrap();
    let events: Vec<Value> = (0..events).map(|_| event()).collect();
    join_all(events.iter().map(|event| publish_on(&amqp, event))).await;
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

async fn delivered(world: &World, webhook: &str, count: usize) -> Vec<Value> {
    eventually("everything is delivered", SLOWLY, async || {
        let limit = count.to_string();
        let list = ["deliveries", "list", "--webhook", webhook, "--limit", &limit];
        let list = world.json(&list).await.as_array().unwrap().clone();
        let is_done = list.len() == count && list.iter().all(|it| it["state"] == "delivered");
        if is_done { Ok(list) } else { Err(format!("{list:?}")) }
    })
    .await
}

/// An installation with the default delays of retries.
async fn usual_world() -> World {
    let world = World::new().await.with("FANFARE_RETRY_FIRST", "5s");
    world.with("FANFARE_RETRY_MAX_DELAY", "12h").with("FANFARE_RETRY_ATTEMPTS", "12")
}

/// Delivers events to such a receiver; returns the number of POSTs and the time.
async fn deliver(events: usize, every: Duration, retry_after: &'static str) -> (usize, Duration) {
    let world = usual_world().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/")).await;
    let seen = one_each(&receiver, every, retry_after);
    let _processes = two_workers(&world).await;
    publish(&world, events).await;
    delivered(&world, &webhook, events).await;
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
    let seen = log(&seen);
    let (first, last) = (seen.first().unwrap().0, seen.last().unwrap().0);
    (seen.len(), last.duration_since(first))
}

#[tokio::test]
async fn receiver_limited_to_one_request_a_second_gets_forty_events_in_a_minute() {
    let (posts, took) = deliver(40, Duration::from_secs(1), "3").await;
    assert!(posts <= 60 && took <= Duration::from_mins(1), "{posts} POSTs in {took:?}");
}

#[tokio::test]
async fn receiver_limited_to_five_requests_a_second_gets_a_hundred_events() {
    let (posts, took) = deliver(100, Duration::from_millis(200), "1").await;
    // Deliveries that are deferred while the pace is slow return late. The test is about refusals.
    assert!(posts <= 140 && took <= Duration::from_mins(2), "{posts} POSTs in {took:?}");
}

/// The times of requests since the first one, in seconds.
fn seconds(receiver: &Receiver) -> Vec<f64> {
    let requests = receiver.requests();
    let first = requests.first().unwrap().at;
    requests.iter().map(|it| it.at.duration_since(first).as_secs_f64()).collect()
}

#[tokio::test]
async fn hold_is_kept_by_every_worker_and_every_waiting_delivery() {
    const HOLD: Duration = Duration::from_secs(20);
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/")).await;
    let (_router, first) = (world.start("router").await, world.start("worker").await);
    publish(&world, 1).await;
    let before = delivered(&world, &webhook, 1).await;
    receiver.answer_with(|_, n| match n {
        1 => Reply::status(503).with_header("retry-after", &HOLD.as_secs().to_string()),
        _ => Reply::status(200),
    });
    publish(&world, 1).await;
    receiver.wait_for(2, SOON).await;
    let held = Instant::now();
    // Another worker, new events, a person who sends again, and the first worker after a restart.
    let _second = world.start("worker").await;
    publish(&world, 10).await;
    world.fanfare(&["deliveries", "retry", before[0]["id"].as_str().unwrap()]).await;
    drop(first);
    let _third = world.start("worker").await;
    publish(&world, 10).await;
    let shown = eventually("all are deferred", SOON, async || {
        let list = world.json(&["deliveries", "list", "--webhook", &webhook]).await;
        let list = list.as_array().unwrap().clone();
        let waits = list.iter().all(|it| it["nextAttemptAt"].is_string());
        if list.len() == 22 && waits { Ok(list) } else { Err(format!("{list:?}")) }
    });
    let shown = shown.await;
    assert!(held.elapsed() < HOLD, "the machine is too slow for this test");
    assert_eq!(receiver.count(), 2);
    for delivery in &shown {
        let attempts = usize::from(delivery["state"] == "retrying");
        assert!(delivery["attempts"] == attempts || delivery["id"] == before[0]["id"]);
    }
    let id = shown[0]["id"].as_str().unwrap();
    let one = world.json(&["deliveries", "show", id]).await;
    let detail = one["detail"].as_str().unwrap();
    assert!(detail.starts_with("the receiver asked to wait until "), "{detail}");
    let webhook_shown = world.json(&["webhooks", "show", &webhook]).await;
    assert!(webhook_shown["HeldUntil"].is_string(), "{webhook_shown}");
    let event = shown[0]["events"][0].as_str().unwrap();
    let explained = world.json(&["events", "explain", event]).await;
    assert_eq!(explained[0]["heldUntil"], webhook_shown["HeldUntil"]);
    let all = delivered(&world, &webhook, 22).await;
    let attempts = |id: &Value| all.iter().find(|it| it["id"] == *id).unwrap()["attempts"].clone();
    assert_eq!(attempts(&before[0]["id"]), 2);
    let times = receiver.requests();
    let waited = times[2].at.duration_since(times[1].at);
    assert!(waited >= HOLD, "{waited:?}");
    assert_eq!(times.len(), 24);
}

#[tokio::test]
async fn hold_beyond_the_deadline_leaves_each_delivery_one_more_attempt() {
    const DEADLINE: f64 = 40.0;
    let world = World::new().await.with("FANFARE_DELIVERY_DEADLINE", "40s");
    let world = world.with("FANFARE_RETRY_ATTEMPTS", "12");
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/")).await;
    receiver.answer_with(|_, _| Reply::status(429).with_header("retry-after", "300000.5"));
    let _processes = two_workers(&world).await;
    publish(&world, 1).await;
    receiver.wait_for(1, SOON).await;
    publish(&world, 1).await;
    receiver.wait_for(3, SLOWLY).await;
    let times = seconds(&receiver);
    assert!(times[1] >= DEADLINE * 0.8 && times[1] <= DEADLINE, "{times:?}");
    eventually("both are dead", SLOWLY, async || {
        let list = world.json(&["deliveries", "list", "--webhook", &webhook]).await;
        let list = list.as_array().unwrap();
        let is_dead = list.len() == 2 && list.iter().all(|it| it["state"] == "dead");
        if is_dead { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    let list = world.json(&["deliveries", "list", "--webhook", &webhook]).await;
    let attempts = list.as_array().unwrap().iter().map(|it| it["attempts"].as_i64().unwrap());
    let attempts: Vec<i64> = attempts.collect();
    assert!(attempts[0] >= 1 && attempts[1] >= 2, "{attempts:?}");
}

#[tokio::test]
async fn workers_wait_as_the_rate_limit_headers_ask() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/")).await;
    receiver.answer_with(|_, n| match n {
        0 => Reply::status(200).with_header("ratelimit", r#""default";r=0;t=6"#),
        1 => Reply::status(200)
            .with_header("ratelimit-remaining", "0")
            .with_header("ratelimit-reset", "5"),
        _ => Reply::status(200).with_header("ratelimit", r#""default";r=9;t=600"#),
    });
    let _processes = two_workers(&world).await;
    for count in 1..=4 {
        publish(&world, 1).await;
        delivered(&world, &webhook, count).await;
    }
    let times = seconds(&receiver);
    assert!(times[1] >= 6.0 && times[2] - times[1] >= 5.0, "{times:?}");
    assert_eq!(times.len(), 4);
}

#[tokio::test]
async fn rate_limit_counts_for_all_workers_together() {
    let world = usual_world().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/other")).await;
    let webhook = world.webhook_of("anna", &receiver.url("/limited"), &[]).await;
    let set = ["webhooks", "set", &webhook, "--rate-limit", "60"];
    assert_eq!(world.json(&set).await["RateLimit"], 60);
    let _processes = two_workers(&world).await;
    publish(&world, 30).await;
    let all = delivered(&world, &webhook, 30).await;
    assert!(all.iter().all(|delivery| delivery["attempts"] == 1));
    let requests = receiver.requests();
    let times = requests.iter().filter(|it| it.path == "/limited").map(|it| it.at);
    let times: Vec<Instant> = times.collect();
    let window = Duration::from_secs(10);
    let most = times.iter().map(|&from| {
        times.iter().filter(|&&at| from <= at && at.duration_since(from) < window).count()
    });
    let (most, took) = (most.max().unwrap(), times[29].duration_since(times[0]));
    assert!(most <= 11, "{most} within ten seconds");
    // Almost every slot is used.
    assert!(took < Duration::from_mins(1), "{took:?}");
}
