//! Queues that are broken, refuse messages, or hold invalid jobs: only their own traffic stops, and
//! no delivery is lost.

use std::collections::HashSet;
use std::time::Duration;

use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::{AttemptRef, Job};
use fanfare_testkit::Break;
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{SOON, World, event, publish_on};

/// Long enough for the reconciler to publish lost jobs again, on a busy machine.
const AGAIN: Duration = Duration::from_mins(4);

/// The number of sessions with the broker that a process has lost.
fn ended_sessions(process: &Process) -> usize {
    process.lines().iter().filter(|line| line.contains("session with the broker ended")).count()
}

/// Waits until a receiver has had this many requests, some of them for jobs that the reconciler has
/// published again.
async fn reconciled(receiver: &Receiver, count: usize) {
    eventually("all owed deliveries are attempted", AGAIN, async || {
        let had = receiver.count();
        if had >= count { Ok(()) } else { Err(format!("{had} of {count}")) }
    })
    .await;
}

/// Publishes events until a process logs these words: a full queue refuses only some messages after
/// the one that fills it. Returns the number of published events.
async fn publish_until(
    world: &World,
    event: &impl Fn() -> Value,
    process: &Process,
    words: &str,
) -> usize {
    let mut count = 0;
    eventually(&format!("{words:?} is logged"), SOON, async || {
        if process.lines().iter().any(|line| line.contains(words)) {
            return Ok(());
        }
        world.publish(&event()).await;
        count += 1;
        Err(count)
    })
    .await;
    count
}

