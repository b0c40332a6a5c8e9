//! Processes that are killed under load: no delivery is lost, and a duplicate has the same `Id`.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event, publish_on};

/// Long enough for the reconciler, which inspects deliveries that are a minute old.
const LATER: Duration = Duration::from_mins(4);

/// Publishes events with these numbers, by which a missing one can be named.
pub(crate) async fn publish_numbered(world: &World, numbers: std::ops::Range<usize>) {
    let amqp = world.amqp().await;
    for number in numbers {
        let event = json!({
            "specversion": "1.0", "id": format!("{number}"), "source": "/tests",
            "type": "tasks.execute", "subject": "tasks/t1", "data": { "Number": number }
        });
        publish_on(&amqp, &event).await;
    }
}

/// For each path, the numbers that arrived, each with the Ids of its deliveries.
fn arrived(receiver: &Receiver) -> HashMap<String, HashMap<u64, Vec<String>>> {
    let mut arrived: HashMap<String, HashMap<u64, Vec<String>>> = HashMap::new();
    for request in receiver.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let number = body["Notifications"][0]["Number"].as_u64().unwrap();
        let id = body["Id"].as_str().unwrap().to_owned();
        arrived.entry(request.path).or_default().entry(number).or_default().push(id);
    }
    arrived
}

/// The number of POSTs of each delivery, by its Id.
fn counts(receiver: &Receiver) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for request in receiver.requests() {
        let id = request.header("webhook-id").unwrap().to_owned();
        *counts.entry(id).or_default() += 1;
    }
    counts
}

/// Waits until every webhook got every number; returns the number of duplicate POSTs.
pub(crate) async fn all_arrive(receiver: &Receiver, webhooks: usize, numbers: usize) -> usize {
    eventually("every event arrives at every webhook", LATER, async || {
        let arrived = arrived(receiver);
        let counts: Vec<usize> = arrived.values().map(HashMap::len).collect();
        let whole = counts.len() == webhooks && counts.iter().all(|count| *count == numbers);
        if whole { Ok(()) } else { Err(counts) }
    })
    .await;
    let arrived = arrived(receiver);
    let mut ids = HashSet::new();
    let mut posts = 0;
    for got in arrived.values().flat_map(HashMap::values) {
        assert!(got.iter().all(|id| *id == got[0]), "one delivery had two Ids: {got:?}");
        assert!(ids.insert(got[0].clone()), "two deliveries had one Id");
        posts += got.len();
    }
    posts - webhooks * numbers
}

pub(crate) async fn three_webhooks(world: &World, receiver: &Receiver) -> Vec<String> {
    let mut webhooks = Vec::new();
    for path in ["/a", "/b", "/c"] {
        webhooks.push(world.webhook(&receiver.url(path)).await);
    }
    webhooks
}

