//! Ten thousand random messages among valid ones.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use fanfare_testkit::amqp_raw::{
    LARGEST_PROPERTIES, RawAmqp, RawProperties, list, nested, table, text, value,
};
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::{DEAD, EVENTS, assert_no_session_ended, structured};
use crate::world::{SOON, World, event};

const MESSAGES: usize = 10_000;
/// The number of random messages between two valid events.
const GOOD_EVERY: usize = 500;

/// Reproducible random numbers from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// A short string: words, other alphabets, or bytes that are not UTF-8.
    fn short(&mut self) -> Vec<u8> {
        match self.below(12) {
            0 => self.bytes(255),
            1 => self.bytes(8),
            2 => "größer-✓".as_bytes().to_vec(),
            3 => vec![b'a'; 255],
            _ => format!("word-{}", self.below(100)).into_bytes(),
        }
    }

    /// A header's value of a type that RabbitMQ knows.
    fn value(&mut self, depth: usize) -> Vec<u8> {
        let most = if depth > 6 { 16 } else { 19 };
        match self.below(most) {
            0 => value(b't', &[1]),
            1 => value(b'b', &[0xff]),
            2 => value(b'B', &[0xff]),
            3 => value(b's', &self.next().to_be_bytes()[..2]),
            4 => value(b'u', &self.next().to_be_bytes()[..2]),
            5 => value(b'I', &self.next().to_be_bytes()[..4]),
            6 => value(b'i', &self.next().to_be_bytes()[..4]),
            7 => value(b'l', &self.next().to_be_bytes()),
            8 => value(b'T', &self.next().to_be_bytes()),
            9 => value(b'D', &self.next().to_be_bytes()[..5]),
            10 => value(b'V', &[]),
            // Finite numbers only: the broker supports no others.
            11 => value(b'f', &1.25e-3_f32.to_be_bytes()),
            12 => value(b'd', &(-1.5e300_f64).to_be_bytes()),
            13 => text(&self.bytes(30)),
            14 => value(b'x', &[&4_u32.to_be_bytes()[..], &[0, 0xff, 0xfe, 1]].concat()),
            15 => text(b"text"),
            16 => list(&(0..self.below(5)).map(|_| self.value(depth + 1)).collect::<Vec<_>>()),
            _ => table(&self.entries(5, depth + 1)),
        }
    }

    fn entries(&mut self, most: usize, depth: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        (0..self.below(most + 1)).map(|_| (self.short(), self.value(depth))).collect()
    }

    fn headers(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut headers = self.entries(6, 0);
        if self.chance(4) {
            let names = [
                "x-fanfare-reason",
                "x-fanfare-detail",
                "x-fanfare-held-since",
                "x-fanfare-routing-key",
                "x-fanfare-dead-letter-id",
                "x-fanfare-dead-at",
                "x-fanfare-webhook",
                "x-fanfare-event",
                "x-fanfare-envelope",
                "x-death",
                "x-first-death-reason",
                "x-delivery-count",
                "traceparent",
                "cloudEvents:id",
            ];
            for _ in 0..3 {
                let name = self.pick(&names).as_bytes().to_vec();
                headers.push((name, self.value(3)));
            }
        }
        if self.chance(20) {
            headers.push((b"CC".to_vec(), list(&[text(b"nowhere")])));
        }
        if self.chance(50) {
            headers.push((b"large".to_vec(), text(&vec![b'a'; self.below(125_000)])));
        }
        if self.chance(100) {
            let deep = nested(u32::try_from(self.below(15_000)).unwrap());
            headers.push((b"deep".to_vec(), deep));
        }
        headers
    }

    fn properties(&mut self) -> RawProperties {
        loop {
            let mut properties = match self.below(4) {
                0 | 1 => structured(),
                2 => RawProperties::default().text("content_type", &self.short()),
                _ => RawProperties::default(),
            };
            if self.chance(6) {
                properties = properties.text("content_encoding", &self.short());
            }
            if self.chance(2) {
                properties = properties.headers(&self.headers());
            }
            if self.chance(2) {
                properties = properties.delivery_mode(*self.pick(&[1, 2]));
            }
            if self.chance(5) {
                properties = properties.priority(self.next().to_le_bytes()[0]);
            }
            for name in ["correlation_id", "reply_to", "message_id"] {
                if self.chance(5) {
                    properties = properties.text(name, &self.short());
                }
            }
            if self.chance(5) {
                properties = properties.timestamp(self.next());
            }
            for name in ["type", "app_id"] {
                if self.chance(5) {
                    properties = properties.text(name, &self.short());
                }
            }
            if properties.size() <= LARGEST_PROPERTIES {
                return properties;
            }
        }
    }

    fn routing_key(&mut self) -> Vec<u8> {
        // No snapshot: a refused snapshot holds every event, as intended.
        let keys = ["reports.upload", "tasks.execute", "directory.user", "directory.role"];
        let keys = [&keys[..], &["directory.", "fanfare.deliveries", ""]].concat();
        if self.chance(3) { self.short() } else { self.pick(&keys).as_bytes().to_vec() }
    }

    /// A body that is invalid with any properties.
    fn body(&mut self) -> Vec<u8> {
        let mut near = event();
        match self.below(12) {
            0 => return self.bytes(2000),
            1 => return Vec::new(),
            2 => return b"[[[[[[[[[[".repeat(self.below(2000)),
            3 => return b"{\"id\":\"\\ud800\",\"type\":".to_vec(),
            4 => return vec![b' '; self.below(20_000)],
            5 => return b"\xef\xbb\xbf[]x".to_vec(),
            6 => near["specversion"] = json!("0.3"),
            7 => near["type"] = json!("directory.user"),
            8 => near["id"] = json!("x".repeat(1025 + self.below(50_000))),
            9 => near["subject"] = Value::Null,
            10 => near["data"] = json!({ "Action": self.below(10) }),
            _ => near["type"] = json!(format!("galaxies.{}", self.below(10))),
        }
        near.to_string().into_bytes()
    }
}

