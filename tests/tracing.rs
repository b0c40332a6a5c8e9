//! The trace of an event continues through router and worker to the receiver, and their spans go to
//! a collector.

use std::collections::HashMap;

use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event, unique};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PUBLISHER: &str = "b7ad6b7169203331";

/// The number of events for each faulty answer of a collector.
const EVENTS: usize = 5;

fn traceparent() -> String {
    format!("00-{TRACE}-{PUBLISHER}-01")
}

/// Publishes with the header that a traced publisher adds.
async fn publish(world: &World, kind: &str, body: &Value) {
    let (amqp, traceparent) = (world.amqp().await, traceparent());
    let headers = [("traceparent", traceparent.as_str())];
    let body = body.to_string();
    amqp.publish("reportserver.events", "tasks.execute", kind, &headers, body.as_bytes())
        .await
        .unwrap();
}

/// A collected span, with the name of its service.
#[derive(Debug, Clone)]
struct Collected {
    service: String,
    span: Value,
}

impl Collected {
    fn text(&self, name: &str) -> &str {
        self.span[name].as_str().unwrap()
    }

    fn attributes(&self) -> HashMap<&str, &str> {
        attributes(&self.span["attributes"])
    }
}

fn attributes(list: &Value) -> HashMap<&str, &str> {
    let mut found = HashMap::new();
    for it in list.as_array().unwrap() {
        let value = &it["value"];
        let text = value["stringValue"].as_str().or_else(|| value["intValue"].as_str());
        found.insert(it["key"].as_str().unwrap(), text.unwrap());
    }
    found
}

fn collected(collector: &Receiver) -> Vec<Collected> {
    let mut all = Vec::new();
    for request in collector.requests() {
        assert_eq!(request.path, "/v1/traces");
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        for resource in body["resourceSpans"].as_array().unwrap() {
            let service =
                attributes(&resource["resource"]["attributes"])["service.name"].to_owned();
            for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
                all.push(Collected { service: service.clone(), span: span.clone() });
            }
        }
    }
    all
}

/// Waits until the collector's spans fulfil `fits`, and returns them.
async fn until_collected(
    collector: &Receiver,
    what: &str,
    fits: impl Fn(&[Collected]) -> bool,
) -> Vec<Collected> {
    eventually(&format!("{what} is collected"), SOON, async || {
        let all = collected(collector);
        if fits(&all) { Ok(all) } else { Err(all) }
    })
    .await
}

fn named<'a>(all: &'a [Collected], name: &str) -> Vec<&'a Collected> {
    all.iter().filter(|it| it.text("name") == name).collect()
}

fn only<'a>(all: &'a [Collected], name: &str) -> &'a Collected {
    let [one] = named(all, name)[..] else { panic!("not one {name}: {all:#?}") };
    one
}

fn sent(request: &Request) -> (String, String) {
    let traceparent = request.header("traceparent").unwrap();
    let parts: Vec<&str> = traceparent.split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned())
}

