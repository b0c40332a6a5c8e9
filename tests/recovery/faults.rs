//! Every delivery arrives within a minute after the last of many faults.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::json;
use tokio::sync::Notify;

use crate::outages::{numbers, publish_steadily};
use crate::world::{SOON, World};

/// The time after the last fault in which every owed delivery must arrive.
const RECOVERED: Duration = Duration::from_mins(1);

/// The least number of jobs that the purge removes.
const JOBS: u32 = 50;

/// Waits until more deliveries arrive, which shows that the load continues.
async fn more_arrive(receiver: &Receiver) {
    let before = receiver.count();
    receiver.wait_for(before + 100, SOON).await;
}

/// Kills, lost connections and a purge under load, one after the other. Returns the time of the
/// last.
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
    // Jobs wait while no worker runs, and are purged.
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
async fn every_owed_delivery_arrives_within_a_minute_after_the_last_fault() {
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
