//! Several delivery queues: jobs are spread over them, each delivery arrives once, and their number
//! can be raised and lowered under load.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fanfare_core::shard::ShardCount;
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;

use crate::world::{SOON, World, event};

const WEBHOOKS: usize = 24;

/// An installation with four delivery queues, in which each event goes to all webhooks.
struct Spread {
    world: World,
    receiver: Receiver,
    /// The number of webhooks whose jobs use each queue, by the queue's number.
    by_queue: BTreeMap<u8, usize>,
}

impl Spread {
    async fn new() -> Self {
        let world = World::new().await.with("FANFARE_DELIVERY_QUEUES", "4");
        let receiver = Receiver::start().await;
        world.directory_of_anna().await;
        let four = ShardCount::new(4).unwrap();
        let mut by_queue = BTreeMap::new();
        for number in 0..WEBHOOKS {
            let url = receiver.url(&format!("/{number}"));
            let id = world.webhook_of("anna", &url, &[]).await;
            *by_queue.entry(four.of(id.parse().unwrap()).number()).or_default() += 1;
        }
        assert!(by_queue.len() > 1, "all webhooks go through one queue: {by_queue:?}");
        Self { world, receiver, by_queue }
    }

    /// Starts a process with another number of delivery queues.
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

    /// Waits until this many events have arrived at all webhooks, and checks that none arrived
    /// twice.
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
async fn jobs_are_spread_over_delivery_queues_and_arrive_once() {
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
async fn delivery_queues_can_be_added_and_removed_under_load() {
    let spread = Spread::new().await;
    let world = &spread.world;

    // Raise the number, workers first: they work with the existing queues.
    let router = spread.start_with("router", "1").await;
    let worker = spread.start_with("worker", "4").await;
    worker.wait_for_line("a delivery queue does not exist yet", SOON).await;
    world.publish(&event()).await;
    spread.arrived(1).await;
    stop(router).await;
    let router = spread.start_with("router", "4").await;
    world.publish(&event()).await;
    spread.arrived(2).await;

    // Lower it for workers too early: the jobs in the upper queues wait.
    stop(worker).await;
    world.publish(&event()).await;
    spread.jobs_wait_in(spread.by_queue.keys().copied()).await;
    stop(router).await;
    let router = spread.start_with("router", "1").await;
    let worker = spread.start_with("worker", "1").await;
    let upper: Vec<u8> = spread.by_queue.keys().copied().filter(|number| *number > 1).collect();
    spread.jobs_wait_in(upper.iter().copied()).await;
    let doctor = ["doctor", "--delivery-queues", "1"];
    let output = world.run(&doctor, None).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for number in &upper {
        let wrong =
            format!("WRONG  fanfare.deliveries.{number}: FANFARE_DELIVERY_QUEUES is 1 here");
        let advice = format!("run a worker with FANFARE_DELIVERY_QUEUES={number} or more");
        assert!(
            output.stdout.contains(&wrong) && output.stdout.contains(&advice),
            "{}",
            output.stdout
        );
    }

    // The reconciler does not count them as lost.
    world.sql("update events set look_at = now()");
    router.wait_for_line("until workers have emptied it, no job counts as lost", SOON).await;
    let _upper_worker = spread.start_with("worker", "4").await;
    spread.arrived(3).await;
    spread.jobs_wait_in([]).await;
    let output = world.run(&doctor, None).await.success().unwrap();
    assert!(output.contains("give it to these workers too"), "{output}");
    world.publish(&event()).await;
    spread.arrived(4).await;
    stop(worker).await;
}
