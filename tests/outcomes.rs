//! The outcomes of attempts, and their effects on deliveries and webhooks.

use std::time::Duration;

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event};

#[tokio::test]
async fn receiver_that_fails_twice_gets_a_third_attempt() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| Reply::status(if count < 2 { 500 } else { 204 }));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    let requests = receiver.wait_for(3, SOON).await;
    let delivery = &world.deliveries(&webhook, "delivered", 1).await[0];
    assert_eq!(delivery["attempts"], 3);
    let bodies: Vec<Value> =
        requests.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    for (number, body) in (1..).zip(&bodies) {
        assert_eq!((&body["Attempt"], &body["Id"]), (&json!(number), &delivery["id"]));
    }
    let shown = world.json(&["deliveries", "show", delivery["id"].as_str().unwrap()]).await;
    let statuses: Vec<&Value> =
        shown["attemptLog"].as_array().unwrap().iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(statuses, [500, 500, 204]);
}

#[tokio::test]
async fn delivery_that_always_fails_becomes_a_dead_letter_and_can_be_replayed() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::text(500, "out of order"));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let event = event();
    world.publish(&event).await;
    let dead = world.deliveries(&webhook, "dead", 1).await[0].clone();
    assert_eq!(dead["reason"], "exhausted");
    assert_eq!(dead["attempts"], 4);
    let letters = eventually("one dead letter", SOON, async || {
        let letters = world.json(&["dead-letters", "list", "--queue", "deliveries"]).await;
        let letters = letters.as_array().unwrap().clone();
        (letters.len() == 1).then_some(letters)
    })
    .await;
    let letter = &letters[0];
    assert_eq!(letter["queue"], "deliveries");
    assert_eq!(letter["reason"], "exhausted");
    assert_eq!(letter["webhook"], json!(webhook));
    assert_eq!(letter["owner"], "anna");
    assert_eq!(letter["attempts"], 4);
    assert_eq!(letter["lastStatus"], 500);
    assert_eq!(letter["event"], event["id"]);
    // The receiver still fails: the letter returns after another four attempts.
    let dry_run = world.fanfare(&["dead-letters", "replay", "--all", "--dry-run"]).await;
    assert!(dry_run.contains('1'), "{dry_run}");
    assert_eq!(receiver.count(), 4);
    receiver.answer_with(|_, _| Reply::status(200));
    world.fanfare(&["dead-letters", "replay", "--all"]).await;
    let requests = receiver.wait_for(5, SOON).await;
    let delivered = &world.deliveries(&webhook, "delivered", 1).await[0];
    assert_eq!((&delivered["id"], &delivered["attempts"]), (&dead["id"], &json!(5)));
    let body: Value = serde_json::from_slice(&requests[4].body).unwrap();
    assert_eq!((&body["Id"], &body["Attempt"]), (&dead["id"], &json!(5)));
    let left = world.json(&["dead-letters", "list"]).await;
    assert_eq!(left, json!([]));
}

#[tokio::test]
async fn retry_is_not_made_before_the_receivers_retry_after() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| match count {
        0 => Reply::status(503).with_header("retry-after", "3"),
        _ => Reply::status(200),
    });
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    let requests = receiver.wait_for(2, SOON).await;
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(3));
    world.deliveries(&webhook, "delivered", 1).await;
}

#[tokio::test]
async fn answer_410_pauses_the_webhook() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(410));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    let delivery = world.deliveries(&webhook, "delivered", 1).await[0].clone();
    let shown = world.json(&["deliveries", "show", delivery["id"].as_str().unwrap()]).await;
    assert_eq!(shown["attemptLog"][0]["outcome"], "gone");
    let paused = world.json(&["webhooks", "show", &webhook]).await;
    assert_eq!((&paused["IsPaused"], &paused["PausedReason"]), (&json!(true), &json!("gone")));
    // The next event is not planned for the webhook until its owner resumes it.
    world.publish(&event()).await;
    world.fanfare(&["webhooks", "resume", &webhook]).await;
    receiver.answer_with(|_, _| Reply::status(200));
    let last = event();
    world.publish(&last).await;
    let requests = receiver.wait_for(2, SOON).await;
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn redirect_is_a_failure_and_is_not_followed() {
    let world = World::new().await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let location = elsewhere.url("/other");
    receiver.answer_with(move |_, _| Reply::status(302).with_header("location", &location));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    let dead = &world.deliveries(&webhook, "dead", 1).await[0];
    assert_eq!(dead["lastStatus"], 302);
    assert_eq!((receiver.count(), elsewhere.count()), (4, 0));
}

