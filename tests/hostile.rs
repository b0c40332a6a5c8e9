//! Messages that no report server sends, but that RabbitMQ accepts from every publisher: each one
//! is kept, later messages are processed, and no session ends.

use std::time::{Duration, Instant};

use fanfare_testkit::amqp_raw::{RawAmqp, RawProperties, nested, text, value};
use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, dead_events, event};

mod large;
mod pace;
mod random;

const EVENTS: &str = "reportserver.events";
const DEAD: &str = "fanfare.events.dead";
const SESSION_ENDED: &str = "session with the broker ended";

/// Far less than the minutes that a loop of ended sessions takes, and far more than the delays of a
/// busy machine.
const PROMPTLY: Duration = Duration::from_secs(15);

fn structured() -> RawProperties {
    RawProperties::default().text("content_type", b"application/cloudevents+json")
}

fn header(name: &[u8], value: Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![(name.to_vec(), value)]
}

/// Publishes and waits for the confirm.
async fn publish(raw: &mut RawAmqp, key: &[u8], properties: &RawProperties, body: &str) {
    raw.publish(EVENTS, key, properties, body.as_bytes()).await.unwrap();
    raw.confirm().await.unwrap();
}

/// Checks that a valid event that is published now arrives soon.
async fn passes(world: &World, receiver: &Receiver, already: usize) {
    let published = Instant::now();
    world.publish(&event()).await;
    receiver.wait_for(already + 1, SOON).await;
    assert!(published.elapsed() < PROMPTLY, "it took {:?}", published.elapsed());
}

fn shown<T: ToString>(text: Option<&T>) -> Option<String> {
    text.map(ToString::to_string)
}

fn assert_no_session_ended(processes: &[&Process]) {
    for process in processes {
        let lines = process.lines();
        let ended: Vec<_> = lines.iter().filter(|line| line.contains(SESSION_ENDED)).collect();
        assert!(ended.is_empty(), "{ended:#?}");
    }
}

#[tokio::test]
async fn undecodable_message_is_kept_and_stops_no_other() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let (router, worker) = (world.start("router").await, world.start("worker").await);
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let deep = nested(16_000);
    let malformed = structured().headers(&header(b"large", text(&vec![b'a'; 31 * 1024])));
    let cases: Vec<(&[u8], RawProperties, &str, &str)> = vec![
        (b"tasks.execute", structured().text("message_id", b"\xff\xfe"), "", "unreadable"),
        (
            b"tasks.execute",
            structured().headers(&header(b"\xe9t\xe9", text(b"x"))),
            "",
            "unreadable",
        ),
        (b"tasks.\xe9xecute", structured(), "", "unreadable"),
        (b"tasks.execute", structured().headers(&header(b"deep", deep)), "", "unreadable"),
        // The queue of documents has it too. Each queue's consumer refuses it once.
        (b"tasks.execute", malformed, "{ no JSON", "not-json"),
    ];
    for (index, (key, properties, body, _)) in cases.iter().enumerate() {
        let own = event().to_string();
        let body = if body.is_empty() { &own } else { *body };
        publish(&mut raw, key, properties, body).await;
        passes(&world, &receiver, index).await;
    }
    let amqp = world.amqp().await;
    eventually("all of them are dead letters", SOON, async || {
        let found = amqp.queue_len(DEAD).await.unwrap() as usize;
        if found == cases.len() { Ok(()) } else { Err(found) }
    })
    .await;
    let listed = world.json(&["dead-letters", "list"]).await;
    let reasons: Vec<_> = listed.as_array().unwrap().iter().map(|it| &it["reason"]).collect();
    let expected: Vec<Value> = cases.iter().map(|(_, _, _, reason)| json!(reason)).collect();
    assert_eq!(reasons, expected.iter().collect::<Vec<_>>());
    let letters = dead_events(&amqp, cases.len()).await;
    assert!(letters[0].headers.inner().contains_key("x-fanfare-raw-properties"));
    assert!(letters[2].headers.inner().contains_key("x-fanfare-raw-routing-key"));
    assert_eq!(letters[4].header("large").map(|large| large.len()), Some(31 * 1024));
    for letter in &letters {
        let content_type = shown(letter.properties.content_type().as_ref());
        assert_eq!(content_type.as_deref(), Some("application/cloudevents+json"));
    }
    assert_no_session_ended(&[&router, &worker]);
}

