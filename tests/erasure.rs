//! Erasure: after it, a user's or a resource's payloads are in no table and in no queue, and the facts
//! are.

use std::fmt::Write as _;

use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::audit::{actions, entries};
use crate::world::{SOON, World, event, publish_on, unique};

/// Text that is in the payloads to be erased, in those of others, and in answers.
const PRIVATE: &str = "salary-of-carol-4711";
const OTHER: &str = "salary-of-dora-4712";
const ANSWER: &str = "answer-about-carol-4713";

/// The text that is in the payloads of a user's events.
fn text_of(user: &str) -> &'static str {
    if user == "Carol" { PRIVATE } else { OTHER }
}

/// An event of a resource, whose data names a user.
fn event_by(user: &str, subject: &str) -> Value {
    let mut event = event();
    event["subject"] = json!(subject);
    event["data"] =
        json!({ "Id": "t1", "Name": text_of(user), "ModifiedBy": { "UserName": user } });
    event
}

/// Every queue that has messages of Fanfare.
fn queues() -> Vec<String> {
    let named = ["events", "directory", "deliveries", "retries", "events.dead", "deliveries.dead"];
    let held = ["held.00", "held.05"].map(str::to_owned);
    let delays = (0..18).map(|level| format!("delay.{level:02}"));
    let all = named.map(str::to_owned).into_iter().chain(held).chain(delays);
    all.map(|queue| format!("fanfare.{queue}")).collect()
}

/// All messages of all queues, with their headers.
async fn messages(world: &World) -> String {
    let amqp = world.amqp().await;
    let mut text = String::new();
    for queue in queues() {
        for message in amqp.look(&queue).await.unwrap() {
            let body = String::from_utf8_lossy(&message.body);
            writeln!(text, "{queue} {:?} {body}", message.headers).unwrap();
        }
    }
    text
}

