//! Changes of permissions within milliseconds of events: every decision is right.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use fanfare_core::directory::{Document, Kind};
use fanfare_core::history::Directory;
use fanfare_core::name::Name;
use fanfare_core::resource::Resource;
use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::world::{SOON, World, publish_on};

const ROUNDS: i64 = 5_000;
const OWNERS: [&str; 4] = ["anna", "ben", "carl", "dora"];

fn document(revision: i64, kind: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0", "id": format!("d{revision}"), "source": "/tests",
        "type": format!("directory.{kind}"), "accessrevision": revision, "data": data
    })
}

/// The change of a round: it grants or revokes a permission of one user, or of a role that two
/// have.
fn change(round: i64) -> (Kind, Value) {
    let permission = json!({ "access": ["read"], "scope": "task", "target": "t1" });
    // Each user has rounds with and without the permission.
    let grants = (round / 5) % 2 == 0;
    let permissions = if grants { vec![permission] } else { Vec::new() };
    match usize::try_from(round % 5).ok().and_then(|index| OWNERS.get(index)) {
        Some(name) => {
            let roles = if matches!(*name, "anna" | "dora") { vec!["Shift"] } else { Vec::new() };
            let enabled = round % 7 != 0;
            let user = json!({ "name": name, "enabled": enabled, "roles": roles,
                               "permissions": permissions });
            (Kind::User, user)
        }
        None => (Kind::Role, json!({ "name": "Shift", "permissions": permissions })),
    }
}

/// The event of a round: decided by the round's change, or by the one before it. Every third one is
/// a `delete`, whose permissions are revoked by the round's change.
fn event(round: i64) -> Value {
    let (action, revision) = match round % 3 {
        0 => ("delete", round - 1),
        1 => ("execute", round),
        _ => ("execute", round - 1),
    };
    json!({
        "specversion": "1.0", "id": format!("{round}"), "source": "/tests",
        "type": format!("tasks.{action}"), "subject": "tasks/t1", "accessrevision": revision,
        "data": { "Round": round }
    })
}

/// The users who may get each round's event, by the plain reference.
fn expected() -> BTreeMap<i64, Vec<&'static str>> {
    let parse = |round: i64| {
        let (kind, data) = change(round);
        let text = data.to_string();
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        Document::parse(kind, round, raw).unwrap()
    };
    let documents: Vec<Document> = (1..=ROUNDS).map(parse).collect();
    let resource = Resource::parse("tasks/t1").unwrap();
    let hear = |round: i64| {
        let revision = event(round)["accessrevision"].as_i64().unwrap();
        // Changes that are older than a whole cycle are replaced by newer ones.
        let first = usize::try_from((revision - 10).max(0)).unwrap();
        let last = usize::try_from(revision).unwrap();
        let directory = Directory::as_of(&documents[first..last], revision);
        let may = |name: &&str| directory.may_read(&Name::parse(name).unwrap(), &resource);
        (round, OWNERS.into_iter().filter(|name| may(name)).collect())
    };
    (1..=ROUNDS).map(hear).collect()
}

async fn publish(documents: &Amqp, events: &Amqp, round: i64) {
    let (kind, data) = change(round);
    let kind = if kind == Kind::User { "user" } else { "role" };
    let document = document(round, kind, &data);
    let event = event(round);
    match round % 4 {
        0 => {
            publish_on(documents, &document).await;
            publish_on(events, &event).await;
        }
        1 => {
            publish_on(events, &event).await;
            publish_on(documents, &document).await;
        }
        _ => {
            tokio::join!(publish_on(documents, &document), publish_on(events, &event));
        }
    }
}

