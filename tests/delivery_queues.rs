//! More than one delivery queue: jobs are spread, everything arrives once, and the number can be
//! raised and lowered while events come.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fanfare_core::share::Shares;
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::json;

use crate::world::{SOON, World, event};

const WEBHOOKS: usize = 24;

/// An installation with four delivery queues, in which each event goes to all webhooks.
struct Spread {
    world: World,
    receiver: Receiver,
    /// How many webhooks go through each queue, by its number.
    by_queue: BTreeMap<u8, usize>,
}

impl Spread {
    async fn new() -> Self {
        let world = World::new().await.with("FANFARE_DELIVERY_QUEUES", "4");
        let receiver = Receiver::start().await;
        world
            .directory(&json!({
                "users": [{ "name": "anna", "roles": ["System Administrator"] }], "roles": []
            }))
            .await;
        let four = Shares::new(4).unwrap();
        let mut by_queue = BTreeMap::new();
        for number in 0..WEBHOOKS {
            let url = receiver.url(&format!("/{number}"));
            let id = world.webhook_of("anna", &url, &[]).await;
            *by_queue.entry(four.of(id.parse().unwrap()).number()).or_default() += 1;
        }
        assert!(by_queue.len() > 1, "all webhooks go through one queue: {by_queue:?}");
        Self { world, receiver, by_queue }
    }

    /// Starts a process that has another number.
    async fn start_with(&self, role: &str, queues: &str) -> Process {
        let process = self.world.spawn_with(&[role, "--delivery-queues", queues]);
        process.wait_for_line("connected to the broker", SOON).await;
        process
    }

    /// Waits until jobs wait in exactly the queues with these numbers.
    async fn jobs_wait_in(&self, expected: impl IntoIterator<Item = u8>) {
        let expected: BTreeSet<u8> = expected.into_iter().collect();
        let amqp = self.world.amqp().await;
        eventually(&format!("jobs in {expected:?}"), SOON, async || {
            let mut filled = BTreeSet::new();
            for number in 1..=4 {
                let name = match number {
                    1 => "fanfare.deliveries".to_owned(),
                    number => format!("fanfare.deliveries.{number}"),
                };
                if amqp.queue_len(&name).await.unwrap() > 0 {
                    filled.insert(number);
                }
            }
            if filled == expected { Ok(()) } else { Err(filled) }
        })
        .await;
    }

    /// Waits until so many events have arrived at all webhooks, and nothing came twice.
    async fn arrived(&self, events: usize) {
        let all = events * WEBHOOKS;
        self.receiver.wait_for(all, SOON).await;
        eventually("all attempts are recorded", SOON, async || {
            let recorded =
                self.world.sql("select count(*) from attempts where state = 'delivered'");
            if recorded == all.to_string() { Ok(()) } else { Err(recorded) }
        })
        .await;
        let requests = self.receiver.requests();
        let ids: HashSet<&str> =
            requests.iter().map(|it| it.header("webhook-id").unwrap()).collect();
        assert_eq!((requests.len(), ids.len()), (all, all));
    }
}

async fn stop(mut process: Process) {
    process.terminate();
    assert!(process.wait_exit(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_spread_over_the_queues_and_everything_arrives_once() {
    const EVENTS: usize = 10;
    let spread = Spread::new().await;
    let _router = spread.world.start("router").await;
    for _ in 0..EVENTS {
        spread.world.publish(&event()).await;
    }
    spread.jobs_wait_in(spread.by_queue.keys().copied()).await;
    let _workers = [spread.world.start("worker").await, spread.world.start("worker").await];
    spread.arrived(EVENTS).await;
    spread.jobs_wait_in([]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_is_raised_and_lowered_while_events_come() {
    let spread = Spread::new().await;
    let world = &spread.world;

    // Raised: workers first, which do with what is there.
    let router = spread.start_with("router", "1").await;
    let worker = spread.start_with("worker", "4").await;
    worker.wait_for_line("a delivery queue does not exist yet", SOON).await;
    world.publish(&event()).await;
    spread.arrived(1).await;
    stop(router).await;
    let router = spread.start_with("router", "4").await;
    world.publish(&event()).await;
    spread.arrived(2).await;

    // Lowered, but workers too early: what is in the upper queues waits.
    stop(worker).await;
    world.publish(&event()).await;
    spread.jobs_wait_in(spread.by_queue.keys().copied()).await;
    stop(router).await;
    let router = spread.start_with("router", "1").await;
    let worker = spread.start_with("worker", "1").await;
    let upper: Vec<u8> = spread.by_queue.keys().copied().filter(|number| *number > 1).collect();
    spread.jobs_wait_in(upper.iter().copied()).await;
    let doctor = ["doctor", "--delivery-queues", "1"];
    let told = world.run(&doctor, None).await;
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    for number in &upper {
        let wrong =
            format!("WRONG  fanfare.deliveries.{number}: FANFARE_DELIVERY_QUEUES is 1 here");
        let advice = format!("run a worker with FANFARE_DELIVERY_QUEUES={number} or more");
        assert!(told.stdout.contains(&wrong) && told.stdout.contains(&advice), "{}", told.stdout);
    }

    // They are not lost, whenever the reconciler looks.
    world.sql("update events set look_at = now()");
    router.wait_for_line("until workers have emptied it, no job counts as lost", SOON).await;
    let _upper_worker = spread.start_with("worker", "4").await;
    spread.arrived(3).await;
    spread.jobs_wait_in([]).await;
    let told = world.run(&doctor, None).await.success().unwrap();
    assert!(told.contains("give it to these workers too"), "{told}");
    world.publish(&event()).await;
    spread.arrived(4).await;
    stop(worker).await;
}
