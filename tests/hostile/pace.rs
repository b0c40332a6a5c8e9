//! An event behind malformed messages arrives as fast as one behind valid messages.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanfare_testkit::amqp_raw::{RawAmqp, RawProperties, nested, text};
use fanfare_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::{EVENTS, assert_no_session_ended, header, structured};
use crate::world::{SOON, World, event};

/// The number of valid events that are measured, one after the other.
const EVENTS_MEASURED: usize = 40;

/// The additional time that an event behind malformed messages may take.
const A_SECOND: Duration = Duration::from_secs(1);

/// Routing key, properties and body of a malformed message.
type MalformedMessage = (&'static [u8], RawProperties, String);

/// One malformed message of each kind.
fn malformed_messages() -> Vec<MalformedMessage> {
    let key: &[u8] = b"tasks.execute";
    let large = text(&vec![b'a'; 100_000]);
    let with = |name: &[u8], value| structured().headers(&header(name, value));
    let mut long = event();
    long["id"] = json!("x".repeat(40_000));
    vec![
        (key, structured().text("message_id", b"\xff\xfe"), event().to_string()),
        (b"tasks.\xe9xecute", structured(), event().to_string()),
        (key, with(b"\xe9t\xe9", text(b"x")), event().to_string()),
        (key, with(b"deep", nested(2_000)), event().to_string()),
        (key, with(b"large", large), "{ no JSON".to_owned()),
        (key, structured().text("content_encoding", b"gzip"), event().to_string()),
        (b"directory.user", structured(), "[".repeat(5_000)),
        (key, structured(), long.to_string()),
        (key, structured(), " ".repeat(1_200_000)),
    ]
}

/// The times from publishing to arrival of valid events right behind these messages, the shortest
/// first.
async fn measure(
    receiver: &Receiver,
    raw: &mut RawAmqp,
    bad: &[MalformedMessage],
) -> Vec<Duration> {
    let mut published: HashMap<String, Instant> = HashMap::new();
    let before = receiver.count();
    for number in 0..EVENTS_MEASURED {
        for (key, properties, body) in bad {
            raw.publish(EVENTS, key, properties, body.as_bytes()).await.unwrap();
        }
        raw.confirm().await.unwrap();
        let mut good = event();
        good["data"]["Name"] = good["id"].clone();
        published.insert(good["id"].as_str().unwrap().to_owned(), Instant::now());
        let body = good.to_string();
        raw.publish(EVENTS, b"tasks.execute", &structured(), body.as_bytes()).await.unwrap();
        raw.confirm().await.unwrap();
        receiver.wait_for(before + number + 1, SOON).await;
    }
    let mut took = Vec::new();
    for request in receiver.requests().drain(before..) {
        let notified: Value = serde_json::from_slice(&request.body).unwrap();
        let id = notified["Notifications"][0]["Name"].as_str().unwrap();
        took.push(request.at - published[id]);
    }
    took.sort();
    took
}

#[tokio::test]
async fn valid_event_behind_malformed_ones_arrives_within_a_second() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let (router, worker) = (world.start("router").await, world.start("worker").await);
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let bad = malformed_messages();
    // Measured before and after, since other programs may use the machine.
    let alone = measure(&receiver, &mut raw, &[]).await;
    let behind = measure(&receiver, &mut raw, &bad).await;
    let again = measure(&receiver, &mut raw, &[]).await;
    let of = |took: &[Duration], percent: usize| took[took.len() * percent / 100];
    for (name, took) in [("alone", &alone), ("behind bad ones", &behind), ("alone again", &again)] {
        println!("{name}: median {:?}, p75 {:?}", of(took, 50), of(took, 75));
    }
    for percent in [50, 75] {
        let control = of(&alone, percent).max(of(&again, percent));
        let took = of(&behind, percent);
        assert!(
            took < control + A_SECOND,
            "p{percent}: {took:?}, and {control:?} without bad ones"
        );
    }
    assert_no_session_ended(&[&router, &worker]);
}
