//! Events in the forms in which publishers of other languages and libraries send them.

use fanfare_testkit::amqp::Message;
use fanfare_testkit::amqp_raw::{RawAmqp, RawProperties, text, value};
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, dead_events, event, unique};

const EVENTS: &str = "reportserver.events";

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// The attributes of an event in binary mode, as text headers.
fn attributes(prefix: &str, event: &Value) -> Headers {
    let attributes = event.as_object().unwrap().iter().filter(|(name, _)| *name != "data");
    let header = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("{prefix}{name}").into_bytes(), text(value.as_bytes()))
    };
    attributes.map(header).collect()
}

fn binary(headers: &Headers) -> RawProperties {
    RawProperties::default().text("content_type", b"application/json").headers(headers)
}

struct Publisher(RawAmqp);

impl Publisher {
    async fn of(world: &World) -> Self {
        Self(RawAmqp::connect(&world.amqp_url).await.unwrap())
    }

    async fn publish(&mut self, key: &str, properties: &RawProperties, body: &[u8]) {
        self.0.publish(EVENTS, key.as_bytes(), properties, body).await.unwrap();
        self.0.confirm().await.unwrap();
    }

    /// Publishes in structured mode.
    async fn structured(&mut self, content_type: &str, body: &[u8]) {
        let properties = RawProperties::default().text("content_type", content_type.as_bytes());
        self.publish("tasks.execute", &properties, body).await;
    }
}

/// Waits until there are `count` dead letters; returns them.
fn notification(body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["Notifications"].clone()
}

#[tokio::test]
async fn events_and_documents_in_binary_mode_are_accepted() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.directory(&json!({ "accessrevision": 1, "users": [], "roles": [] })).await;
    let webhook = world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut publisher = Publisher::of(&world).await;
    // The document is in binary mode too, and its revision is an AMQP number.
    let mut document = attributes("cloudEvents:", &json!({ "type": "directory.user" }));
    document.push((b"cloudEvents:accessrevision".to_vec(), value(b'l', &2_i64.to_be_bytes())));
    let user = json!({ "name": "anna", "roles": ["System Administrator"] }).to_string();
    publisher.publish("directory.user", &binary(&document), user.as_bytes()).await;
    let mut sent = Vec::new();
    for (prefix, revision) in
        [("cloudEvents:", text(b"2")), ("cloudEvents_", value(b'I', &[0, 0, 0, 2]))]
    {
        let event = event();
        let mut headers = attributes(prefix, &event);
        headers.push((format!("{prefix}accessrevision").into_bytes(), revision));
        headers.push((
            format!("{prefix}time").into_bytes(),
            value(b'T', &1_795_428_000_u64.to_be_bytes()),
        ));
        let body = format!("\u{feff}{}", event["data"]);
        publisher.publish("tasks.execute", &binary(&headers), body.as_bytes()).await;
        sent.push(event["id"].as_str().unwrap().to_owned());
    }
    world.deliveries(&webhook, "delivered", 2).await;
    let expected = json!([{
        "Action": "tasks", "UserAction": "execute", "Id": "t1", "Name": "Nightly orders"
    }]);
    for request in receiver.requests() {
        assert_eq!(notification(&request.body), expected);
    }
    let times = world.sql("select distinct occurred_at at time zone 'utc' from events");
    assert_eq!(times, "2026-11-23 10:00:00");
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
    // The revision counts in this mode too: an event beyond the directory waits and is kept.
    let late = event();
    let mut headers = attributes("cloudEvents:", &late);
    headers.push((b"cloudEvents:accessrevision".to_vec(), text(b"3")));
    publisher
        .publish("tasks.execute", &binary(&headers), late["data"].to_string().as_bytes())
        .await;
    let letter = eventually("the held event is a dead letter", 2 * SOON, async || {
        let list = world.json(&["dead-letters", "list"]).await;
        if list[0]["reason"] == json!("directory-behind") { Ok(list[0].clone()) } else { Err(list) }
    })
    .await;
    assert_eq!(letter["event"], late["id"]);
    // A replay keeps the headers, and so the attributes.
    let role = json!({
        "specversion": "1.0", "id": unique(), "source": "/tests", "type": "directory.role",
        "accessrevision": "3", "data": { "name": "r" }
    });
    world.publish(&role).await;
    assert_eq!(world.fanfare(&["dead-letters", "replay", "--all"]).await, "replayed 1\n");
    world.deliveries(&webhook, "delivered", 3).await;
    assert_eq!(sent.len(), 2);
}