#[tokio::test]
async fn directory_changes_close_to_events_are_decided_correctly() {
    let world = World::new().await.with("FANFARE_LOG", "warn,fanfare=info");
    let receiver = Receiver::start().await;
    for name in OWNERS {
        world.webhook_of(name, &receiver.url(&format!("/{name}")), &[]).await;
    }
    let _routers = [world.start("router").await, world.start("router").await];
    let _worker = world.start("worker").await;
    let (documents, events) = (world.amqp().await, world.amqp().await);
    for round in 1..=ROUNDS {
        publish(&documents, &events, round).await;
    }
    let expected = expected();
    let total: usize = expected.values().map(Vec::len).sum();
    eventually("all events have a plan", 2 * SOON, async || {
        let planned = world.sql("select count(*) || ' ' || sum(cardinality(webhooks)) from events");
        let all = planned == format!("{ROUNDS} {total}");
        if all { Ok(()) } else { Err(format!("{planned} of {ROUNDS} {total}")) }
    })
    .await;
    let plans = world.sql(
        "select e.event_id || ' ' || string_agg(w.owner, ',' order by w.owner)
         from events e cross join unnest(e.webhooks) as p(id) join webhooks w using (id)
         group by e.event_id",
    );
    let mut planned: HashMap<&str, &str> =
        plans.lines().filter_map(|line| line.split_once(' ')).collect();
    for (round, wanted) in &expected {
        let plan = planned.remove(round.to_string().as_str()).unwrap_or_default();
        assert_eq!(plan, wanted.join(","), "round {round}");
    }
    // A busy worker defers some, and an owner who lost access meanwhile does not get them. No other
    // user gets anything.
    receiver.wait_for(total / 2, 2 * SOON).await;
    for request in receiver.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let round = body["Notifications"][0]["Round"].as_i64().unwrap();
        assert!(expected[&round].contains(&&request.path[1..]), "round {round}");
    }
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

/// A change of the directory reaches workers within this time.
const VISIBLE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_thousand_retries_of_owners_who_lost_access_are_dropped_without_a_post() {
    const EACH: usize = 340;
    let world = World::new()
        .await
        .with("FANFARE_RETRY_FIRST", "6s")
        .with("FANFARE_RETRY_MAX_DELAY", "6s")
        .with("FANFARE_RETRY_ATTEMPTS", "12")
        .with("FANFARE_LOG", "warn,fanfare=info");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let owners = ["disabled", "deleted", "revoked"];
    let reader = |name: &&str| {
        json!({ "name": name, "permissions":
                [{ "access": ["read"], "scope": "task", "target": "t1" }] })
    };
    let users: Vec<Value> = owners.iter().map(reader).collect();
    world.directory(&json!({ "accessrevision": 1, "users": users, "roles": [] })).await;
    let mut webhooks = Vec::new();
    for name in owners {
        webhooks.push(world.webhook_of(name, &receiver.url(&format!("/{name}")), &[]).await);
    }
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let amqp = world.amqp().await;
    for _ in 0..EACH {
        publish_on(&amqp, &crate::world::event()).await;
    }
    receiver.wait_for(3 * EACH, SOON).await;
    for (revision, data) in [
        (2, json!({ "name": "disabled", "enabled": false })),
        (3, json!({ "name": "deleted", "deleted": true })),
        (4, json!({ "name": "revoked" })),
    ] {
        publish_on(&amqp, &document(revision, "user", &data)).await;
    }
    let visible = Instant::now() + VISIBLE;
    let reasons = [
        ("owner-disabled", "the owner disabled is disabled as of directory revision "),
        ("owner-deleted", "the owner deleted is not in the directory as of revision "),
        ("access-revoked", "the owner revoked may not read tasks/t1 as of directory revision 4"),
    ];
    for (webhook, (reason, words)) in webhooks.iter().zip(reasons) {
        let list = ["deliveries", "list", "--webhook", webhook, "--limit", "1000"];
        let all = eventually(&format!("all dropped as {reason}"), SOON, async || {
            let list = world.json(&list).await;
            let is_dropped = |it: &&Value| it["state"] == "dropped" && it["reason"] == reason;
            let dropped = list.as_array().unwrap().iter().filter(is_dropped).count();
            if dropped == EACH { Ok(list) } else { Err(format!("{dropped} of {EACH}")) }
        })
        .await;
        let shown = world.json(&["deliveries", "show", all[0]["id"].as_str().unwrap()]).await;
        let detail = shown["detail"].as_str().unwrap();
        assert!(detail.starts_with(words), "{detail}");
    }
    // A first attempt that the receiver's limits defer is still decided by its plan for a while.
    let is_retry = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap();
        body["Attempt"] != 1
    };
    let after = receiver.requests().into_iter().filter(|it| it.at > visible && is_retry(&it.body));
    assert_eq!(after.count(), 0, "retries after the change");
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}
