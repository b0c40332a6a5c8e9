//! Lost jobs are found within a minute and a half, also while other work goes on.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fanfare_testkit::pgproxy::{Fault, Marker, PgProxy};
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};
use url::Url;

use crate::world::{SOON, World, event, unique};

mod faults;

/// The time in which a lost job is found and its delivery made.
const FOUND: Duration = Duration::from_secs(90);

/// An installation, and the same one for processes that reach the database through a proxy.
async fn behind(sandbox: &Sandbox) -> (World, World, PgProxy) {
    let database = Url::parse(&sandbox.database_url).unwrap();
    let proxy = PgProxy::start(*database.socket_addrs(|| Some(5432)).unwrap().first().unwrap());
    let direct = World::on(&sandbox.database_url, &sandbox.amqp_url).await;
    let behind = World::on(&proxy.url(&sandbox.database_url), &sandbox.amqp_url).await;
    (direct, behind, proxy)
}

/// An event that only bob gets.
fn busy_event() -> Value {
    json!({
        "specversion": "1.0", "id": unique(), "source": "/tests", "type": "alerts.execute",
        "subject": "alerts/a1", "data": { "Id": "a1" }
    })
}

/// Registers a webhook of anna for tasks, and four of bob for alerts.
async fn webhooks(world: &World, anna: &Receiver, bob: &Receiver) -> String {
    let role = json!([{ "access": ["read"], "scope": "any-task" },
                      { "access": ["read"], "scope": "any-alert" }]);
    world
        .directory(&json!({
            "users": [{ "name": "anna", "permissions": role }, { "name": "bob", "permissions": role }],
            "roles": []
        }))
        .await;
    for path in ["/1", "/2", "/3", "/4"] {
        world.webhook_of("bob", &bob.url(path), &["--filter", "alerts"]).await;
    }
    world.webhook_of("anna", &anna.url("/anna"), &["--filter", "tasks"]).await
}

/// Publishes an event for bob in each interval, for ever.
async fn keep_busy(world: &World, every: Duration) {
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        world.publish(&busy_event()).await;
    }
}

fn distinct(receiver: &Receiver) -> usize {
    let ids = receiver.requests();
    let ids: HashSet<&str> = ids.iter().map(|it| it.header("webhook-id").unwrap()).collect();
    ids.len()
}