#[tokio::test]
async fn retries_of_one_job_are_made_once_after_its_workers_died() {
    const WEBHOOKS: usize = 10;
    const RETRIES: &str = "fanfare.retries";
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| match count {
        0..WEBHOOKS => Reply::status(503).with_header("retry-after", "3"),
        _ => Reply::status(200),
    });
    let mut webhooks = Vec::new();
    for number in 0..WEBHOOKS {
        webhooks.push(world.webhook(&receiver.url(&format!("/{number}"))).await);
    }
    let (_router, mut worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    receiver.wait_for(WEBHOOKS, SOON).await;
    eventually("all wait for a retry", SOON, async || {
        let retrying = world.sql("select count(*) from attempts where state = 'retrying'");
        if retrying == WEBHOOKS.to_string() { Ok(()) } else { Err(retrying) }
    })
    .await;
    worker.terminate();
    assert!(worker.wait_exit(SOON).await.success());
    let amqp = world.amqp().await;
    eventually("the retries are due", SOON, async || amqp.queue_len(RETRIES).await.unwrap() > 0)
        .await;
    // They share one message, which ends three workers in a row.
    for _ in 0..3 {
        assert_eq!(amqp.give_back(RETRIES).await.unwrap(), 1);
        eventually("the message is requeued", SOON, async || {
            amqp.queue_len(RETRIES).await.unwrap() == 1
        })
        .await;
    }
    let _worker = world.start("worker").await;
    receiver.wait_for(2 * WEBHOOKS, SOON).await;
    for webhook in &webhooks {
        let delivered = &world.deliveries(webhook, "delivered", 1).await[0];
        assert_eq!(delivered["attempts"], 2);
    }
    assert_eq!(receiver.count(), 2 * WEBHOOKS);
}

/// A failover or a restore without the last commits leaves jobs of deliveries that the database
/// does not know. They are not sent, and become dead letters.
#[tokio::test]
async fn deliveries_lost_by_the_database_become_dead_letters_with_the_jobs_content() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| Reply::status(if count == 0 { 500 } else { 200 }));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let _router = world.start("router").await;
    // The first attempt of this delivery failed: the job of its retry is by reference.
    let (retried, first) = (event(), event());
    {
        let _worker = world.start("worker").await;
        world.publish(&retried).await;
        world.deliveries(&webhook, "retrying", 1).await;
        world.sql("delete from events");
        world.sql("delete from event_keys");
        world.sql("delete from attempts");
        letters(&world, 1).await;
    }
    // The job of this delivery is redelivered.
    world.publish(&first).await;
    let amqp = world.amqp().await;
    eventually("the job is in the queue", SOON, async || {
        let ready = amqp.queue_len("fanfare.deliveries").await.unwrap();
        if ready > 0 { Ok(()) } else { Err(ready) }
    })
    .await;
    amqp.give_back("fanfare.deliveries").await.unwrap();
    world.sql("delete from events");
    world.sql("delete from event_keys");
    let worker = world.start("worker").await;
    let letters = letters(&world, 2).await;
    assert!(
        worker.lines().iter().any(|line| line.contains("WARN") && line.contains("ledger-lost"))
    );
    assert_eq!(receiver.count(), 1);
    for letter in &letters {
        assert_eq!(
            (&letter["queue"], &letter["reason"]),
            (&json!("deliveries"), &json!("ledger-lost"))
        );
        assert_eq!((&letter["webhook"], &letter["owner"]), (&json!(webhook), &json!("anna")));
        assert!(letter["detail"].as_str().unwrap().contains("publish them again"), "{letter}");
    }
    let of_first = letters.iter().find(|letter| letter["event"] == first["id"]).unwrap();
    let shown = world.fanfare(&["dead-letters", "show", of_first["id"].as_str().unwrap()]).await;
    assert!(shown.contains("Nightly orders") && shown.contains("\"Attempt\":1"), "{shown}");

    // The letter can't be replayed while the database does not know its event, and is kept.
    let replay = ["dead-letters", "replay", "--reason", "ledger-lost"];
    let replayed = world.run(&replay, None).await;
    assert!(replayed.stdout.contains("replayed 0"), "{}", replayed.stdout);
    assert!(replayed.stderr.contains("publish its event again"), "{}", replayed.stderr);
    // The event is published again and delivered. After that the letter has no effect.
    world.publish(&first).await;
    world.deliveries(&webhook, "delivered", 1).await;
    assert_eq!(world.fanfare(&replay).await, "replayed 1\n");
    assert_eq!(receiver.count(), 2);
}

async fn letters(world: &World, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters"), SOON, async || {
        let letters = world.json(&["dead-letters", "list"]).await;
        let letters = letters.as_array().unwrap().clone();
        if letters.len() == count { Ok(letters) } else { Err(letters) }
    })
    .await
}
