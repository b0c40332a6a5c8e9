//! The health and the metrics of processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use crate::api::client::{Answer, send};
use crate::world::{SOON, World, event};

/// A process whose health and metrics are read.
pub(crate) struct Watched {
    process: Process,
    address: SocketAddr,
}

impl Watched {
    /// Starts a process of a role, which may have to wait for a server.
    pub(crate) async fn spawn(world: &World, role: &str) -> Self {
        let process = world.spawn(role);
        let line = process.wait_for_line("/readyz on http://", SOON).await;
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Self { process, address }
    }

    /// Starts a process of a role and waits until it works.
    pub(crate) async fn start(world: &World, role: &str) -> Self {
        let watched = Self::spawn(world, role).await;
        watched.is_ready().await;
        watched
    }

    /// The same for a worker in shadow mode, which says so.
    pub(crate) async fn start_in_shadow(world: &World) -> Self {
        let watched = Self::spawn(world, "worker").await;
        watched.process.wait_for_line("shadow mode: nothing is sent to receivers", SOON).await;
        eventually("the process is ready", SOON, async || {
            let answer = watched.get("/readyz").await;
            let is_so = answer.body == "ready\nshadow mode: nothing is sent to receivers\n";
            if is_so { Ok(()) } else { Err(answer) }
        })
        .await;
        watched
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.address, "GET", path, &[], b"").await.unwrap()
    }

    pub(crate) async fn is_ready(&self) {
        eventually("the process is ready", SOON, async || {
            let answer = self.get("/readyz").await;
            if (answer.status, answer.body.as_str()) == (200, "ready\n") {
                Ok(())
            } else {
                Err(answer)
            }
        })
        .await;
    }

    /// Waits until the process is alive but not ready, for this reason only.
    pub(crate) async fn is_not_ready(&self, reason: &str) {
        eventually(&format!("the process is not ready: {reason}"), SOON, async || {
            let answer = self.get("/readyz").await;
            let lines: Vec<&str> = answer.body.lines().collect();
            let is_so = matches!(lines.as_slice(), [line] if line.contains(reason));
            if answer.status == 503 && is_so { Ok(()) } else { Err(answer) }
        })
        .await;
        assert_eq!(self.get("/healthz").await.status, 200);
    }

    async fn samples(&self) -> BTreeMap<String, f64> {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200);
        let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(answer.header("content-type"), Some(form));
        let text = answer.body.strip_suffix("# EOF\n").unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        lines.map(sample).collect()
    }

    /// The present value of a gauge or counter.
    pub(crate) async fn sample(&self, name: &str) -> f64 {
        self.samples().await[&format!("fanfare_{name}")]
    }

    /// Waits until the process exports all of these values.
    pub(crate) async fn exports(&self, expected: &[(&str, f64)]) {
        eventually("the metrics have these values", SOON, async || {
            let samples = self.samples().await;
            let of = |name: &str| samples.get(&format!("fanfare_{name}")).copied();
            let wrong: Vec<_> = expected
                .iter()
                .filter(|(name, value)| of(name) != Some(*value))
                .map(|(name, value)| (*name, of(name), *value))
                .collect();
            if wrong.is_empty() { Ok(()) } else { Err(wrong) }
        })
        .await;
    }
}

pub(crate) fn listening(world: World) -> World {
    world.with("FANFARE_METRICS_LISTEN", "127.0.0.1:0")
}

#[tokio::test(flavor = "multi_thread")]
async fn process_is_ready_while_it_can_work() {
    let (world, mut database) = World::new().await.with_database_proxy();
    let (world, mut broker) = world.with_broker_proxy();
    let world = listening(world).with("FANFARE_CONSOLE_LISTEN", "127.0.0.1:0");
    broker.cut().await;
    let mut all = Vec::new();
    for role in ["router", "worker", "console"] {
        all.push(Watched::spawn(&world, role).await);
    }
    let [router, worker, console] = all.as_slice() else { panic!("there are three") };
    for waiting in [router, worker] {
        waiting.is_not_ready("not connected to the broker").await;
        waiting.exports(&[("broker_up", 0.0), ("database_up", 1.0)]).await;
    }
    console.is_ready().await;
    broker.resume();
    for watched in &all {
        watched.is_ready().await;
    }
    database.cut().await;
    for watched in &all {
        watched.is_not_ready("failed to reach the database").await;
        watched.exports(&[("database_up", 0.0)]).await;
    }
    router.exports(&[("broker_up", 1.0)]).await;
    database.resume();
    for watched in &all {
        watched.is_ready().await;
    }
    database.freeze();
    for watched in &all {
        watched.is_not_ready("the database did not answer within 2s").await;
    }
    database.resume();
    for watched in &mut all {
        watched.is_ready().await;
        // Requests do not keep a process from stopping.
        watched.process.terminate();
        assert!(watched.process.wait_exit(SOON).await.success());
    }
}

#[tokio::test]
async fn unknown_path_lists_the_known_ones() {
    let world = listening(World::new().await);
    let router = Watched::start(&world, "router").await;
    let unknown = router.get("/").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("/metrics"), "{unknown:?}");
    let posted = send(router.address, "POST", "/metrics", &[], b"x").await.unwrap();
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn impossible_event_time_spoils_no_metric() {
    let world = listening(World::new().await);
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/good")).await;
    let router = Watched::start(&world, "router").await;
    let _worker = Watched::start(&world, "worker").await;
    let times = ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00", "9999-12-31T23:59:59Z"];
    for time in times {
        let mut event = event();
        event["time"] = json!(time);
        world.publish(&event).await;
    }
    let mut ahead = event();
    ahead["time"] = json!((chrono::Utc::now() + chrono::TimeDelta::hours(1)).to_rfc3339());
    world.publish(&ahead).await;
    world.deliveries(&webhook, "delivered", times.len() + 1).await;
    router
        .exports(&[
            ("event_wait_seconds_count", 1.0),
            ("event_wait_seconds_sum", 0.0),
            ("oldest_waiting_event_timestamp_seconds", 0.0),
        ])
        .await;
}

