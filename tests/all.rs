//! `fanfare all`: router, worker and console work in one process as they do in three.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};

use crate::api::client::send;
use crate::crashes::{all_arrive, no_delivery_is_open, publish_numbered, three_webhooks};
use crate::metrics::{Watched, listening};
use crate::world::{SOON, World, event};

fn installation(world: World) -> World {
    listening(world).with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0")
}

/// Checks that the console answers and requires sign-in.
async fn console_answers(process: &Process) {
    let line = process.wait_for_line(" listening on http://", SOON).await;
    let address: SocketAddr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    let answer = send(address, "GET", "/api/webhooks/filters", &[], b"").await.unwrap();
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_routes_delivers_and_answers_with_the_metrics_of_all_roles() {
    let world = installation(World::new().await);
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let mut all = Watched::start(&world, "all").await;
    world.publish(&event()).await;
    world.deliveries(&webhook, "delivered", 1).await;
    console_answers(all.process()).await;
    all.exports(&[
        ("broker_up", 1.0),
        ("database_up", 1.0),
        ("events_received_total{filter=\"tasks\"}", 1.0),
        ("attempts_total{outcome=\"delivered\",status=\"2xx\"}", 1.0),
        ("dead_letters_total{queue=\"fanfare.events.dead\",reason=\"not-json\"}", 0.0),
        ("dead_letters_total{queue=\"fanfare.deliveries.dead\",reason=\"exhausted\"}", 0.0),
        ("queue_consumed{queue=\"fanfare.events\"}", 1.0),
        ("queue_consumed{queue=\"fanfare.deliveries\"}", 1.0),
    ])
    .await;
    let metrics = all.get("/metrics").await.body;
    let mut families = BTreeSet::new();
    for family in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        assert!(families.insert(family), "the metric {family} is exported twice");
    }
    let process = all.process();
    process.terminate();
    assert!(process.wait_exit(SOON).await.success());
    for role in ["router", "worker", "console"] {
        process.wait_for_line(&format!("the {role} has ended"), SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_process_requeues_jobs_and_the_next_one_delivers_them() {
    const EVENTS: usize = 300;
    let world = installation(World::new().await).with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    // A slow receiver, so that POSTs are in progress and jobs wait when the process is stopped.
    receiver.answer_with(|_, _| Reply::status(200).after(Duration::from_millis(700)));
    three_webhooks(&world, &receiver).await;
    let mut stopped = world.start("all").await;
    publish_numbered(&world, 0..EVENTS).await;
    receiver.wait_for(50, SOON).await;
    stopped.terminate();
    let status = stopped.wait_exit(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    assert!(receiver.count() < 3 * EVENTS, "the process had no jobs to requeue");
    let _next = world.start("all").await;
    assert_eq!(all_arrive(&receiver, 3, EVENTS).await, 0);
    no_delivery_is_open(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_process_loses_no_delivery() {
    const EVENTS: usize = 300;
    let world =
        installation(World::new().await).with("FANFARE_LOG", "info").with("FANFARE_TIMEOUT", "2s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(200).after(Duration::from_millis(100)));
    three_webhooks(&world, &receiver).await;
    let mut all = world.start("all").await;
    let kills = async {
        for posts in [100, 400] {
            receiver.wait_for(posts, SOON).await;
            all.kill9();
            all = world.start("all").await;
        }
    };
    tokio::join!(publish_numbered(&world, 0..EVENTS), kills);
    all_arrive(&receiver, 3, EVENTS).await;
    no_delivery_is_open(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_waits_for_the_broker_while_its_console_answers() {
    let (world, mut broker) = World::new().await.with_broker_proxy();
    let world = installation(world);
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    broker.cut().await;
    let mut all = Watched::spawn(&world, "all").await;
    all.is_not_ready("not connected to the broker").await;
    all.exports(&[("broker_up", 0.0), ("database_up", 1.0)]).await;
    console_answers(all.process()).await;
    broker.resume();
    all.is_ready().await;
    world.publish(&event()).await;
    world.deliveries(&webhook, "delivered", 1).await;
}