#[tokio::test]
async fn event_with_headers_larger_than_a_frame_is_delivered() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let (router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let with = |size: usize| structured().headers(&header(b"x", text(&vec![b'a'; size])));
    for (index, size) in [40_000, 130_000].into_iter().enumerate() {
        publish(&mut raw, b"tasks.execute", &with(size), &event().to_string()).await;
        receiver.wait_for(index + 1, SOON).await;
    }
    // As a dead letter, this message has no room for Fanfare's headers.
    publish(&mut raw, b"tasks.execute", &with(130_900), "{").await;
    passes(&world, &receiver, 2).await;
    let letters = dead_events(&world.amqp().await, 1).await;
    assert_eq!(letters[0].header("x"), None);
    let detail = letters[0].header("x-fanfare-detail").unwrap();
    assert!(detail.ends_with("(left out, because they are too large: x)"), "{detail}");
    assert_no_session_ended(&[&router]);
}

#[tokio::test]
async fn overlong_attribute_is_refused_alone_and_in_a_batch() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (router, worker) = (world.start("router").await, world.start("worker").await);
    let long = |name: &str, size: usize| {
        let mut event = event();
        event[name] = json!("a".repeat(size));
        event
    };
    let amqp = world.amqp().await;
    let send = async |content_type, body: String| {
        let sent = amqp.publish(EVENTS, "tasks.execute", content_type, &[], body.as_bytes());
        sent.await.unwrap();
    };
    for name in ["id", "source", "type", "subject"] {
        send("application/cloudevents+json", long(name, 40_000).to_string()).await;
    }
    let batch = json!([long("id", 1025), event(), long("id", 1024)]);
    send("application/cloudevents-batch+json", batch.to_string()).await;
    world.deliveries(&webhook, "delivered", 1).await;
    let letters = dead_events(&amqp, 5).await;
    for letter in &letters {
        assert_eq!(letter.header("x-fanfare-reason").as_deref(), Some("too-large"));
        assert!(letter.header("x-fanfare-detail").unwrap().len() < 200);
    }
    // No log line has a publisher's text at full length.
    assert!(router.lines().iter().all(|line| line.len() < 4000));
    assert_no_session_ended(&[&router, &worker]);
}

#[tokio::test]
async fn refused_event_keeps_its_properties_through_a_replay() {
    let world = World::new().await;
    let _router = world.start("router").await;
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let copies = vec![
        (b"CC".to_vec(), fanfare_testkit::amqp_raw::list(&[text(b"elsewhere")])),
        (b"float".to_vec(), value(b'd', &1.5_f64.to_be_bytes())),
        (b"x-fanfare-reason".to_vec(), text(b"made-up")),
    ];
    let properties = RawProperties::default()
        .text("content_type", b"application/cloudevents+json")
        .text("content_encoding", b"gzip")
        .headers(&copies)
        .delivery_mode(1)
        .priority(7)
        .text("correlation_id", b"c")
        .text("reply_to", b"r")
        .text("message_id", b"m")
        .timestamp(1_795_000_000)
        .text("type", b"t")
        .text("app_id", b"a")
        .text("cluster_id", b"l");
    publish(&mut raw, b"tasks.execute", &properties, &event().to_string()).await;
    let amqp = world.amqp().await;
    let check = async || {
        eventually("it is a dead letter", SOON, async || {
            let list = world.json(&["dead-letters", "list"]).await;
            if list[0]["reason"] == json!("not-json") { Ok(()) } else { Err(list) }
        })
        .await;
    };
    check().await;
    assert_eq!(world.fanfare(&["dead-letters", "replay", "--all"]).await, "replayed 1\n");
    // The event is unchanged, so it becomes a dead letter again.
    check().await;
    let letter = dead_events(&amqp, 1).await.remove(0);
    let kept = &letter.properties;
    assert_eq!(shown(kept.content_encoding().as_ref()).as_deref(), Some("gzip"));
    assert_eq!(shown(kept.correlation_id().as_ref()).as_deref(), Some("c"));
    assert_eq!(shown(kept.reply_to().as_ref()).as_deref(), Some("r"));
    assert_eq!(shown(kept.message_id().as_ref()).as_deref(), Some("m"));
    assert_eq!(shown(kept.kind().as_ref()).as_deref(), Some("t"));
    assert_eq!(shown(kept.app_id().as_ref()).as_deref(), Some("a"));
    assert_eq!(shown(kept.cluster_id().as_ref()).as_deref(), Some("l"));
    assert_eq!(*kept.timestamp(), Some(1_795_000_000));
    assert_eq!((*kept.priority(), *kept.delivery_mode()), (Some(7), Some(1)));
    assert!(letter.headers.inner().contains_key("float"));
    assert!(letter.headers.inner().contains_key("x-fanfare-cc"));
    assert!(letter.header("x-fanfare-detail").unwrap().contains("gzip"));
}

