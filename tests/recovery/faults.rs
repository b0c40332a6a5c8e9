//! After the last of many faults everything arrives within a minute.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::json;
use tokio::sync::Notify;

use crate::outages::{numbers, publish_steadily};
use crate::world::{SOON, World};

/// How long it may take after the last fault until everything owed has arrived.
const RECOVERED: Duration = Duration::from_mins(1);

/// Jobs that a purge takes away, at least.
const JOBS: u32 = 50;

/// The load goes on: more deliveries come.
async fn more_arrive(receiver: &Receiver) {
    let before = receiver.count();
    receiver.wait_for(before + 100, SOON).await;
}

/// Kills, cuts and a loss under load, one after the other. Returns when the last one was.
async fn faults(world: &World, receiver: &Receiver, processes: &mut [Process; 2]) -> Instant {
    for (index, role) in [(0, "router"), (1, "worker"), (1, "worker"), (0, "router")] {
        more_arrive(receiver).await;
        processes[index].kill9();
        processes[index] = world.start(role).await;
    }
    more_arrive(receiver).await;
    world.close_broker_connections();
    more_arrive(receiver).await;
    world.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    );
    more_arrive(receiver).await;
    // Jobs gather while there is no worker, and are lost.
    let amqp = world.amqp().await;
    processes[1].kill9();
    eventually("jobs wait", SOON, async || {
        let waiting = amqp.queue_len("fanfare.deliveries").await.unwrap();
        if waiting >= JOBS { Ok(()) } else { Err(waiting) }
    })
    .await;
    amqp.drain("fanfare.deliveries").await.unwrap();
    let last = Instant::now();
    processes[1] = world.start("worker").await;
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_owed_arrives_within_a_minute_after_the_last_fault() {
    let world = World::new().await.with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let mut processes = [world.start("router").await, world.start("worker").await];
    let stop = Notify::new();
    let faults = async {
        let last = faults(&world, &receiver, &mut processes).await;
        more_arrive(&receiver).await;
        stop.notify_one();
        last
    };
    let (published, last) = tokio::join!(publish_steadily(&world, &stop), faults);
    eventually("everything has arrived", 3 * RECOVERED, async || {
        let arrived: HashSet<u64> = numbers(&receiver).into_iter().collect();
        if arrived.len() >= published { Ok(()) } else { Err((arrived.len(), published)) }
    })
    .await;
    let took = last.elapsed();
    println!("{published} events; {took:?} after the last fault");
    assert!(took < RECOVERED, "it took {took:?}");
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}