#[tokio::test]
async fn ten_thousand_random_messages_are_all_kept_and_stop_nothing() {
    let seed = std::env::var_os("HOSTILE_SEED").map_or_else(
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(),
        |seed| seed.to_str().unwrap().parse().unwrap(),
    );
    println!("HOSTILE_SEED={seed}");
    let mut random = Random(seed);
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let (router, worker) = (world.start("router").await, world.start("worker").await);
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    let began = Instant::now();
    let mut good = 0;
    for index in 0..MESSAGES {
        let (properties, body) = (random.properties(), random.body());
        let key = random.routing_key();
        // Some are published to a queue directly, through the default exchange.
        let straight: &[u8] =
            if random.chance(2) { b"fanfare.events" } else { b"fanfare.directory" };
        let (exchange, key) = if random.chance(10) { ("", straight) } else { (EVENTS, &key[..]) };
        raw.publish(exchange, key, &properties, &body).await.unwrap();
        if index % GOOD_EVERY == 0 {
            let event = event().to_string();
            raw.publish(EVENTS, b"tasks.execute", &structured(), event.as_bytes()).await.unwrap();
            raw.confirm().await.unwrap();
            good += 1;
            // Valid events behind the malformed ones arrive while those are processed.
            receiver.wait_for(good, SOON).await;
        }
    }
    raw.confirm().await.unwrap();
    println!("published after {:?}", began.elapsed());
    let amqp = world.amqp().await;
    eventually("both queues are empty", SOON, async || {
        let events = amqp.queue_len("fanfare.events").await.unwrap();
        let directory = amqp.queue_len("fanfare.directory").await.unwrap();
        if (events, directory) == (0, 0) { Ok(()) } else { Err((events, directory)) }
    })
    .await;
    let letters = eventually("every message is a dead letter", SOON, async || {
        let letters = amqp.queue_len(DEAD).await.unwrap() as usize;
        if letters >= MESSAGES { Ok(letters) } else { Err(letters) }
    })
    .await;
    println!("{letters} dead letters after {:?}", began.elapsed());
    assert_no_session_ended(&[&router, &worker]);
    assert_eq!(receiver.count(), good);
    tools_work(&world, letters).await;
    println!("done after {:?}", began.elapsed());
    assert_no_session_ended(&[&router, &worker]);
}

/// Checks that `list`, `show`, `replay` and `discard` reach every letter.
async fn tools_work(world: &World, letters: usize) {
    let listed = world.json(&["dead-letters", "list"]).await;
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), letters);
    let mut by_reason: HashMap<&str, Vec<&Value>> = HashMap::new();
    for letter in listed {
        by_reason.entry(letter["reason"].as_str().unwrap()).or_default().push(letter);
    }
    let counts: HashMap<_, _> =
        by_reason.iter().map(|(reason, found)| (reason, found.len())).collect();
    println!("{counts:?}");
    assert!(by_reason["unreadable"].len() > MESSAGES / 10);
    for reason in ["unreadable", "too-large"] {
        let found = &by_reason[reason];
        let id = found[found.len() / 2]["id"].as_str().unwrap();
        let shown = world.json(&["dead-letters", "show", id]).await;
        assert_eq!(shown["reason"], json!(reason));
    }
    let all = |done: &str| format!("{done} {letters}\n");
    let replay = ["dead-letters", "replay", "--all"];
    let dry_run = [&replay[..], &["--dry-run"]].concat();
    assert_eq!(world.fanfare(&dry_run).await, all("would replay"));
    // Each replayed message is refused again, once: letters that return during a replay are not
    // replayed again.
    assert_eq!(world.fanfare(&replay).await, all("replayed"));
    all_are_letters(world, letters).await;
    assert_eq!(world.fanfare(&["dead-letters", "discard", "--all"]).await, all("discarded"));
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

/// Waits until the routers' queues are empty and there are this many dead letters.
async fn all_are_letters(world: &World, letters: usize) {
    let amqp = world.amqp().await;
    eventually("every message is a dead letter again", SOON, async || {
        let mut found = Vec::new();
        for queue in ["fanfare.events", "fanfare.directory", DEAD] {
            found.push(amqp.queue_len(queue).await.unwrap() as usize);
        }
        if found == [0, 0, letters] { Ok(()) } else { Err(found) }
    })
    .await;
}