#[tokio::test]
async fn replay_of_an_unreadable_letter_routes_its_readable_part() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let (router, worker) = (world.start("router").await, world.start("worker").await);
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let unreadable = structured().headers(&header(b"\xe9t\xe9", text(b"x")));
    publish(&mut raw, b"tasks.\xe9xecute", &unreadable, &event().to_string()).await;
    publish(&mut raw, b"tasks.execute", &structured().text("message_id", b"\xff"), "{").await;
    let reasons = async |expected: &[&str]| {
        eventually("all letters are in the queue", SOON, async || {
            let list = world.json(&["dead-letters", "list"]).await;
            let found: Vec<_> = list.as_array().unwrap().iter().map(|it| &it["reason"]).collect();
            if found == expected { Ok(()) } else { Err(list) }
        })
        .await;
    };
    reasons(&["unreadable", "unreadable"]).await;
    let replay = ["dead-letters", "replay", "--reason", "unreadable"];
    assert_eq!(world.fanfare(&replay).await, "replayed 2\n");
    // Without its unreadable part, one is a valid event. The other is not, and is a dead letter
    // again.
    receiver.wait_for(1, SOON).await;
    reasons(&["not-json"]).await;
    let letter = dead_events(&world.amqp().await, 1).await.remove(0);
    assert!(!letter.headers.inner().contains_key("x-fanfare-raw-properties"));
    assert_no_session_ended(&[&router, &worker]);
}

#[tokio::test]
async fn replayed_event_with_the_routing_key_of_a_document_is_refused_again() {
    let world = World::new().await;
    let _router = world.start("router").await;
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let mut unknown = event();
    unknown["type"] = json!("galaxies.explode");
    publish(&mut raw, b"directory.user", &structured(), &unknown.to_string()).await;
    let amqp = world.amqp().await;
    for _ in 0..2 {
        eventually("it is a dead letter", SOON, async || {
            let list = world.json(&["dead-letters", "list"]).await;
            if list[0]["reason"] == json!("unknown-filter") { Ok(()) } else { Err(list) }
        })
        .await;
        assert_eq!(world.fanfare(&["dead-letters", "replay", "--all"]).await, "replayed 1\n");
    }
    let letter = dead_events(&amqp, 1).await.remove(0);
    assert_eq!(letter.header("x-fanfare-routing-key").as_deref(), Some("directory.user"));
}

#[tokio::test]
async fn letter_moved_by_the_broker_has_its_original_kind() {
    let world = World::new().await;
    world.directory(&json!({ "users": [], "roles": [] })).await;
    let mut router = world.start("router").await;
    router.terminate();
    router.wait_exit(SOON).await;
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let expires = structured().text("expiration", b"50");
    publish(&mut raw, b"tasks.execute", &expires, &event().to_string()).await;
    eventually("the broker has moved it", SOON, async || {
        let list = world.json(&["dead-letters", "list"]).await;
        if list[0]["reason"] == json!("message-expired") { Ok(()) } else { Err(list) }
    })
    .await;
    // The replay is without the time to live, so the event is routed.
    assert_eq!(world.fanfare(&["dead-letters", "replay", "--all"]).await, "replayed 1\n");
    let _router = world.start("router").await;
    eventually("the event is stored", SOON, async || {
        let events = world.sql("select count(*) from events");
        if events == "1" { Ok(()) } else { Err(events) }
    })
    .await;
}

#[tokio::test]
async fn foreign_headers_do_not_hold_an_event_for_ever() {
    let world = World::new().await.with("FANFARE_DIRECTORY_HOLD", "2s");
    let router = world.start("router").await;
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let late = || {
        let mut late = event();
        late["accessrevision"] = json!(1_000_000);
        late.to_string()
    };
    for since in [i64::MAX, i64::MIN, -1] {
        let since = value(b'l', &since.to_be_bytes());
        let headers = vec![
            (b"x-fanfare-held-since".to_vec(), since),
            (b"x-fanfare-routing-key".to_vec(), text(b"directory.user")),
        ];
        publish(&mut raw, b"tasks.execute", &structured().headers(&headers), &late()).await;
    }
    let large = vec![
        (b"x-fanfare-held-since".to_vec(), text(b"garbage")),
        (b"large".to_vec(), text(&vec![b'a'; 130_800])),
    ];
    publish(&mut raw, b"tasks.execute", &structured().headers(&large), &late()).await;
    let letters = dead_events(&world.amqp().await, 4).await;
    let mut reasons: Vec<_> =
        letters.iter().map(|letter| letter.header("x-fanfare-reason").unwrap()).collect();
    reasons.sort();
    let behind = "directory-behind";
    assert_eq!(reasons, [behind, behind, behind, "too-large"]);
    assert!(letters.iter().all(|letter| {
        letter.header("x-fanfare-routing-key").as_deref() == Some("tasks.execute")
    }));
    assert_no_session_ended(&[&router]);
}
