//! Blanket policies for all queues of a broker: no delivery is lost, and no retry is made before
//! its time.

use std::time::{Duration, Instant};

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use crate::world::{SOON, World, event};

/// Long enough for the reconciler to publish lost jobs again, on a busy machine.
const AGAIN: Duration = Duration::from_mins(4);

/// Waits until a receiver has had this many requests.
async fn requests_arrive(receiver: &Receiver, count: usize) {
    eventually("all owed deliveries are attempted", AGAIN, async || {
        let had = receiver.count();
        if had >= count { Ok(()) } else { Err(format!("{had} of {count}")) }
    })
    .await;
}

/// The time between a receiver's first two requests.
async fn second_comes_after(receiver: &Receiver) -> Duration {
    receiver.wait_for(1, SOON).await;
    let first = Instant::now();
    requests_arrive(receiver, 2).await;
    first.elapsed()
}

fn slow_retries(world: World) -> World {
    world.with("FANFARE_RETRY_FIRST", "10s").with("FANFARE_RETRY_MAX_DELAY", "10s")
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_a_policy_that_removes_messages() {
    let world = World::new().await;
    world.directory(&json!({ "users": [], "roles": [] })).await;
    let _router = world.start("router").await;
    world.fanfare(&["doctor"]).await;
    for (definition, key) in [
        ("{<<\"message-ttl\">>, 4000}", "message-ttl"),
        ("{<<\"max-length\">>, 500}", "max-length"),
        ("{<<\"expires\">>, 500}", "expires"),
        ("{<<\"max-length\">>, 5}, {<<\"overflow\">>, <<\"reject-publish\">>}", "max-length"),
        ("{<<\"delivery-limit\">>, 5}", "delivery-limit"),
    ] {
        world.set_blanket_policy(definition);
        let found = world.run(&["doctor"], None).await;
        let line = found.stdout.lines().find(|line| line.contains(&format!("`{key}`")));
        assert!(line.is_some_and(|line| line.starts_with("WRONG")), "{key}: {}", found.stdout);
        assert!(found.success().is_err());
    }
    world.clear_blanket_policy();
    // A router declares the expired queues again.
    eventually("doctor finds no fault", AGAIN, async || {
        world.run(&["doctor"], None).await.success().map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_ttl_policy_makes_no_retry_early_and_loses_no_delivery() {
    let world = slow_retries(World::new().await);
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, n| Reply::status(if n == 0 { 500 } else { 204 }));
    let webhook = world.webhook(&receiver.url("/")).await;
    let (_router, worker) = (world.start("router").await, world.start("worker").await);
    world.set_blanket_policy("{<<\"message-ttl\">>, 500}");
    world.publish(&event()).await;
    let waited = second_comes_after(&receiver).await;
    // Jitter shortens a wait by a fifth at most, and the measurement began a little late.
    assert!(waited > Duration::from_millis(7_500), "{waited:?}");
    world.deliveries(&webhook, "delivered", 1).await;
    // Jobs that no worker consumes in time expire; the ledger has their deliveries.
    drop(worker);
    let amqp = world.amqp().await;
    for _ in 0..3 {
        world.publish(&event()).await;
    }
    eventually("the jobs have expired", SOON, async || {
        let planned = world.sql("select count(*) from events");
        let ready = amqp.queue_len("fanfare.deliveries").await.unwrap();
        if (planned.as_str(), ready) == ("4", 0) { Ok(()) } else { Err((planned, ready)) }
    })
    .await;
    let _worker = world.start("worker").await;
    requests_arrive(&receiver, 5).await;
    world.deliveries(&webhook, "delivered", 4).await;
    assert_eq!(receiver.count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_expiry_policy_loses_no_delivery() {
    let world = slow_retries(World::new().await);
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, n| Reply::status(if n == 0 { 500 } else { 204 }));
    let webhook = world.webhook(&receiver.url("/")).await;
    let (router, worker) = (world.start("router").await, world.start("worker").await);
    world.set_blanket_policy("{<<\"expires\">>, 1500}");
    router.wait_for_line("declared a queue again", AGAIN).await;
    world.publish(&event()).await;
    let waited = second_comes_after(&receiver).await;
    assert!(waited > Duration::from_millis(7_500), "{waited:?}");
    world.deliveries(&webhook, "delivered", 1).await;
    // The queue of jobs expires without a consumer.
    drop(worker);
    for _ in 0..3 {
        world.publish(&event()).await;
    }
    let _worker = world.start("worker").await;
    requests_arrive(&receiver, 5).await;
    world.deliveries(&webhook, "delivered", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn max_length_policy_loses_no_dead_letter_and_no_delivery() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.set_blanket_policy("{<<\"max-length\">>, 2}");
    let amqp = world.amqp().await;
    let (mut good, mut bad) = (0, 0);
    let mut malformed = event();
    malformed["type"] = json!("nothing.known");
    for n in 0..20 {
        let event = if n % 2 == 0 { event() } else { malformed.clone() };
        let body = event.to_string();
        let kind = "application/cloudevents+json";
        let sent =
            amqp.publish("reportserver.events", "tasks.execute", kind, &[], body.as_bytes()).await;
        // A refused message was not confirmed, so its publisher still has it.
        let counted = if n % 2 == 0 { &mut good } else { &mut bad };
        *counted += usize::from(sent.is_ok());
    }
    assert!(bad > 3 && good > 3, "{good} {bad}");
    requests_arrive(&receiver, good).await;
    world.clear_blanket_policy();
    eventually("all dead letters are there", AGAIN, async || {
        let letters = world.json(&["dead-letters", "list"]).await;
        let found = letters.as_array().unwrap().len();
        if found == bad { Ok(()) } else { Err((found, bad)) }
    })
    .await;
    world.deliveries(&webhook, "delivered", good).await;
}
