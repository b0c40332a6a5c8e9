//! A delivery that ends its workers is found by a solo attempt, and never by the number of times
//! that its job was redelivered.

use std::time::{Duration, Instant};

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::{eventually, pass};
use serde_json::{Value, json};

use crate::world::{SOON, World, event, unique};

/// A session that ends requeues all its messages, also those that are not to blame.
#[tokio::test]
async fn jobs_redelivered_many_times_are_still_attempted() {
    const TIMES: usize = 30;
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let router = world.start("router").await;
    for _ in 0..3 {
        world.publish(&event()).await;
    }
    let amqp = world.amqp().await;
    eventually("the jobs are in the queue", SOON, async || {
        let planned = world.sql("select count(*) from events");
        let ready = amqp.queue_len("fanfare.deliveries").await.unwrap();
        if planned == "3" && ready > 0 { Ok(()) } else { Err((planned, ready)) }
    })
    .await;
    for _ in 0..TIMES {
        assert!(amqp.give_back("fanfare.deliveries").await.unwrap() > 0);
    }
    let _worker = world.start("worker").await;
    world.deliveries(&webhook, "delivered", 3).await;
    assert_eq!(receiver.count(), 3);
    drop(router);
}

/// Each worker that sends to `/bad` is killed before it can record the attempt. Concurrent
/// deliveries to `/good` are not to blame.
#[tokio::test]
async fn delivery_that_ends_its_workers_is_attempted_solo_and_then_given_up() {
    let world = World::new().await.with("FANFARE_TIMEOUT", "6s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, _| match request.path.as_str() {
        "/bad" => Reply::status(200).after(Duration::from_secs(5)),
        _ => Reply::status(200),
    });
    let good = world.webhook(&receiver.url("/good")).await;
    let tasks = ["--filter", "tasks"];
    let bad = world.webhook_of("anna", &receiver.url("/bad"), &tasks).await;
    let _router = world.start("router").await;
    let to = |path: &str| receiver.requests().into_iter().filter(|it| it.path == path).count();
    world.publish(&event()).await;
    let (mut attempts, mut events, mut alone) = (0, 1, 0);
    let give_up = Duration::from_secs(270);
    let began = Instant::now();
    let state = async || {
        let list = world.json(&["deliveries", "list", "--webhook", &bad]).await;
        list.as_array().unwrap().last().unwrap().clone()
    };
    loop {
        assert!(began.elapsed() < give_up, "the delivery is not given up: {}", state().await);
        let mut worker = world.start("worker").await;
        eventually("the delivery is attempted or given up", 2 * SOON, async || {
            to("/bad") > attempts || state().await["state"] == "dead"
        })
        .await;
        if to("/bad") == attempts {
            break;
        }
        attempts += 1;
        if worker.lines().iter().any(|line| line.contains("attempting a delivery alone")) {
            alone += 1;
            // No other delivery is attempted meanwhile.
            let before = to("/good");
            world.publish(&for_good_alone()).await;
            events += 1;
            pass(Duration::from_secs(1)).await;
            assert_eq!(to("/good"), before, "the attempt was not solo");
        }
        worker.kill9();
        // To shorten the test: two attempts among others were not recorded.
        world.sql(
            "update claims set unrecorded = greatest(unrecorded, 2) where webhook in \
                   (select id from webhooks where uri like '%/bad')",
        );
    }
    assert_eq!(alone, 3);
    let dead = state().await;
    assert_eq!((&dead["state"], &dead["reason"]), (&json!("dead"), &json!("poison")));
    let _worker = world.start("worker").await;
    let letters = eventually("the delivery's dead letter is in the queue", SOON, async || {
        let letters = world.json(&["dead-letters", "list", "--webhook", &bad]).await;
        let letters = letters.as_array().unwrap().clone();
        if letters.is_empty() { Err(letters) } else { Ok(letters) }
    })
    .await;
    assert_eq!(letters[0]["reason"], "poison");
    world.deliveries(&good, "delivered", events).await;
}

/// An event to which only `/good` is subscribed.
fn for_good_alone() -> Value {
    json!({
        "specversion": "1.0", "id": unique(), "source": "/tests", "type": "alerts.create",
        "subject": "alerts/a1", "data": { "Id": "a1", "Name": "Late orders" }
    })
}
