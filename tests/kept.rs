//! Dead events and events that wait for their directory revision, when the broker has lost its data:
//! the ledger has them.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare_failpoints::Step;
use fanfare_testkit::amqp::{Amqp, Message};
use fanfare_testkit::amqp_raw::{RawAmqp, RawProperties, list, nested, table, text, value};
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event, publish_on};

const DEAD: &str = "fanfare.events.dead";

/// Long enough for the lease of a router that died to end.
const LATER: Duration = Duration::from_mins(4);

/// The steps at which routers end here.
pub(crate) const STEPS: [Step; 3] =
    [Step::RouterRecordsKept, Step::RouterNotesLostQueue, Step::RouterRestoresLetters];

/// An installation on servers of its own, whose broker can be wiped.
struct Site {
    servers: Servers,
    world: World,
}

impl Site {
    async fn new() -> Self {
        let servers = Servers::start(&std::env::temp_dir()).unwrap();
        servers.create_database("fanfare").unwrap();
        servers.create_vhost("fanfare").unwrap();
        let urls = (servers.database_url("fanfare"), servers.amqp_url("fanfare"));
        let world = World::on(&urls.0, &urls.1).await.with("FANFARE_DIRECTORY_HOLD", "10m");
        Self { servers, world }
    }

    fn wipe_broker(&self) {
        tokio::task::block_in_place(|| self.servers.wipe_broker()).unwrap();
    }

    fn sql(&self, statement: &str) -> String {
        tokio::task::block_in_place(|| self.servers.sql("fanfare", statement)).unwrap()
    }