#[tokio::test]
async fn trace_continues_from_the_publisher_to_the_receiver() {
    let (collector, receiver) = (Receiver::start().await, Receiver::start().await);
    receiver.answer_with(|_, n| Reply::status(if n == 0 { 500 } else { 204 }));
    let world = World::new().await.with("FANFARE_OTLP_ENDPOINT", &collector.url("/"));
    let webhook = world.webhook(&receiver.url("/")).await;
    let (_router, mut worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, "application/cloudevents+json", &event()).await;
    let requests = receiver.wait_for(2, SOON).await;
    // A process exports its remaining spans when it stops.
    worker.terminate();
    assert!(worker.wait_exit(SOON).await.success());

    let all = until_collected(&collector, "each attempt with its parents", |all| {
        let count = |name| named(all, name).len();
        [count("POST"), count("deliver"), count("route tasks.execute")] == [2, 2, 1]
    })
    .await;
    let routed = only(&all, "route tasks.execute");
    assert_eq!((routed.service.as_str(), &routed.span["kind"]), ("fanfare-router", &json!(5)));
    assert_eq!((routed.text("traceId"), routed.text("parentSpanId")), (TRACE, PUBLISHER));
    let (delivered, attempts) = (named(&all, "deliver"), named(&all, "POST"));
    assert_eq!(delivered.len(), 2);
    for (number, request) in requests.iter().enumerate() {
        let (trace, span) = sent(request);
        let attempt = attempts.iter().find(|it| it.text("spanId") == span).unwrap();
        assert_eq!((trace.as_str(), attempt.text("traceId")), (TRACE, TRACE));
        assert_eq!(
            (attempt.service.as_str(), &attempt.span["kind"]),
            ("fanfare-worker", &json!(3))
        );
        let parent = attempt.text("parentSpanId");
        let delivery = delivered.iter().find(|it| it.text("spanId") == parent).unwrap();
        assert_eq!(delivery.text("parentSpanId"), routed.text("spanId"));
        let attributes = attempt.attributes();
        assert_eq!(attributes["fanfare.webhook.id"], webhook);
        assert_eq!(attributes["fanfare.attempt"], (number + 1).to_string());
        let (status, code) = if number == 0 { ("500", 2) } else { ("204", 0) };
        assert_eq!(attributes["http.response.status_code"], status);
        assert_eq!(attributes.contains_key("error.type"), number == 0);
        assert_eq!(attempt.span["status"]["code"].as_i64().unwrap_or_default(), code);
        let times = ["startTimeUnixNano", "endTimeUnixNano"]
            .map(|name| attempt.text(name).parse::<u128>().unwrap());
        assert!(times[0] < times[1], "{times:?}");
    }
}

#[tokio::test]
async fn trace_has_its_statements_and_publishes() {
    let (collector, receiver) = (Receiver::start().await, Receiver::start().await);
    let world = World::new().await.with("FANFARE_OTLP_ENDPOINT", &collector.url("/"));
    world.webhook(&receiver.url("/")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, "application/cloudevents+json", &event()).await;
    let expected = [
        ("route", "fanfare-router", "route tasks.execute", 3),
        ("publish fanfare.deliveries", "fanfare-router", "route tasks.execute", 4),
        ("attempts_record", "fanfare-worker", "deliver", 3),
    ];
    let all = until_collected(&collector, "each span and its parent", |all| {
        let is_there = |name| !named(all, name).is_empty();
        expected.iter().all(|(name, _, parent, _)| is_there(name) && is_there(parent))
    })
    .await;
    for (name, service, parent, kind) in expected {
        let (span, parent) = (only(&all, name), only(&all, parent));
        assert_eq!((span.service.as_str(), &span.span["kind"]), (service, &json!(kind)), "{name}");
        assert_eq!(span.text("traceId"), TRACE, "{name}");
        assert_eq!(span.text("parentSpanId"), parent.text("spanId"), "{name}");
    }
    let statement = only(&all, "route").attributes();
    assert_eq!(statement["db.system.name"], "postgresql");
    assert_eq!(statement["db.query.summary"], "route");
    let published = only(&all, "publish fanfare.deliveries").attributes();
    assert_eq!(published["messaging.destination.name"], "fanfare.deliveries");
    assert_eq!(published["messaging.batch.message_count"], "1");
    // Periodic statements have no traces of their own.
    assert!(all.iter().all(|it| it.text("traceId") == TRACE), "{all:#?}");
}