/// Waits until `count` deliveries have arrived, each once; returns the time.
async fn arrive(receiver: &Receiver, count: usize, within: Duration) -> Duration {
    let since = Instant::now();
    eventually(&format!("{count} deliveries"), within, async || {
        let came = distinct(receiver);
        if came == count { Ok(()) } else { Err(came) }
    })
    .await;
    assert_eq!(receiver.count(), count, "there were duplicates without a kill");
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn event_is_delivered_at_once_when_the_answer_to_its_routing_is_lost() {
    let sandbox = Sandbox::new().await;
    let (world, behind, proxy) = behind(&sandbox).await;
    let world = world.with("FANFARE_PREFETCH", "8").with("FANFARE_CONCURRENCY", "8");
    let (anna, bob) = (Receiver::start().await, Receiver::start().await);
    bob.answer_with(|_, _| Reply::status(200).after(Duration::from_secs(4)));
    webhooks(&world, &anna, &bob).await;
    let (_router, _worker) = (behind.start("router").await, world.start("worker").await);

    // While the installation is idle.
    let lost = proxy.inject(Marker::statement("route"), Fault::LoseAnswer);
    world.publish(&event()).await;
    let took = arrive(&anna, 1, SOON).await;
    assert_eq!(lost.hits(), 1);
    println!("idle: {took:?}");
    assert!(took < Duration::from_secs(15), "it took {took:?}");

    // While the worker is busy with other deliveries.
    let busy = keep_busy(&world, Duration::from_secs(1));
    let lost = async {
        eventually("the worker is busy", SOON, async || bob.count() >= 8).await;
        proxy.inject_times(Marker::statement("route"), 0, 3, Fault::LoseAnswer);
        for number in 2..=4 {
            world.publish(&event()).await;
            let took = arrive(&anna, number, SOON).await;
            println!("busy: {took:?}");
            assert!(took < Duration::from_secs(30), "it took {took:?}");
        }
    };
    tokio::select! {
        () = busy => {}
        () = lost => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_purged_queue_are_delivered_while_other_queues_are_busy() {
    const EVENTS: usize = 20;
    // The worker has few jobs at a time, and each waits for its record. So no delivery is deferred,
    // and jobs wait in the queue.
    let sandbox = Sandbox::new().await;
    let (world, behind, proxy) = behind(&sandbox).await;
    let behind = behind.with("FANFARE_PREFETCH", "2");
    proxy.inject_always(
        Marker::statement("attempts_record"),
        Fault::Delay(Duration::from_millis(500)),
    );
    let (anna, bob) = (Receiver::start().await, Receiver::start().await);
    let webhook = webhooks(&world, &anna, &bob).await;
    let _router = world.start("router").await;
    for _ in 0..EVENTS {
        world.publish(&event()).await;
    }
    let in_ledger = format!("select count(*) from events where '{webhook}' = any(webhooks)");
    eventually("all events are in the ledger", SOON, async || {
        sandbox.sql(&in_ledger).unwrap().trim() == EVENTS.to_string()
    })
    .await;
    world.amqp().await.drain("fanfare.deliveries").await.unwrap();
    let amqp = world.amqp().await;
    let found = async {
        // More events than the worker can deliver, so that its queue is never empty.
        let len = async || amqp.queue_len("fanfare.deliveries").await.unwrap();
        eventually("jobs wait", SOON, async || len().await > 10).await;
        let _worker = behind.start("worker").await;
        let took = arrive(&anna, EVENTS, FOUND).await;
        println!("after the purge: {took:?}; {} jobs wait", len().await);
        assert!(len().await > 0, "the worker was idle in between");
    };
    tokio::select! {
        () = keep_busy(&world, Duration::from_millis(100)) => {}
        () = found => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciler_publishes_lost_jobs_when_its_answer_is_lost() {
    const EVENTS: usize = 9;
    let sandbox = Sandbox::new().await;
    let (world, behind, proxy) = behind(&sandbox).await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let _router = behind.start("router").await;
    for _ in 0..EVENTS {
        world.publish(&event()).await;
    }
    eventually("all events are in the ledger", SOON, async || {
        sandbox.sql("select count(*) from events").unwrap().trim() == EVENTS.to_string()
    })
    .await;
    world.amqp().await.drain("fanfare.deliveries").await.unwrap();
    let first = sandbox.sql("select min(look_at) from events").unwrap();
    let lost = proxy.inject_times(Marker::commit_of("reconcile"), 0, 2, Fault::LoseAnswer);
    let _worker = world.start("worker").await;
    let took = arrive(&receiver, EVENTS, FOUND).await;
    println!("after {} lost answers: {took:?}", lost.hits());
    assert_eq!(lost.hits(), 2);
    assert_ne!(sandbox.sql("select min(look_at) from events").unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn event_that_fails_in_the_database_delays_no_other() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    world.sql(
        "create function take_long() returns trigger language plpgsql as $$
         begin
             if new.event_id = 'slow' then perform pg_sleep(5); end if;
             return new;
         end $$;
         create trigger take_long before insert on events
             for each row execute function take_long();
         do $$ begin
             execute format('alter role fanfare_router in database %I set statement_timeout = 1000',
                            current_database());
         end $$",
    );
    let (router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut slow = event();
    slow["id"] = json!("slow");
    world.publish(&slow).await;
    for _ in 0..20 {
        world.publish(&event()).await;
    }
    receiver.wait_for(20, SOON).await;
    router.wait_for_line("failed to plan an event; it is set aside and tried again", SOON).await;
    world.publish(&event()).await;
    receiver.wait_for(21, SOON).await;
    let held = world.sql("select count(*) from events where event_id = 'slow'");
    assert_eq!(held, "0");
    // It is delivered when the database accepts it.
    world.sql("drop trigger take_long on events");
    receiver.wait_for(22, FOUND).await;
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn document_that_fails_in_the_database_delays_no_other() {
    let world = World::new().await;
    world.sql(
        "create function take_long() returns trigger language plpgsql as $$
         begin
             if new.name_key = 'SLOW' or new.name_key = 'slow' then perform pg_sleep(5); end if;
             return new;
         end $$;
         create trigger take_long before insert on directory_versions
             for each row execute function take_long();
         do $$ begin
             execute format('alter role fanfare_router in database %I set statement_timeout = 1000',
                            current_database());
         end $$",
    );
    let router = world.start("router").await;
    for (revision, name) in [(1, "slow"), (2, "quick")] {
        world
            .publish(&json!({
                "specversion": "1.0", "id": unique(), "source": "/tests", "type": "directory.user",
                "accessrevision": revision, "data": { "name": name, "permissions": [] }
            }))
            .await;
    }
    let applied = |name: &str| {
        world.sql(&format!("select count(*) from directory_versions where name_key ilike '{name}'"))
    };
    eventually("the other document is applied", SOON, async || applied("quick") == "1").await;
    router.wait_for_line("failed to apply a directory document; it is set aside", SOON).await;
    assert_eq!(applied("slow"), "0");
    world.sql("drop trigger take_long on directory_versions");
    eventually("the document is applied", FOUND, async || applied("slow") == "1").await;
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn event_with_the_identity_of_another_is_logged_as_a_warning() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (router, _worker) = (world.start("router").await, world.start("worker").await);
    let first = event();
    world.publish(&first).await;
    world.deliveries(&webhook, "delivered", 1).await;
    // An identical event causes no warning.
    world.publish(&first).await;
    let mut other = first;
    other["data"]["Name"] = json!("Another name");
    world.publish(&other).await;
    router.wait_for_line("has the source and id of an earlier one and other content", SOON).await;
    let warned = router.lines().iter().filter(|line| line.contains("other content")).count();
    assert_eq!((warned, receiver.count()), (1, 1));
}