/// Waits until a queue whose name begins so has a message with the text that follows, if there is one.
async fn until_queued(world: &World, wanted: &str) {
    let (queue, text) = wanted.split_once(' ').unwrap_or((wanted, ""));
    eventually(&format!("a message in {queue}"), SOON, async || {
        let found = messages(world).await;
        let is_wanted = |line: &str| line.starts_with(queue) && line.contains(text);
        if found.lines().any(is_wanted) { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Checks that a text is in no table and no queue.
async fn check_erased(world: &World, text: &str) {
    for (place, all) in [("database", world.dump()), ("broker", messages(world).await)] {
        let found: Vec<&str> = all.lines().filter(|line| line.contains(text)).collect();
        assert!(found.is_empty(), "{place}: {found:?}");
    }
}

/// Publishes an array of events.
async fn publish_batch(world: &World, events: &[Value]) {
    let body = json!(events).to_string();
    let content_type = "application/cloudevents-batch+json";
    let amqp = world.amqp().await;
    let exchange = "reportserver.events";
    amqp.publish(exchange, "tasks.execute", content_type, &[], body.as_bytes()).await.unwrap();
}

/// Waits until a queue has this number of messages.
async fn has(world: &World, queue: &str, count: u32) {
    let amqp = world.amqp().await;
    eventually(&format!("{count} messages in {queue}"), SOON, async || {
        let found = amqp.queue_len(queue).await.unwrap();
        if found == count { Ok(()) } else { Err(found) }
    })
    .await;
}

/// An erasure that must succeed.
async fn erase(world: &World, args: &[&str]) -> Value {
    let args: Vec<&str> = ["erase"].iter().chain(args).copied().collect();
    world.json(&args).await
}

/// An installation without processes whose tables and queues have payloads of Carol and of Dora.
struct Scene {
    world: World,
    receiver: Receiver,
    /// A webhook whose deliveries succeed; those of another one die.
    good: String,
    /// An event of Carol that was delivered to one webhook, and is dead for the other one.
    carols: Value,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new()
            .await
            .with("FANFARE_RETRY_ATTEMPTS", "1")
            .with("FANFARE_DIRECTORY_HOLD", "10m");
        let receiver = Receiver::start().await;
        receiver.answer_with(|request, _| {
            let status = if request.path.contains("bad") { 500 } else { 200 };
            Reply::text(status, ANSWER)
        });
        let good = world.webhook(&receiver.url("/good")).await;
        let bad = world.webhook_of("anna", &receiver.url("/bad"), &[]).await;
        let (router, worker) = (world.start("router").await, world.start("worker").await);
        let carols = event_by("Carol", "tasks/t1");
        for (count, event) in [(1, &carols), (2, &event_by("dora", "tasks/t1"))] {
            world.publish(event).await;
            world.deliveries(&good, "delivered", count).await;
            world.deliveries(&bad, "dead", count).await;
        }
        has(&world, "fanfare.deliveries.dead", 2).await;
        let scene = Self { world, receiver, good, carols };
        scene.refused_events().await;
        // Held for a revision, then in a job, and not routed.
        let mut held = event_by("Carol", "tasks/t1");
        held["accessrevision"] = json!(900);
        scene.world.publish(&held).await;
        until_queued(&scene.world, "fanfare.held.").await;
        drop(worker);
        for user in ["Carol", "dora"] {
            scene.world.publish(&event_by(user, "tasks/t1")).await;
            until_queued(&scene.world, &format!("fanfare.deliveries {}", text_of(user))).await;
        }
        drop(router);
        let batch = [event_by("dora", "tasks/t2"), event_by("Carol", "tasks/t2")];
        publish_batch(&scene.world, &batch).await;
        scene
    }

    /// Publishes what a router refuses: an event of each, and what is not JSON.
    async fn refused_events(&self) {
        for user in ["Carol", "dora"] {
            let mut event = event_by(user, "tasks/t1");
            event["type"] = json!("galaxies.create");
            self.world.publish(&event).await;
        }
        let broken = format!("{{oops {PRIVATE} Carol");
        let to = ("reportserver.events", "tasks.execute", "application/cloudevents+json");
        let amqp = self.world.amqp().await;
        amqp.publish(to.0, to.1, to.2, &[], broken.as_bytes()).await.unwrap();
        has(&self.world, "fanfare.events.dead", 3).await;
    }

    /// Checks that the payloads of others are there: in the ledger, and in the queues a dead delivery,
    /// a refused event, a job, and a batch that no router has taken.
    async fn check_others(&self) {
        let (left, queued) = (self.world.dump(), messages(&self.world).await);
        assert_eq!(left.matches(OTHER).count(), 2, "{left}");
        assert_eq!(queued.matches(OTHER).count(), 4, "{queued}");
    }

    /// Checks that the facts of what was erased are there, and that nothing can be sent again.
    async fn check_facts(&self) {
        let world = &self.world;
        let delivered = world.json(&["deliveries", "list", "--event", id(&self.carols)]).await;
        assert_eq!(delivered.as_array().unwrap().len(), 2, "{delivered}");
        let shown = world.json(&["events", "show", id(&self.carols)]).await;
        let payload = (&shown["notification"], &shown["payloadRemoved"], &shown["subject"]);
        assert_eq!(payload, (&Value::Null, &json!("erased"), &json!("tasks/t1")));
        let dropped = world.json(&["deliveries", "list", "--state", "dropped"]).await;
        let reasons: Vec<&Value> =
            dropped.as_array().unwrap().iter().map(|one| &one["reason"]).collect();
        assert_eq!(reasons, ["payload-removed"; 2]);
        let erased = delivered[0]["id"].as_str().unwrap();
        let retried = world.run(&["deliveries", "retry", erased], None).await;
        assert!(retried.stderr.contains("its payload was removed"), "{retried:?}");
        assert!(retried.success().is_err());
    }

    /// Checks that the trail has the counts, and each dead letter that was discarded.
    async fn check_trail(&self) {
        let done = entries(&self.world, &["--action", "erasure.done"]).await;
        let counted = (&done[0]["objectId"], &done[0]["after"]["events"]);
        assert_eq!(counted, (&json!("carol"), &json!(2)));
        let discarded = entries(&self.world, &["--action", "dead-letter.discarded"]).await;
        assert_eq!(discarded.len(), 3, "{discarded:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_an_erased_user_are_in_no_table_and_no_queue() {
    let scene = Scene::new().await;
    let (world, receiver) = (&scene.world, &scene.receiver);
    let posted = receiver.count();
    assert!(world.dump().contains(PRIVATE) && messages(world).await.contains(PRIVATE));

    let dry = erase(world, &["--user", "carol", "--dry-run"]).await;
    let counts = [("events", 2), ("pending", 2), ("waiting", 2), ("deadLetters", 3), ("jobs", 1)];
    for (count, expected) in counts {
        assert_eq!(dry[count], expected, "{count}: {dry}");
    }
    let refused = world.run(&["erase", "--user", "carol"], None).await;
    assert!(refused.failed_with(1).contains("2 deliveries are not settled"), "{refused:?}");
    assert_eq!(actions(&entries(world, &["--action", "erasure.begun"]).await), [""; 0]);

    let receipt = erase(world, &["--user", "CAROL", "--drop-pending"]).await;
    check_erased(world, PRIVATE).await;
    for (count, expected) in counts {
        assert_eq!(receipt[count], expected, "{count}: {receipt}");
    }
    scene.check_others().await;
    scene.check_facts().await;
    scene.check_trail().await;
    // A second time there is nothing to do.
    let again = erase(world, &["--user", "carol"]).await;
    for count in ["events", "answers", "deadLetters", "jobs", "waiting", "pending"] {
        assert_eq!(again[count], 0, "{count}: {again}");
    }
    // What was dropped is not sent, and what is another's is.
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.deliveries_settle(&scene.good).await;
    receiver.wait_for(posted + 4, SOON).await;
    let body = |request: Request| String::from_utf8_lossy(&request.body).into_owned();
    let late: Vec<String> = receiver.requests().into_iter().skip(posted).map(body).collect();
    assert!(late.iter().all(|body| !body.contains(PRIVATE)), "{late:?}");
    check_erased(world, PRIVATE).await;
}

/// An event's id.
fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_an_erased_resource_and_the_answers_of_an_erased_user_are_gone() {
    let world = World::new().await.with("FANFARE_RETRY_ATTEMPTS", "1");
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, _| {
        let status = if request.path.contains("bad") { 500 } else { 200 };
        Reply::text(status, ANSWER).with_header("x-session", ANSWER)
    });
    let hook = world.webhook(&receiver.url("/hook")).await;
    let bad = world.webhook_of("anna", &receiver.url("/bad"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let amqp = world.amqp().await;
    for (kind, subject) in [
        ("reports.edit", "categories/c1/reports/r1"),
        ("categories.edit", "categories/c1"),
        ("categories.edit", "categories/c10"),
    ] {
        let mut event = event_by("Carol", subject);
        event["type"] = json!(kind);
        if subject == "categories/c10" {
            event["data"]["Name"] = json!(OTHER);
        }
        publish_on(&amqp, &event).await;
    }
    world.deliveries(&hook, "delivered", 3).await;
    world.deliveries(&bad, "dead", 3).await;
    has(&world, "fanfare.deliveries.dead", 3).await;
    let settled = async || {
        let open = "select count(*) from events where look_at is not null";
        if world.sql(open) == "0" { Ok(()) } else { Err("an event is not settled") }
    };
    eventually("all events are settled", SOON, settled).await;
    let subject = ["--subject", "categories/c1"];
    let dry = erase(&world, &[subject[0], subject[1], "--dry-run"]).await;
    let receipt = erase(&world, &subject).await;
    for counts in [&dry, &receipt] {
        let found = (&counts["events"], &counts["deadLetters"], &counts["pending"]);
        assert_eq!(found, (&2.into(), &2.into(), &0.into()), "{counts}");
    }
    assert_eq!(receipt["answers"], 4, "{receipt}");
    check_erased(&world, PRIVATE).await;
    let dump = world.dump();
    assert!(dump.contains(OTHER) && dump.contains(ANSWER));
    // The answers of a user's webhooks are the user's.
    let receipt = erase(&world, &["--user", "anna"]).await;
    assert_eq!((&receipt["events"], &receipt["answers"]), (&0.into(), &2.into()), "{receipt}");
    check_erased(&world, ANSWER).await;
    assert!(world.dump().contains(OTHER));
    let delivery = &world.deliveries(&hook, "delivered", 3).await[0];
    let shown = world.json(&["deliveries", "show", delivery["id"].as_str().unwrap()]).await;
    let attempt = &shown["attemptLog"][0];
    let facts = (&attempt["status"], &attempt["responseBody"], &attempt["payloadRemoved"]);
    assert_eq!(facts, (&json!(200), &Value::Null, &json!("erased")), "{shown}");
}

/// Holds an event's row, as a long transaction does, until its session is ended.
const HOLD: &str = "begin; select from events where event_id = 'the last' for update;
                    select pg_sleep(600) /* held by a test */";

#[tokio::test(flavor = "multi_thread")]
async fn erasure_that_was_killed_is_finished_by_the_next_one() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let hook = world.webhook(&receiver.url("/hook")).await;
    let router = world.start("router").await;
    world.fanfare(&["webhooks", "pause", &hook]).await;
    let amqp = world.amqp().await;
    for number in 0..150 {
        let mut event = event_by("Carol", "tasks/t1");
        event["id"] = json!(if number == 149 { "the last".to_owned() } else { unique() });
        publish_on(&amqp, &event).await;
        if number >= 148 {
            let count = (number + 1).to_string();
            eventually("the events are routed", SOON, async || {
                let found = world.sql("select count(*) from events");
                if found == count { Ok(()) } else { Err(found) }
            })
            .await;
        }
    }
    drop(router);
    let with_payload = || world.sql("select count(*) from events where payload_removed is null");
    let holder = world.run_sql_beside(HOLD);
    let held = "select count(*) from pg_stat_activity where query like '%held by a test%'
                and pid <> pg_backend_pid() and wait_event = 'PgSleep'";
    eventually("the row is held", SOON, async || {
        if world.sql(held) == "1" { Ok(()) } else { Err("not yet") }
    })
    .await;
    let mut killed = world.spawn_with(&["erase", "--user", "carol", "--json"]);
    eventually("some events are erased", SOON, async || {
        let left = with_payload();
        if left.parse::<i32>().unwrap() < 150 { Ok(()) } else { Err(left) }
    })
    .await;
    killed.kill9();
    world.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where query like '%held by a test%' and pid <> pg_backend_pid()",
    );
    let _ = holder.join();
    assert_ne!(with_payload(), "0");

    let receipt = erase(&world, &["--user", "carol"]).await;
    assert!(receipt["events"].as_i64().unwrap() > 0, "{receipt}");
    check_erased(&world, PRIVATE).await;
    assert_eq!(world.sql("select count(*) from events"), "150");
    let trail = entries(&world, &["--account", "carol"]).await;
    assert_eq!(actions(&trail), ["erasure.begun", "erasure.begun", "erasure.done"]);
}

/// A settled event of a day that is 40 days ago, with its data, and a month of the audit trail.
const OLD: &str = "
    set role fanfare_migrate;
    select make_partition('events', 'received_at', day, day + interval '24 hours'),
           make_partition('attempts', 'received_at', day, day + interval '24 hours')
    from date_trunc('day', now() - interval '40 days', 'UTC') as day;
    insert into events (key, batch, position, source, event_id, event_type, subject, decided_revision,
                        notification, webhooks, received_at)
    select gen_random_uuid(), gen_random_uuid(), 0, '/tests', '1', 'tasks.execute', 'tasks/t1', 1,
           '{\"Name\":\"salary-of-carol-4711\"}', '{}', now() - interval '40 days';
    create table audit_2020_01 partition of audit
        for values from ('2020-01-01 00:00:00+00') to ('2020-02-01 00:00:00+00')";

#[tokio::test(flavor = "multi_thread")]
async fn router_removes_payloads_and_months_of_the_trail_that_are_too_old() {
    let world = World::new().await;
    world.sql(OLD);
    assert!(world.dump().contains(PRIVATE));
    let _router = world.start("router").await;
    let left = "select (select count(*) from events where payload_removed is null)
                       || ' ' || count(to_regclass('audit_2020_01'))";
    eventually("what is too old is removed", SOON, async || {
        let found = world.sql(left);
        if found == "0 0" { Ok(()) } else { Err(found) }
    })
    .await;
    check_erased(&world, PRIVATE).await;
    assert_eq!(world.sql("select payload_removed, subject from events"), "age|tasks/t1");
}
