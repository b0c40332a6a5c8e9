//! A broker of three nodes, of which one is missing for a while: nothing is lost, nothing arrives
//! twice, and deliveries go on within seconds.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::cluster::{Cluster, NODES};
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::outages::{event_numbered, numbers};
use crate::world::{SOON, World};

/// The longest time without a delivery that a fault of one node may cause.
const RESUMED: Duration = Duration::from_secs(15);

/// What the publisher waits for an answer before it goes to another node.
const ANSWER: Duration = Duration::from_secs(2);

/// Looks one after the other at which all nodes have to be up.
const WHOLE_LOOKS: usize = 50;

/// Deliveries after a fault that show that the load flows.
const FLOWING: usize = 100;

/// Publishes numbered events to any node, until `stop` is notified. An unconfirmed one is published
/// again. Returns their number.
async fn publish_to_any(nodes: &[String], stop: &Notify) -> usize {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut amqp: Option<Amqp> = None;
    let (mut number, mut node) = (0, 0);
    let stopped = stop.notified();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return number,
            _ = tick.tick() => {}
        }
        let Some(connected) = &amqp else {
            let connecting = Amqp::connect(&nodes[node % NODES]);
            amqp = timeout(ANSWER, connecting).await.ok().and_then(Result::ok);
            node += usize::from(amqp.is_none());
            continue;
        };
        let body = event_numbered(number).to_string();
        let kind = "application/cloudevents+json";
        let sent =
            connected.publish("reportserver.events", "tasks.execute", kind, &[], body.as_bytes());
        if let Ok(Ok(())) = timeout(ANSWER, sent).await {
            number += 1;
        } else {
            (amqp, node) = (None, node + 1);
        }
    }
}

/// Runs `fault` while the load flows; returns the longest time without a delivery until the load
/// has flowed again.
async fn silence_after(receiver: &Receiver, fault: impl FnOnce()) -> Duration {
    let flowing = receiver.count() + FLOWING;
    eventually("the load flows", SOON, async || receiver.count() > flowing).await;
    let began = Instant::now();
    tokio::task::block_in_place(fault);
    let again = receiver.count() + FLOWING;
    let (mut longest, mut last, mut known) = (Duration::ZERO, began, receiver.count());
    eventually("the load flows again", SOON, async || {
        let count = receiver.count();
        if std::mem::replace(&mut known, count) != count {
            last = Instant::now();
        }
        longest = longest.max(last.elapsed());
        count > again
    })
    .await;
    longest
}

/// The node of the leader of the delivery queue, by a node that has answered before.
fn leader(cluster: &Cluster<'_>, by: usize) -> usize {
    cluster.leader_of("fanfare", "fanfare.deliveries", by).unwrap()
}

/// Waits until all nodes are up, and stay so. A node that was alone works for a moment before it
/// finds that out and stops itself.
async fn is_whole(cluster: &Cluster<'_>) {
    let mut looks = 0;
    eventually("all nodes are up", 3 * SOON, async || {
        looks = if (0..NODES).all(|node| cluster.is_up(node)) { looks + 1 } else { 0 };
        looks >= WHOLE_LOOKS
    })
    .await;
}

/// Every fault of one node, one after the other.
async fn faults(cluster: &Cluster<'_>, receiver: &Receiver) {
    let mut measured: Vec<(&str, Duration)> = Vec::new();
    let mut note = |what: &'static str, silence: Duration| {
        println!("{what}: longest time without a delivery {silence:?}");
        measured.push((what, silence));
    };

    let victim = (leader(cluster, 0) + 1) % NODES;
    note("a node killed", silence_after(receiver, || cluster.kill(victim).unwrap()).await);
    tokio::task::block_in_place(|| cluster.start_node(victim)).unwrap();
    is_whole(cluster).await;

    let victim = leader(cluster, 0);
    note("the leader killed", silence_after(receiver, || cluster.kill(victim).unwrap()).await);
    tokio::task::block_in_place(|| cluster.start_node(victim)).unwrap();
    is_whole(cluster).await;

    let victim = leader(cluster, 0);
    note("the leader cut off", silence_after(receiver, || cluster.cut_off(victim).unwrap()).await);
    cluster.join_again(victim).unwrap();
    is_whole(cluster).await;

    let victim = leader(cluster, 0);
    note(
        "the leader suspended",
        silence_after(receiver, || cluster.suspend(victim).unwrap()).await,
    );
    // It may come back without noticing that it was away, and then the cluster stays partitioned.
    cluster.kill(victim).unwrap();
    tokio::task::block_in_place(|| cluster.start_node(victim)).unwrap();
    is_whole(cluster).await;

    for node in 0..NODES {
        note("a node stopped", silence_after(receiver, || cluster.stop(node).unwrap()).await);
        tokio::task::block_in_place(|| cluster.start_node(node)).unwrap();
        is_whole(cluster).await;
    }
    for (what, silence) in measured {
        assert!(silence < RESUMED, "{what}: no delivery for {silence:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_one_node_of_a_cluster_lose_nothing_and_deliveries_resume_within_15_seconds() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    let cluster = tokio::task::block_in_place(|| servers.start_cluster()).unwrap();
    servers.create_vhost("fanfare").unwrap();
    let world = World::on(&servers.database_url("fanfare"), &cluster.amqp_url("fanfare")).await;
    let world = world.with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let mut processes = Vec::new();
    for role in ["router", "router", "worker", "worker"] {
        let process = world.spawn(role);
        // The first one makes some thirty queues, for each of which three nodes elect a leader.
        process.wait_for_line("connected to the broker", 3 * SOON).await;
        processes.push(process);
    }
    let nodes: Vec<String> = (0..NODES).map(|node| cluster.node_url(node, "fanfare")).collect();
    let stop = Notify::new();
    let faulty = async {
        faults(&cluster, &receiver).await;
        stop.notify_one();
    };
    let (published, ()) = tokio::join!(publish_to_any(&nodes, &stop), faulty);
    eventually("everything arrives", 3 * SOON, async || {
        let distinct: HashSet<u64> = numbers(&receiver).into_iter().collect();
        if distinct.len() == published { Ok(()) } else { Err((distinct.len(), published)) }
    })
    .await;
    world.deliveries_settle(&webhook).await;
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
    assert_eq!(numbers(&receiver).len(), published, "there were duplicates without a kill");
    assert!(processes.iter_mut().all(Process::is_running));
}