async fn dead_letters(world: &World, count: usize) {
    eventually(&format!("{count} dead letters"), AGAIN, async || {
        let letters = world.json(&["dead-letters", "list"]).await;
        let letters = letters.as_array().unwrap();
        if letters.len() == count { Ok(()) } else { Err(format!("{letters:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_retry_queue_stops_retries_only_and_can_be_repaired() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, n| Reply::status(if n == 0 { 500 } else { 204 }));
    let webhook = world.webhook(&receiver.url("/")).await;
    let router = world.start("router").await;
    let worker = world.start("worker").await;
    world.break_queue("fanfare.retries", Break::Dead);

    world.publish(&event()).await;
    world.deliveries(&webhook, "retrying", 1).await;
    // Its retry can't be made. First attempts can, also by a worker that starts now.
    drop(worker);
    let worker = world.start("worker").await;
    for n in 2..=4 {
        world.publish(&event()).await;
        receiver.wait_for(n, SOON).await;
    }
    worker.wait_for_line("can't be consumed", SOON).await;
    assert_eq!((ended_sessions(&router), ended_sessions(&worker)), (0, 0));
    // First attempts had a consumer all the time.
    let failed = |line: &&String| line.contains("can't be consumed");
    let lines = worker.lines();
    let of_others: Vec<_> =
        lines.iter().filter(failed).filter(|line| !line.contains("fanfare.retries")).collect();
    assert!(of_others.is_empty(), "{of_others:?}");

    let found = world.run(&["doctor"], None).await;
    let line = found.stdout.lines().find(|line| line.contains("queue fanfare.retries:"));
    assert!(line.is_some_and(|line| line.starts_with("WRONG")), "{}", found.stdout);
    assert!(found.success().is_err());
    let repaired = world.run(&["doctor", "--repair"], None).await;
    assert!(repaired.stdout.contains("deleted and created again"), "{}", repaired.stdout);
    world.fanfare(&["doctor"]).await;

    reconciled(&receiver, 5).await;
    world.deliveries(&webhook, "delivered", 4).await;
    assert_eq!(receiver.count(), 5, "one retry for the event that failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_refused_by_a_broken_delay_queue_still_arrive() {
    for how in [Break::Dead, Break::Silent] {
        let world = World::new().await;
        let receiver = Receiver::start().await;
        receiver.answer_with(|_, n| Reply::status(if n < 2 { 500 } else { 204 }));
        world.directory_of_anna().await;
        let webhook = world.webhook_of("anna", &receiver.url("/"), &["--filter", "tasks"]).await;
        let _router = world.start("router").await;
        let worker = world.start("worker").await;
        // A channel that is already open is not closed, but gets no confirms.
        world.publish(&event()).await;
        receiver.wait_for(2, SOON).await;
        for queue in ["fanfare.delay.00", "fanfare.delay.01"] {
            world.break_queue(queue, how);
        }
        // Another retry goes to another delay queue, while this one waits for its confirm.
        let slow = Receiver::start().await;
        slow.answer_with(|_, _| Reply::status(429).with_header("retry-after", "600"));
        world.webhook_of("anna", &slow.url("/"), &["--filter", "alerts"]).await;
        let mut alert = event();
        (alert["type"], alert["subject"]) = (json!("alerts.execute"), json!("alerts/a1"));
        world.publish(&alert).await;
        slow.wait_for(1, SOON).await;
        let amqp = world.amqp().await;
        eventually("the other retry waits in its queue", SOON, async || {
            let waiting = async |queue: &str| amqp.queue_len(queue).await.unwrap();
            waiting("fanfare.delay.09").await + waiting("fanfare.delay.10").await == 1
        })
        .await;
        reconciled(&receiver, 3).await;
        world.deliveries(&webhook, "delivered", 1).await;
        assert_eq!(ended_sessions(&worker), 0, "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn router_declares_a_job_queue_again_when_it_stays_broken() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/")).await;
    let router = world.start("router").await;
    let worker = world.start("worker").await;
    world.break_queue("fanfare.deliveries", Break::Dead);
    world.publish(&event()).await;
    router.wait_for_line("a queue does not answer", SOON).await;
    assert_eq!(receiver.count(), 0);
    router.wait_for_line("declared a queue again", AGAIN).await;
    // The worker consumes from it again by itself, and sends the deliveries planned in between.
    worker.wait_for_line("a queue that could not be consumed is again", SOON).await;
    reconciled(&receiver, 1).await;
    world.deliveries(&webhook, "delivered", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_is_kept_until_its_queue_accepts_it() {
    let world = World::new().await.with("FANFARE_RETRY_ATTEMPTS", "1");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&receiver.url("/")).await;
    let _router = world.start("router").await;
    let worker = world.start("worker").await;
    world.limit_queues("^fanfare.deliveries.dead$", 1);
    let refusing = "a queue refuses retries, deferrals or dead letters";
    let count = publish_until(&world, &event, &worker, refusing).await;
    world.deliveries(&webhook, "dead", count).await;
    // The jobs of refused dead letters are requeued, so a worker that is killed loses nothing.
    drop(worker);
    world.unlimit_queues();
    let _worker = world.start("worker").await;
    dead_letters(&world, count).await;
    assert_eq!(receiver.count(), count, "no delivery is attempted again");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_dead_event_queue_delays_no_other_event() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/")).await;
    let router = world.start("router").await;
    let _worker = world.start("worker").await;
    let malformed = || {
        let mut malformed = event();
        malformed["type"] = json!("nothing.known");
        malformed
    };
    world.limit_queues("^fanfare.events.dead$", 1);
    let refusing = "a queue refuses dead letters or held events";
    let count = publish_until(&world, &malformed, &router, refusing).await;
    world.publish(&event()).await;
    receiver.wait_for(1, SOON).await;
    world.unlimit_queues();
    dead_letters(&world, count).await;
    assert_eq!(ended_sessions(&router), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_refused_by_a_full_queue_are_restored_from_the_ledger() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/")).await;
    let router = world.start("router").await;
    world.limit_queues("^fanfare.deliveries$", 1);
    let count = publish_until(&world, &event, &router, "a queue refuses jobs").await;
    // Later events are still routed.
    world.publish(&event()).await;
    eventually("all are in the ledger", SOON, async || {
        let events = world.sql("select count(*) from events");
        if events == (count + 1).to_string() { Ok(()) } else { Err(events) }
    })
    .await;
    let _worker = world.start("worker").await;
    reconciled(&receiver, count + 1).await;
    world.deliveries(&webhook, "delivered", count + 1).await;
    assert_eq!(receiver.count(), count + 1);
    assert_eq!(ended_sessions(&router), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_queue_without_confirms_does_not_stop_routing() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/")).await;
    let router = world.start("router").await;
    // A channel that was open before the queue stopped answering gets neither a refusal nor a
    // confirm.
    world.publish(&event()).await;
    eventually("the first event is routed", SOON, async || {
        world.sql("select count(*) from events") == "1"
    })
    .await;
    world.break_queue("fanfare.deliveries", Break::Silent);
    world.publish(&event()).await;
    router.wait_for_line("a queue refuses jobs", 2 * SOON).await;
    world.publish(&event()).await;
    eventually("later events are routed", 2 * SOON, async || {
        world.sql("select count(*) from events") == "3"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_newer_version_are_requeued_and_invalid_jobs_are_kept() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/")).await;
    let _router = world.start("router").await;
    let worker = world.start("worker").await;
    let amqp = world.amqp().await;
    let newer: &[u8] = br#"{"Digest":{"of":["a","b"]}}"#;
    let publish = async |queue: &str, body: &[u8]| {
        let headers = [("x-kept", "yes")];
        amqp.publish("", queue, "application/json", &headers, body).await.unwrap();
    };
    for queue in ["fanfare.deliveries", "fanfare.retries"] {
        publish(queue, newer).await;
        publish(queue, b"no job").await;
    }
    // The messages at the heads of the queues block nothing.
    world.publish(&event()).await;
    receiver.wait_for(1, SOON).await;

    worker.wait_for_line("this version of the worker does not know this kind of job", SOON).await;
    let letters = eventually("the letters", SOON, async || {
        let letters = world.json(&["dead-letters", "list"]).await;
        let letters: Vec<Value> = letters.as_array().unwrap().clone();
        if letters.len() == 2 { Ok(letters) } else { Err(format!("{letters:?}")) }
    })
    .await;
    assert!(letters.iter().all(|letter| letter["reason"] == "unreadable"), "{letters:?}");
    eventually("both newer jobs wait for a newer worker", SOON, async || {
        match amqp.queue_len("fanfare.delay.05").await.unwrap() {
            2 => Ok(()),
            n => Err(n),
        }
    })
    .await;
    let warned = worker
        .lines()
        .iter()
        .filter(|line| line.contains("does not know this kind of job"))
        .count();
    assert_eq!(warned, 1);
    // They return unchanged, so that a newer version can use them.
    drop(worker);
    let back = eventually("both are back", AGAIN, async || {
        match amqp.queue_len("fanfare.retries").await.unwrap() {
            2 => Ok(amqp.drain("fanfare.retries").await.unwrap()),
            n => Err(n),
        }
    })
    .await;
    for message in back {
        assert_eq!(message.body, newer);
        assert_eq!(message.header("x-kept").as_deref(), Some("yes"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn job_with_too_many_webhooks_stops_no_worker() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/")).await;
    let _router = world.start("router").await;
    let worker = world.start("worker").await;
    let amqp = world.amqp().await;
    let due = |n: u128, entry| AttemptRef {
        batch: BatchKey(Uuid::from_u128(n)),
        webhook: WebhookId(Uuid::from_u128(n)),
        sequence: entry,
        received_at: None,
    };
    let wide: Vec<AttemptRef> = (0..3000).map(|n| due(n, 1)).collect();
    let absurd = vec![due(1, i32::MAX), due(1, i32::MAX), due(1, 1)];
    for job in [Job::Retry(wide.clone()), Job::FirstByReference(wide), Job::Retry(absurd)] {
        for queue in ["fanfare.deliveries", "fanfare.retries"] {
            let body = job.to_bytes().unwrap();
            amqp.publish("", queue, "application/json", &[], &body).await.unwrap();
        }
    }
    world.publish(&event()).await;
    receiver.wait_for(1, SOON).await;
    eventually("the queues of jobs are empty", AGAIN, async || {
        let waiting = amqp.queue_len("fanfare.retries").await.unwrap()
            + amqp.queue_len("fanfare.delay.00").await.unwrap()
            + amqp.queue_len("fanfare.delay.02").await.unwrap();
        if waiting == 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    assert_eq!(ended_sessions(&worker), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn delay_queues_that_refuse_cause_no_loss_and_no_duplicates() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.directory_of_anna().await;
    let webhook = world.webhook_of("anna", &receiver.url("/"), &["--rate-limit", "120"]).await;
    let _router = world.start("router").await;
    let worker = world.start("worker").await;
    world.limit_queues("^fanfare.delay", 1);
    let amqp = world.amqp().await;
    for _ in 0..150 {
        publish_on(&amqp, &event()).await;
    }
    worker.wait_for_line("a queue refuses retries, deferrals or dead letters", SOON).await;
    // Refused retries are left to the ledger: their jobs are not requeued over and over.
    eventually("the queues of jobs are empty", SOON, async || {
        let first = amqp.queue_len("fanfare.deliveries").await.unwrap();
        let later = amqp.queue_len("fanfare.retries").await.unwrap();
        let planned = world.sql("select count(*) from events");
        if planned == "150" && first == 0 && later <= 20 {
            Ok(())
        } else {
            Err(format!("{planned} planned, {first} and {later} wait"))
        }
    })
    .await;
    world.unlimit_queues();
    reconciled(&receiver, 150).await;
    world.deliveries_settle(&webhook).await;
    assert_eq!(world.sql("select count(*) from attempts where state <> 'delivered'"), "0");
    let ids: HashSet<String> = receiver.requests().iter().map(id).collect();
    assert_eq!((ids.len(), receiver.count()), (150, 150));
    assert_eq!(ended_sessions(&worker), 0);
}

fn id(request: &fanfare_testkit::receiver::Request) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["Id"].as_str().unwrap().to_owned()
}
