//! Outages of the broker and the database: processes wait, none ends, and no delivery is lost.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::process::Process;
use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};
use url::Url;

use crate::world::{SOON, World, event};

/// The length of an outage.
const AWAY: Duration = Duration::from_secs(10);

/// Publishes numbered events, a few in each tick, until `stop` is notified. Unconfirmed events are
/// published again. Returns the number of events.
pub(crate) async fn publish_steadily(world: &World, stop: &tokio::sync::Notify) -> usize {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let mut amqp: Option<Amqp> = None;
    let mut number = 0;
    let stopped = stop.notified();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return number,
            _ = tick.tick() => {}
        }
        if amqp.is_none() {
            let connecting = Amqp::connect(&world.amqp_url);
            amqp = tokio::time::timeout(Duration::from_secs(2), connecting)
                .await
                .ok()
                .and_then(Result::ok);
        }
        let Some(connected) = &amqp else { continue };
        let body = event_numbered(number).to_string();
        let kind = "application/cloudevents+json";
        let sent =
            connected.publish("reportserver.events", "tasks.execute", kind, &[], body.as_bytes());
        match tokio::time::timeout(Duration::from_secs(2), sent).await {
            Ok(Ok(())) => number += 1,
            // It is unknown whether the broker stored it: it is published again, and delivered
            // once.
            _ => amqp = None,
        }
    }
}

/// An event whose id and data have a number.
pub(crate) fn event_numbered(number: usize) -> Value {
    json!({
        "specversion": "1.0", "id": format!("{number}"), "source": "/tests",
        "type": "tasks.execute", "subject": "tasks/t1", "data": { "Number": number }
    })
}

/// The numbers that arrived.
pub(crate) fn numbers(receiver: &Receiver) -> Vec<u64> {
    let number = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap();
        body["Notifications"][0]["Number"].as_u64().unwrap()
    };
    receiver.requests().iter().map(|request| number(&request.body)).collect()
}

/// Seconds of CPU that a process has used: fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms.
fn cpu_seconds(process: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) / 100
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_of_broker_and_database_under_load_lose_nothing() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    servers.create_vhost("fanfare").unwrap();
    let world = World::on(&servers.database_url("fanfare"), &servers.amqp_url("fanfare")).await;
    let world = world.with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let mut processes =
        [world.start("router").await, world.start("worker").await, world.start("worker").await];
    let stop = tokio::sync::Notify::new();
    let outages = async {
        for part in ["broker", "database"] {
            let before = receiver.count();
            eventually("the load flows", SOON, async || receiver.count() > before + 200).await;
            let (lines, cpu): (Vec<usize>, Vec<u64>) = processes
                .iter()
                .map(|process| (process.lines().len(), cpu_seconds(process)))
                .unzip();
            let switch = |on: bool| match (part, on) {
                ("broker", false) => servers.stop_broker(),
                ("broker", true) => servers.start_broker(),
                (_, false) => servers.stop_database(),
                (_, true) => servers.start_database(),
            };
            tokio::task::block_in_place(|| switch(false)).unwrap();
            let since = Instant::now();
            eventually("the outage has lasted long enough", SOON, async || since.elapsed() > AWAY)
                .await;
            for ((process, lines), cpu) in processes.iter_mut().zip(lines).zip(cpu) {
                assert!(process.is_running(), "a process ended during the outage of the {part}");
                let (said, used) = (process.lines().len() - lines, cpu_seconds(process) - cpu);
                println!("outage of the {part}: {said} lines, {used} s of CPU");
                assert!(said < 100, "{said} lines during the outage of the {part}");
                assert!(used < 3, "{used} s of CPU during the outage of the {part}");
            }
            tokio::task::block_in_place(|| switch(true)).unwrap();
        }
        let before = receiver.count();
        eventually("the load flows again", SOON, async || receiver.count() > before + 200).await;
        stop.notify_one();
    };
    let (published, ()) = tokio::join!(publish_steadily(&world, &stop), outages);
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

#[tokio::test(flavor = "multi_thread")]
async fn processes_start_in_any_order() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    servers.create_vhost("fanfare").unwrap();
    let world = World::on(&servers.database_url("fanfare"), &servers.amqp_url("fanfare")).await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    tokio::task::block_in_place(|| servers.stop_broker().and_then(|()| servers.stop_database()))
        .unwrap();
    let (router, worker) = (world.spawn("router"), world.spawn("worker"));
    for process in [&router, &worker] {
        process.wait_for_line("WARN", SOON).await;
    }
    tokio::task::block_in_place(|| servers.start_broker()).unwrap();
    for process in [&router, &worker] {
        process.wait_for_line("waiting for the database", SOON).await;
    }
    tokio::task::block_in_place(|| servers.start_database()).unwrap();
    world.publish(&event()).await;
    world.deliveries(&webhook, "delivered", 1).await;
}

/// The broker redelivers a cut-off worker's jobs to the other one while their POSTs are in
/// progress, for longer than the other one waits before it reads the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn worker_cut_off_from_the_broker_makes_no_duplicates() {
    const EVENTS: usize = 50;
    let sandbox = Sandbox::new().await;
    let broker = Url::parse(&sandbox.amqp_url).unwrap();
    let mut proxy = Proxy::start(*broker.socket_addrs(|| Some(5672)).unwrap().first().unwrap());
    let mut through_proxy = broker.clone();
    through_proxy.set_port(Some(proxy.addr().port())).unwrap();
    let world = World::on(&sandbox.database_url, broker.as_str()).await;
    let world = world.with("FANFARE_TIMEOUT", "10s");
    let cut_off = World::on(&sandbox.database_url, through_proxy.as_str()).await;
    let cut_off = cut_off.with("FANFARE_TIMEOUT", "10s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(200).after(Duration::from_secs(7)));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, mut first) = (world.start("router").await, cut_off.start("worker").await);
    for _ in 0..EVENTS {
        world.publish(&event()).await;
    }
    receiver.wait_for(EVENTS, SOON).await;
    let _second = world.start("worker").await;
    proxy.cut().await;
    first.wait_for_line("the connection to the broker was lost", SOON).await;
    world.deliveries(&webhook, "delivered", EVENTS).await;
    proxy.resume();
    // Work continues.
    world.publish(&event()).await;
    world.deliveries(&webhook, "delivered", EVENTS + 1).await;
    assert!(first.is_running());
    assert_eq!(receiver.count(), EVENTS + 1);
}