#[tokio::test]
async fn events_of_a_batch_link_to_the_trace_of_their_delivery() {
    let (collector, receiver) = (Receiver::start().await, Receiver::start().await);
    let world = World::new().await.with("FANFARE_OTLP_ENDPOINT", &collector.url("/"));
    world.webhook(&receiver.url("/")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let own = "00-11111111111111111111111111111111-2222222222222222-01";
    let (first, mut second) = (event(), event());
    second["traceparent"] = json!(own);
    publish(&world, "application/cloudevents-batch+json", &json!([first, second])).await;
    receiver.wait_for(1, SOON).await;
    let all = until_collected(&collector, "both events and the attempt", |all| {
        named(all, "route tasks.execute").len() == 2 && named(all, "POST").len() == 1
    })
    .await;
    let of = |trace: &str| all.iter().find(|it| it.text("traceId") == trace).unwrap();
    let link = &of("11111111111111111111111111111111").span["links"][0];
    assert_eq!(link["traceId"], TRACE);
    assert!(all.iter().any(|it| it.span["spanId"] == link["spanId"]), "{all:?}");
}

#[tokio::test]
async fn deliveries_continue_without_a_collector() {
    let receiver = Receiver::start().await;
    let world = World::new().await;
    world.webhook(&receiver.url("/")).await;
    let (router, mut worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, "application/cloudevents+json", &event()).await;
    let requests = receiver.wait_for(1, SOON).await;
    // The header is unchanged, since no process took part.
    assert_eq!(requests[0].header("traceparent"), Some(traceparent().as_str()));
    worker.terminate();
    worker.wait_exit(SOON).await;
    drop(router);

    let world = world.with("FANFARE_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let (router, _worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, "application/cloudevents+json", &event()).await;
    receiver.wait_for(2, SOON).await;
    router.wait_for_line("spans can't be sent for now", SOON).await;
}

#[tokio::test]
async fn sampler_that_is_off_exports_nothing_and_propagates_traces() {
    let (collector, receiver) = (Receiver::start().await, Receiver::start().await);
    let world = World::new().await.with("FANFARE_OTLP_ENDPOINT", &collector.url("/"));
    let world = world.with("OTEL_TRACES_SAMPLER", "always_off");
    world.webhook(&receiver.url("/")).await;
    let (mut router, mut worker) = (world.start("router").await, world.start("worker").await);
    publish(&world, "application/cloudevents+json", &event()).await;
    let requests = receiver.wait_for(1, SOON).await;
    assert_eq!(requests[0].header("traceparent"), Some(traceparent().as_str()));
    // A trace that begins here is marked as not sampled.
    world.publish(&event()).await;
    let begun = receiver.wait_for(2, SOON).await[1].header("traceparent").unwrap().to_owned();
    assert!(begun.ends_with("-00"), "{begun}");
    for process in [&mut router, &mut worker] {
        process.terminate();
        assert!(process.wait_exit(SOON).await.success());
    }
    assert_eq!(collector.count(), 0);
}

#[tokio::test]
async fn unknown_sampler_is_refused_with_the_list_of_known_ones() {
    let world = World::new().await.with("OTEL_TRACES_SAMPLER", "sometimes");
    let output = world.run(&["config"], None).await;
    assert_eq!(output.status.code(), Some(2));
    let said = &output.stderr;
    assert!(said.contains("OTEL_TRACES_SAMPLER") && said.contains("traceidratio"), "{said}");
}

#[tokio::test]
async fn requests_to_the_collector_have_the_configured_headers() {
    let (collector, receiver) = (Receiver::start().await, Receiver::start().await);
    let world = World::new().await.with("FANFARE_OTLP_ENDPOINT", &collector.url("/"));
    let file = std::env::temp_dir().join(format!("fanfare-{}", unique()));
    std::fs::write(&file, "authorization=Bearer%20the-key,x-tenant=main\n").unwrap();
    let world = world.with("OTEL_EXPORTER_OTLP_HEADERS_FILE", file.to_str().unwrap());
    world.webhook(&receiver.url("/")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    let request = &collector.wait_for(1, SOON).await[0];
    assert_eq!(request.header("authorization"), Some("Bearer the-key"));
    assert_eq!(request.header("x-tenant"), Some("main"));
    assert!(!world.fanfare(&["config"]).await.contains("the-key"));
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn failing_collector_delays_neither_deliveries_nor_the_stop() {
    let (collector, receiver) = (Receiver::start().await, Receiver::start().await);
    let world = World::new().await.with("FANFARE_OTLP_ENDPOINT", &collector.url("/"));
    world.webhook(&receiver.url("/")).await;
    let (mut router, mut worker) = (world.start("router").await, world.start("worker").await);
    let answers = [
        Reply::status(500),
        Reply::status(429).with_header("retry-after", "3600"),
        Reply::Endless { status: 200 },
        Reply::Hang,
    ];
    for (round, answer) in answers.into_iter().enumerate() {
        collector.answer_with(move |_, _| answer.clone());
        let asked = collector.count();
        for _ in 0..EVENTS {
            world.publish(&event()).await;
        }
        receiver.wait_for((round + 1) * EVENTS, SOON).await;
        collector.wait_for(asked + 2, SOON).await;
    }
    // Both are waiting for the hanging collector, and still stop in time.
    for process in [&mut router, &mut worker] {
        process.terminate();
        assert!(process.wait_exit(SOON).await.success());
    }
}