#[tokio::test]
async fn equivalent_message_forms_are_accepted() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut publisher = Publisher::of(&world).await;
    let single = "application/cloudevents+json; charset=utf-8";
    let traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let mut expected = 0;
    for (name, text) in [
        ("accessrevision", "1.0"),
        ("accessrevision", "\"1\""),
        ("time", "\"2026-11-23T10:00:00\""),
        ("time", "\"yesterday\""),
        ("time", "\"0001-01-01T00:00:00\""),
        ("time", "\"9999-12-31T23:59:59Z\""),
        ("traceparent", "\"00-00000000000000000000000000000000-b7ad6b7169203331-00\""),
    ] {
        let mut event = event();
        event[name] = json!("@");
        let body = format!("\u{feff}{}", event.to_string().replace("\"@\"", text));
        let properties = RawProperties::default().text("content_type", single.as_bytes()).headers(
            &[(b"traceparent".to_vec(), fanfare_testkit::amqp_raw::text(traced.as_bytes()))],
        );
        publisher.publish("tasks.execute", &properties, body.as_bytes()).await;
        expected += 1;
    }
    let batch = format!("\u{feff}[{},{}]", event(), event());
    publisher.structured("application/cloudevents-batch+json", batch.as_bytes()).await;
    world.deliveries(&webhook, "delivered", expected + 1).await;
    let requests = receiver.requests();
    let carried = requests.iter().filter(|it| it.header("traceparent") == Some(traced)).count();
    assert_eq!(carried, expected);
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
    // A file with a byte order mark before each line is published line by line.
    let lines = format!("\u{feff}{}\n\u{feff}{}\n", event(), event());
    assert_eq!(world.fanfare_with(&["publish", "-"], Some(&lines)).await, "published 2 events\n");
    world.deliveries(&webhook, "delivered", expected + 3).await;
    // Lists for people can show times that no clock has.
    let times = world.json(&["events", "list"]).await;
    assert_eq!(times.as_array().unwrap().len(), expected + 4);
}

#[tokio::test]
async fn refused_message_has_a_remedy_in_its_reason() {
    let world = World::new().await;
    world.directory(&json!({ "users": [], "roles": [] })).await;
    let _router = world.start("router").await;
    let mut publisher = Publisher::of(&world).await;
    let (single, batch) = ("application/cloudevents+json", "application/cloudevents-batch+json");
    let with = |name: &str, value: Value| {
        let mut event = event();
        event[name] = value;
        event.to_string().into_bytes()
    };
    let base64 = {
        let mut event = event();
        event.as_object_mut().unwrap().remove("data");
        event["data_base64"] = json!("e30=");
        event.to_string().into_bytes()
    };
    let utf_16: Vec<u8> = event().to_string().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        (single, with("accessRevision", json!(7)), "not-cloudevents", "accessRevision"),
        (single, with("Type", json!("tasks.edit")), "not-cloudevents", "Type"),
        (single, with("dataContentType", json!("a/b")), "not-cloudevents", "dataContentType"),
        (single, with("accessrevision", json!(412.5)), "not-cloudevents", "accessrevision"),
        (single, base64, "bad-data", "data_base64"),
        (single, with("data", json!("{\"Id\":1}")), "bad-data", "a text that holds JSON"),
        (single, json!([event()]).to_string().into_bytes(), "not-cloudevents", batch),
        (batch, event().to_string().into_bytes(), "not-cloudevents", single),
        ("application/cloudevents+json; charset=utf-16", utf_16.clone(), "not-json", "utf-16"),
        (single, utf_16, "not-json", "UTF-16"),
    ];
    for (content_type, body, _, _) in &cases {
        publisher.structured(content_type, body).await;
    }
    let mut headers = attributes("cloudEvents:", &event());
    publisher.publish("tasks.execute", &binary(&headers), b"").await;
    headers.push((b"cloudEvents:accessRevision".to_vec(), text(b"7")));
    publisher.publish("tasks.execute", &binary(&headers), b"{}").await;
    let letters = dead_events(&world.amqp().await, cases.len() + 2).await;
    let said = |letter: &Message| {
        (letter.header("x-fanfare-reason").unwrap(), letter.header("x-fanfare-detail").unwrap())
    };
    // The router publishes dead letters concurrently, so their order varies.
    let find = |body: &[u8], words: &str| {
        let letter = letters.iter().find(|it| it.body == body && said(it).1.contains(words));
        letter.unwrap_or_else(|| panic!("no letter says {words:?}"))
    };
    for (_, body, reason, words) in &cases {
        let letter = find(body, words);
        assert_eq!(said(letter).0, *reason, "{words}");
    }
    let empty = find(b"", "data is missing");
    assert_eq!(said(empty).0, "bad-data");
    find(b"{}", "accessRevision");
    // The attributes are still in the headers.
    assert!(empty.headers.inner().contains_key("cloudEvents:subject"));
}

#[tokio::test]
async fn exchange_is_used_as_the_report_server_declared_it() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let amqp = world.amqp().await;
    world.may_not_configure_the_events_exchange();
    amqp.declare_exchange(EVENTS, &[("alternate-exchange", "amq.fanout")]).await.unwrap();
    let (router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    world.deliveries(&webhook, "delivered", 1).await;
    world.fanfare(&["doctor"]).await;
    assert!(!router.lines().iter().any(|line| line.contains("delete it")));
}