#[tokio::test]
async fn counters_match_the_requests_sent() {
    let world = listening(World::new().await);
    let receiver = Receiver::start().await;
    receiver
        .answer_with(|request, _| Reply::status(if request.path == "/bad" { 500 } else { 204 }));
    let good = world.webhook(&receiver.url("/good")).await;
    let bad = world.webhook_of("anna", &receiver.url("/bad"), &[]).await;
    let router = Watched::start(&world, "router").await;
    let worker = Watched::start(&world, "worker").await;
    let (mut timed, twice) = (event(), event());
    timed["time"] = json!("2026-01-01T00:00:00Z");
    for event in [&event(), &timed, &twice, &twice] {
        world.publish(event).await;
    }
    let mut unknown = event();
    unknown["type"] = json!("dashboards.edit");
    world.publish(&unknown).await;
    world
        .publish(&json!({
            "specversion": "1.0", "id": "d1", "source": "/tests", "type": "directory.user",
            "accessrevision": 1, "data": { "name": "bob" }
        }))
        .await;
    let amqp = world.amqp().await;
    for body in ["{", "[1"] {
        let kind = "application/cloudevents+json";
        amqp.publish("reportserver.events", "tasks.execute", kind, &[], body.as_bytes())
            .await
            .unwrap();
    }
    world.deliveries(&good, "delivered", 3).await;
    world.deliveries(&bad, "dead", 3).await;
    router
        .exports(&[
            ("events_received_total{filter=\"tasks\"}", 4.0),
            ("events_received_total{filter=\"reports\"}", 0.0),
            ("events_received_total{filter=\"directory\"}", 1.0),
            ("events_received_total{filter=\"unknown\"}", 3.0),
            ("events_known_total", 1.0),
            ("events_matched_total", 3.0),
            ("deliveries_planned_total", 6.0),
            ("event_wait_seconds_count", 1.0),
            ("oldest_waiting_event_timestamp_seconds", 0.0),
            ("events_rejected_total{reason=\"not-json\"}", 2.0),
            ("events_rejected_total{reason=\"unknown-filter\"}", 1.0),
            ("events_rejected_total{reason=\"bad-data\"}", 0.0),
            ("dead_letters_total{queue=\"fanfare.events.dead\",reason=\"not-json\"}", 2.0),
            // Gauges have the values of their last update.
            ("queue_ready{queue=\"fanfare.events.dead\"}", 3.0),
            ("queue_ready{queue=\"fanfare.deliveries.dead\"}", 3.0),
            ("queue_ready{queue=\"fanfare.events\"}", 0.0),
            ("retries_waiting{delay=\"1\"}", 0.0),
        ])
        .await;
    eventually("the oldest event has an age", SOON, async || {
        router.samples().await["fanfare_oldest_unsettled_event_age_seconds"] > 0.0
    })
    .await;
    worker
        .exports(&[
            ("attempts_total{outcome=\"delivered\",status=\"2xx\"}", 3.0),
            ("attempts_total{outcome=\"status\",status=\"5xx\"}", 12.0),
            ("attempts_total{outcome=\"connect\",status=\"none\"}", 0.0),
            ("attempt_duration_seconds_count", 15.0),
            ("delivery_latency_seconds_count", 3.0),
            ("retry_delay_seconds_count", 9.0),
            ("retry_delay_seconds_sum", 9.0),
            ("requests_in_flight", 0.0),
            ("deliveries_dropped_total{reason=\"webhook-paused\"}", 0.0),
            ("dead_letters_total{queue=\"fanfare.deliveries.dead\",reason=\"exhausted\"}", 3.0),
            ("ledger_batch_size_sum", 15.0),
            ("attempts_duplicate_total", 0.0),
        ])
        .await;
}

#[tokio::test]
async fn missing_directory_revision_is_reported() {
    let world = listening(World::new().await)
        .with("FANFARE_DIRECTORY_GAP_WAIT", "1s")
        .with("FANFARE_DIRECTORY_HOLD", "2s");
    world.directory(&json!({ "accessrevision": 10, "users": [], "roles": [] })).await;
    let router = Watched::start(&world, "router").await;
    router.exports(&[("directory_revision", 10.0), ("directory_gaps", 0.0)]).await;
    world
        .publish(&json!({
            "specversion": "1.0", "id": "d14", "source": "/tests", "type": "directory.user",
            "accessrevision": 14, "data": { "name": "bob" }
        }))
        .await;
    let mut ahead = event();
    ahead["accessrevision"] = json!(15);
    world.publish(&ahead).await;
    router
        .exports(&[
            ("directory_revision", 14.0),
            ("directory_gaps", 1.0),
            ("directory_revisions_missing", 3.0),
            ("events_held_total", 1.0),
            ("events_rejected_total{reason=\"directory-behind\"}", 1.0),
            ("events_waiting", 0.0),
        ])
        .await;
    world.directory(&json!({ "accessrevision": 20, "users": [], "roles": [] })).await;
    router
        .exports(&[
            ("directory_revision", 20.0),
            ("directory_gaps", 0.0),
            ("directory_revisions_missing", 0.0),
        ])
        .await;
}