    /// Waits until a statement returns this.
    async fn sql_is(&self, statement: &str, expected: &str) {
        eventually(&format!("{statement}: {expected}"), LATER, async || {
            let found = self.sql(statement);
            if found.trim() == expected { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// A router that ends at a step.
    async fn router_that_ends_at(&self, step: Step) {
        let envs = [("FAILPOINTS", &*format!("{}=return", step.name()))];
        let mut router = self.world.spawn_with_envs("router", &envs);
        router.wait_exit(SOON).await;
    }
}

/// Waits until the queue of dead events has this many letters.
async fn letters(world: &World, count: u32) {
    eventually(&format!("{count} dead letters"), SOON, async || {
        match world.amqp().await.queue_len(DEAD).await {
            Ok(found) if found == count => Ok(()),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
}

/// The reasons of the dead letters by their ids.
async fn listed(world: &World) -> BTreeMap<String, String> {
    let list = world.json(&["dead-letters", "list", "--queue", "events"]).await;
    let text = |letter: &Value, name: &str| letter[name].as_str().unwrap().to_owned();
    let list = list.as_array().unwrap();
    list.iter().map(|letter| (text(letter, "id"), text(letter, "reason"))).collect()
}

fn held_event(revision: i64) -> Value {
    let mut held = event();
    held["accessrevision"] = json!(revision);
    held
}

fn directory(revision: i64) -> Value {
    let users = json!([{ "name": "anna", "roles": ["System Administrator"] }]);
    json!({ "accessrevision": revision, "users": users, "roles": [] })
}

async fn publish_body(amqp: &Amqp, body: &str) {
    let content_type = "application/cloudevents+json";
    let sent = amqp.publish("reportserver.events", "a.b", content_type, &[], body.as_bytes());
    sent.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wiped_broker_gets_its_dead_and_held_events_back() {
    let site = Site::new().await;
    let world = &site.world;
    let receiver = Receiver::start().await;
    world.directory(&directory(10)).await;
    let webhook = world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let router = world.start("router").await;
    let worker = world.start("worker").await;
    let amqp = world.amqp().await;
    let mut unknown = event();
    unknown["type"] = json!("galaxies.create");
    for body in ["{ oops Password=hidden;x", &unknown.to_string(), "[7]"] {
        publish_body(&amqp, body).await;
    }
    publish_body(&amqp, r#"{"type":"directory.user","accessrevision":11,"data":[]}"#).await;
    let held = held_event(20);
    publish_on(&amqp, &held).await;
    letters(world, 4).await;
    site.sql_is("select count(*) from kept_messages where kind = 'held'", "1").await;
    let before = listed(world).await;
    drop((router, worker, amqp));

    site.wipe_broker();
    let _processes = [world.start("worker").await, world.start("router").await];
    letters(world, 4).await;
    assert_eq!(listed(world).await, before);
    // A letter is shown from the ledger, and what the ledger keeps is masked.
    let (malformed, _) = before.iter().find(|(_, reason)| *reason == "not-json").unwrap();
    let shown = world.json(&["dead-letters", "show", malformed]).await;
    assert_eq!(shown["body"], "{ oops Password=***;x");
    assert_eq!(shown["routingKey"], "a.b");
    // The event that waited is routed once when its revision comes.
    site.sql_is("select returns from kept_messages where kind = 'held'", "1").await;
    world.directory(&directory(20)).await;
    world.deliveries(&webhook, "delivered", 1).await;
    site.sql_is("select settled_as from kept_messages where kind = 'held'", "routed").await;
    assert_eq!(receiver.count(), 1);
    // What was put back can be replayed and discarded.
    world.fanfare(&["dead-letters", "discard", "--reason", "not-json"]).await;
    site.sql_is("select settled_as from kept_messages where reason = 'not-json'", "discarded")
        .await;
    site.sql_is("select count(*) from lost_queues", "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_come_back_although_routers_die_at_each_step() {
    let site = Site::new().await;
    let world = &site.world;
    world.directory(&directory(10)).await;
    let router = world.start("router").await;
    drop(router);
    // A router dies between the row of a letter and its message: the letter gets that row's id.
    let amqp = world.amqp().await;
    publish_body(&amqp, "oops").await;
    site.router_that_ends_at(Step::RouterRecordsKept).await;
    assert_eq!(site.sql("select count(*) from kept_messages").trim(), "1");
    let router = world.start("router").await;
    letters(world, 1).await;
    let before = listed(world).await;
    let id = site.sql("select replace(id::text, '-', '') from kept_messages");
    assert_eq!(before.keys().collect::<Vec<_>>(), [id.trim()]);
    drop((router, amqp));

    site.wipe_broker();
    site.router_that_ends_at(Step::RouterNotesLostQueue).await;
    site.router_that_ends_at(Step::RouterNotesLostQueue).await;
    site.router_that_ends_at(Step::RouterRestoresLetters).await;
    letters(world, 1).await;
    let _router = world.start("router").await;
    site.sql_is("select count(*) from lost_queues", "0").await;
    letters(world, 1).await;
    assert_eq!(listed(world).await, before);
}

#[tokio::test]
async fn queue_that_a_person_empties_stays_empty_until_its_letters_are_restored() {
    let world = World::new().await;
    world.directory_of_anna().await;
    let router = world.start("router").await;
    let amqp = world.amqp().await;
    publish_body(&amqp, "oops").await;
    letters(&world, 1).await;
    let before = listed(&world).await;
    amqp.drain(DEAD).await.unwrap();
    drop(router);
    let _router = world.start("router").await;
    let age = "update kept_messages set recorded_at = now() - interval '2 minutes'";
    world.sql(age);
    assert_eq!(world.fanfare(&["dead-letters", "restore", "--dry-run"]).await, "would restore 1\n");
    letters(&world, 0).await;
    assert_eq!(world.fanfare(&["dead-letters", "restore"]).await, "restored 1\n");
    letters(&world, 1).await;
    assert_eq!(world.fanfare(&["dead-letters", "restore"]).await, "restored 0\n");
    assert_eq!(listed(&world).await, before);
    let id = before.keys().next().unwrap();
    world.fanfare(&["dead-letters", "discard", id]).await;
    assert_eq!(world.fanfare(&["dead-letters", "restore"]).await, "restored 0\n");
}

/// Headers of every type that AMQP has.
fn headers_of_every_type() -> Vec<(Vec<u8>, Vec<u8>)> {
    let values = [
        value(b'V', b""),
        value(b't', &[1]),
        value(b'b', &[0x80]),
        value(b'B', &[0xff]),
        value(b's', &[0x80, 0]),
        value(b'u', &[0xff, 0xff]),
        value(b'I', &[0x80, 0, 0, 0]),
        value(b'i', &[0xff; 4]),
        value(b'l', &[0x80, 0, 0, 0, 0, 0, 0, 0]),
        value(b'f', &[0x7f, 0x7f, 0xff, 0xff]),
        value(b'd', &[0x7f, 0xef, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        value(b'D', &[7, 0xff, 0xff, 0xff, 0xff]),
        value(b'T', &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]),
        value(b'x', &[0, 0, 0, 2, 0xff, 0]),
        text(b"\xfe\x00"),
        nested(8),
    ];
    let numbered = values.iter().enumerate();
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> =
        numbered.map(|(number, it)| (format!("h{number}").into_bytes(), it.clone())).collect();
    headers.push((b"list".to_vec(), list(&values)));
    headers.push((b"table".to_vec(), table(&headers)));
    headers
}

#[tokio::test]
async fn letter_with_headers_of_every_type_is_restored_as_it_was() {
    let world = World::new().await;
    world.directory_of_anna().await;
    let _router = world.start("router").await;
    let properties = RawProperties::default()
        .text("content_type", b"text/plain")
        .headers(&headers_of_every_type())
        .delivery_mode(1)
        .priority(9)
        .text("correlation_id", b"c")
        .text("reply_to", b"r")
        .text("message_id", b"m")
        .timestamp(u64::MAX)
        .text("type", b"t")
        .text("app_id", b"a");
    let mut raw = RawAmqp::connect(&world.amqp_url).await.unwrap();
    raw.publish("reportserver.events", b"a.b", &properties, b"\xffoops\x00").await.unwrap();
    raw.confirm().await.unwrap();
    letters(&world, 1).await;
    let amqp = world.amqp().await;
    let take = async || amqp.drain(DEAD).await.unwrap().pop().unwrap();
    let before: Message = take().await;
    assert!(before.headers.inner().len() > 16, "{:?}", before.headers);
    world.sql("update kept_messages set recorded_at = now() - interval '2 minutes'");
    assert_eq!(world.fanfare(&["dead-letters", "restore"]).await, "restored 1\n");
    let after = take().await;
    assert_eq!(after.body, before.body);
    // Every property, the headers among them.
    assert_eq!(after.properties, before.properties);
}

#[tokio::test]
async fn letter_that_is_replayed_or_moved_by_hand_is_kept_until_it_is_routed() {
    let world = World::new().await.with("FANFARE_DIRECTORY_HOLD", "1s");
    let receiver = Receiver::start().await;
    world.directory(&directory(10)).await;
    let webhook = world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let mut router = world.start("router").await;
    let _worker = world.start("worker").await;
    for revision in [20, 20] {
        world.publish(&held_event(revision)).await;
    }
    letters(&world, 2).await;
    // It ends with all messages acknowledged.
    router.terminate();
    router.wait_exit(SOON).await;
    world.directory(&directory(20)).await;
    let amqp = world.amqp().await;
    let moved: Message = amqp.take(DEAD).await.unwrap().unwrap();
    world.fanfare(&["dead-letters", "replay", "--all"]).await;
    letters(&world, 0).await;
    let open = "select count(*) from kept_messages where settled_at is null and kind = 'dead'";
    assert_eq!(world.sql(open), "2");
    // Both are replayed, and lost before a router receives them; one is moved by hand, too.
    assert_eq!(amqp.drain("fanfare.events").await.unwrap().len(), 2);
    let names = ["x-fanfare-dead-letter-id", "x-fanfare-reason", "x-fanfare-routing-key"];
    let headers = names.map(|name| (name, moved.header(name).unwrap()));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, it)| (*name, &**it)).collect();
    let content_type = "application/cloudevents+json";
    amqp.publish("", "fanfare.events", content_type, &headers, &moved.body).await.unwrap();
    let _router = world.start("router").await;
    world.deliveries(&webhook, "delivered", 1).await;
    world.sql("update kept_messages set return_at = now() where return_at is not null");
    world.deliveries(&webhook, "delivered", 2).await;
    eventually("both rows are settled", SOON, async || {
        let rows = world.sql("select settled_as from kept_messages");
        if rows == "replayed\nreplayed" { Ok(()) } else { Err(rows) }
    })
    .await;
    assert_eq!(receiver.count(), 2);
}