pub(crate) async fn no_delivery_is_open(world: &World) {
    for state in ["pending", "retrying", "dropped", "dead"] {
        eventually(&format!("no delivery {state}"), SOON, async || {
            let list = world.json(&["deliveries", "list", "--state", state, "--limit", "5"]).await;
            if list == json!([]) { Ok(()) } else { Err(list) }
        })
        .await;
    }
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_delivery_is_missing_after_kills_under_load() {
    const EVENTS: usize = 2_000;
    const KILLS: [usize; 6] = [200, 900, 1_700, 2_600, 3_600, 4_600];
    let world = World::new().await.with("FANFARE_TIMEOUT", "2s").with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    three_webhooks(&world, &receiver).await;
    let mut router = world.start("router").await;
    let mut workers = [world.start("worker").await, world.start("worker").await];
    // POSTs that had arrived and were not yet in the ledger: those of a killed worker are repeated.
    let mut in_flight = HashSet::new();
    let kills = async {
        for (step, at) in KILLS.into_iter().enumerate() {
            eventually(&format!("{at} POSTs"), LATER, async || receiver.count() >= at).await;
            let (victim, role): (&mut Process, &str) = match step % 3 {
                0 => (&mut router, "router"),
                n => (&mut workers[n - 1], "worker"),
            };
            let recorded = world.attempted();
            victim.kill9();
            *victim = world.start(role).await;
            // Counted now, when all requests of the killed worker have been read.
            if role == "worker" {
                let came = counts(&receiver).into_keys();
                in_flight.extend(came.filter(|id| !recorded.contains(id)));
            }
        }
    };
    tokio::join!(publish_numbered(&world, 0..EVENTS), kills);
    all_arrive(&receiver, 3, EVENTS).await;
    no_delivery_is_open(&world).await;
    assert_eq!(world.attempted().len(), 3 * EVENTS);
    let duplicates = receiver.count() - 3 * EVENTS;
    println!("{duplicates} duplicates of {} deliveries; {} possible", 3 * EVENTS, in_flight.len());
    for (id, count) in counts(&receiver) {
        let allowed = if in_flight.contains(&id) { 1 + KILLS.len() } else { 1 };
        assert!(count <= allowed, "{id} came {count} times, and no killed worker had it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_worker_requeues_its_jobs() {
    const EVENTS: usize = 600;
    let world = World::new().await.with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    // A slow receiver, so that the worker has hundreds of POSTs in progress and jobs not yet begun.
    receiver.answer_with(|_, _| Reply::status(200).after(Duration::from_millis(700)));
    three_webhooks(&world, &receiver).await;
    let _router = world.start("router").await;
    publish_numbered(&world, 0..EVENTS).await;
    let mut stopped = world.start("worker").await;
    receiver.wait_for(100, SOON).await;
    let _other = world.start("worker").await;
    stopped.terminate();
    let status = stopped.wait_exit(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    assert!(receiver.count() < 3 * EVENTS, "the worker had no jobs to requeue");
    assert_eq!(all_arrive(&receiver, 3, EVENTS).await, 0);
    no_delivery_is_open(&world).await;
}

#[tokio::test]
async fn wiped_broker_loses_no_delivery_of_the_ledger() {
    const EVENTS: usize = 100;
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    servers.create_vhost("fanfare").unwrap();
    let world = World::on(&servers.database_url("fanfare"), &servers.amqp_url("fanfare")).await;
    let world = world.with("FANFARE_TIMEOUT", "2s");
    let receiver = Receiver::start().await;
    three_webhooks(&world, &receiver).await;
    let _router = world.start("router").await;
    publish_numbered(&world, 0..EVENTS).await;
    eventually("all events are in the ledger", SOON, async || {
        let list = world.json(&["deliveries", "list", "--limit", "1000"]).await;
        list.as_array().unwrap().len() == 3 * EVENTS
    })
    .await;
    assert_eq!(receiver.count(), 0);
    servers.wipe_broker().unwrap();
    let _worker = world.start("worker").await;
    assert_eq!(all_arrive(&receiver, 3, EVENTS).await, 0);
    no_delivery_is_open(&world).await;
}

#[tokio::test]
async fn a_retry_whose_worker_was_killed_is_made_long_before_its_lease_expires() {
    // A lease of more than two minutes. The second attempt is the last one, so it keeps its job.
    let world =
        World::new().await.with("FANFARE_TIMEOUT", "2m").with("FANFARE_RETRY_ATTEMPTS", "2");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, before| {
        if before == 1 { Reply::status(200).after(LATER) } else { Reply::status(500) }
    });
    world.webhook(&receiver.url("/hook")).await;
    let (_router, mut first) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    receiver.wait_for(2, SOON).await;
    let _other = world.start("worker").await;
    first.kill9();
    receiver.wait_for(3, SOON).await;
    let attempt = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["Attempt"].clone();
    let attempts: Vec<Value> = receiver.requests().iter().map(|it| attempt(&it.body)).collect();
    assert_eq!(attempts[..3], [json!(1), json!(2), json!(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_soon_after_all_processes_were_killed_three_times() {
    const EVENTS: usize = 2_000;
    const WEBHOOKS: usize = 10;
    const KILLS: [usize; 3] = [4_000, 9_000, 14_000];
    let world = World::new().await.with("FANFARE_TIMEOUT", "15s").with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    for number in 0..WEBHOOKS {
        world.webhook(&receiver.url(&format!("/{number}"))).await;
    }
    let start_all = async || {
        let all = ["router", "worker", "worker"].map(|role| world.spawn(role));
        for process in &all {
            process.wait_for_line("connected to the broker", SOON).await;
        }
        all
    };
    let mut all = start_all().await;
    // POSTs that had arrived and were not yet in the ledger: these are repeated, and no others.
    let mut in_flight = HashSet::new();
    let kills = async {
        for at in KILLS {
            eventually(&format!("{at} POSTs"), LATER, async || receiver.count() >= at).await;
            let recorded = world.attempted();
            all.iter_mut().for_each(Process::kill9);
            all = start_all().await;
            in_flight.extend(counts(&receiver).into_keys().filter(|id| !recorded.contains(id)));
        }
        Instant::now()
    };
    let publish = async {
        publish_numbered(&world, 0..EVENTS).await;
        Instant::now()
    };
    let (published, restarted) = tokio::join!(publish, kills);
    let duplicates = all_arrive(&receiver, WEBHOOKS, EVENTS).await;
    let took = published.max(restarted).elapsed();
    println!(
        "{duplicates} duplicates of {}, {} possible; all arrived {took:?} after the last restart, or \
         after the last event was published; at most {} after they were received",
        WEBHOOKS * EVENTS,
        in_flight.len(),
        world.sql("select max(a.at - e.received_at) from attempts a join events e using (batch)"),
    );
    // Half a minute, before workers said what they have under way. On a quiet machine it takes 5 s.
    assert!(took < Duration::from_secs(20), "everything arrived after {took:?}");
    for (id, count) in counts(&receiver) {
        let allowed = if in_flight.contains(&id) { 1 + KILLS.len() } else { 1 };
        assert!(count <= allowed, "{id} came {count} times, and no killed worker had it");
    }
    no_delivery_is_open(&world).await;
}
