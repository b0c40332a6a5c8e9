//! The database's clock decides. A process with a wrong clock causes no error.

use std::time::{Duration, SystemTime};

use fanfare_testkit::faketime;
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use crate::world::{SOON, World, event};

/// Starts a process of a role whose clock is off by a time such as `+5d`.
async fn start_off(world: &World, role: &str, off: &str) -> Process {
    let faked = tokio::task::spawn_blocking({
        let off = off.to_owned();
        move || faketime::envs(&off).unwrap()
    });
    let faked = faked.await.unwrap();
    let faked: Vec<(&str, &str)> =
        faked.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let process = world.spawn_with_envs(role, &faked);
    process.wait_for_line("this machine's clock differs from the database's", SOON).await;
    process.wait_for_line("connected to the broker", SOON).await;
    process
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Waits until a queue has a message.
async fn message_in(world: &World, queue: &str) {
    let amqp = world.amqp().await;
    eventually(&format!("a message in {queue}"), SOON, async || {
        amqp.queue_len(queue).await.is_ok_and(|messages| messages > 0)
    })
    .await;
}

#[tokio::test]
async fn worker_with_a_clock_days_ahead_lets_no_delivery_expire() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, n| Reply::status(if n < 2 { 500 } else { 200 }));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let _router = world.start("router").await;
    let _worker = start_off(&world, "worker", "+5d").await;
    world.publish(&event()).await;
    let delivered = world.deliveries(&webhook, "delivered", 1).await;
    assert_eq!(delivered[0]["attempts"], 3);
    for request in receiver.requests() {
        let at: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
        assert!((now() - at).abs() < 120, "{at} is not near {}", now());
    }
    let wrong = "select count(*) from attempts where abs(extract(epoch from at - now())) > 120";
    assert_eq!(world.sql(wrong), "0");
}

#[tokio::test]
async fn worker_with_a_clock_behind_sends_no_retry_twice_or_early() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    // The first answer asks for a wait that is longer than the reconciler's margin.
    receiver.answer_with(|_, n| match n {
        0 => Reply::status(503).with_header("retry-after", "20"),
        _ => Reply::status(200),
    });
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let _router = world.start("router").await;
    let _worker = start_off(&world, "worker", "-1h").await;
    world.publish(&event()).await;
    world.deliveries(&webhook, "delivered", 1).await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].at.duration_since(requests[0].at) >= Duration::from_secs(20));
    let due = "select bool_and(next_attempt_at - at between interval '20 s' and interval '60 s'
                               and abs(extract(epoch from at - now())) < 120)
               from attempts where next_attempt_at is not null";
    assert_eq!(world.sql(due), "t");
}

#[tokio::test]
async fn router_with_a_clock_ahead_holds_events_for_the_full_time() {
    let world = World::new().await.with("FANFARE_DIRECTORY_HOLD", "1h");
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let router = world.start("router").await;
    let _worker = world.start("worker").await;
    let mut held = event();
    held["accessrevision"] = json!(3);
    world.publish(&held).await;
    message_in(&world, "fanfare.held.00").await;
    // From here on the router has a wrong clock.
    drop(router);
    message_in(&world, "fanfare.events").await;
    let router = start_off(&world, "router", "+5d").await;
    message_in(&world, "fanfare.held.00").await;
    world
        .publish(&json!({
            "specversion": "1.0", "id": "d3", "source": "/tests", "type": "directory.user",
            "accessrevision": 2, "data": { "name": "ben", "roles": [], "permissions": [] }
        }))
        .await;
    world
        .publish(&json!({
            "specversion": "1.0", "id": "d4", "source": "/tests", "type": "directory.user",
            "accessrevision": 3, "data": { "name": "carl", "roles": [], "permissions": [] }
        }))
        .await;
    world.deliveries(&webhook, "delivered", 1).await;
    assert!(!router.lines().iter().any(|line| line.contains("directory-behind")));
}
