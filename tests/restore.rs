//! The restore of a backup that was taken under load, after the loss of the broker's data:
//! deliveries that the backup owes are sent, later events are published again, and deliveries that
//! the backup has as done are not repeated. The steps are those of `docs/operating.md`.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::postgres_client;
use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::roles::as_role;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, publish_on};

/// Long enough for the reconciler, which waits a minute, and a second one for a retry that was not
/// overdue by then.
const LATER: Duration = Duration::from_mins(3);

/// The time between two events of the load.
const TICK: Duration = Duration::from_millis(10);

/// The `Id` and `Attempt` of a POST.
struct Post {
    id: String,
    attempt: u64,
}

/// The history of a delivery in the backup.
struct DeliveryHistory {
    state: String,
    posts: u64,
}

impl DeliveryHistory {
    fn is_owed(&self) -> bool {
        matches!(self.state.as_str(), "pending" | "retrying")
    }
}

/// A webhook and the only type of event that it gets. With an event for several webhooks, the
/// reconciler might find one delivery first, and leave the others alone for five minutes.
struct Target {
    path: &'static str,
    owner: &'static str,
    kind: &'static str,
    subject: &'static str,
}

const QUICK: Target =
    Target { path: "/quick", owner: "anna", kind: "tasks.execute", subject: "tasks/t1" };
const SLOW: Target =
    Target { path: "/slow", owner: "anna", kind: "categories.edit", subject: "categories/c1" };
const DOWN: Target =
    Target { path: "/down", owner: "anna", kind: "alerts.edit", subject: "alerts/a1" };
const LEFT: Target =
    Target { path: "/left", owner: "ben", kind: "connections.edit", subject: "connections/d1" };

/// The target of the event with this number.
fn target(number: usize) -> &'static Target {
    match number % 10 {
        0 => &DOWN,
        1 => &LEFT,
        2..=4 => &SLOW,
        _ => &QUICK,
    }
}

fn is_bens(number: usize) -> bool {
    target(number).owner == LEFT.owner
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_backup_taken_under_load_loses_no_owed_delivery() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    servers.create_vhost("fanfare").unwrap();
    let world = installation(&servers, "fanfare").await;
    world.directory(&directory(true)).await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, _| match request.path.as_str() {
        "/quick" => Reply::status(200),
        "/slow" => Reply::status(200).after(Duration::from_millis(500)),
        _ => Reply::status(503),
    });
    for Target { path, owner, kind, .. } in [QUICK, SLOW, DOWN, LEFT] {
        world.webhook_of(owner, &receiver.url(path), &["--filter", kind]).await;
    }
    let file = servers.folder().join("fanfare.dump");
    let published = load_with_backup_and_crash(&servers, &world, &receiver, &file).await;

    tokio::task::block_in_place(|| {
        servers.drop_database("fanfare").unwrap();
        servers.wipe_broker().unwrap();
        servers.create_database("restored").unwrap();
        restore(&servers, "restored", &file);
    });
    let world = installation(&servers, "restored").await;
    let backup = delivery_histories(&servers, "restored");
    let before = receiver.requests();
    assert_all_kinds(&backup, published);

    // The report server's current directory is imported before any process starts.
    world.directory(&directory(false)).await;
    receiver.answer_with(|_, _| Reply::status(200));
    let _processes =
        [world.start("router").await, world.start("worker").await, world.start("worker").await];
    let again = || posts(receiver.requests().get(before.len()..).unwrap_or_default());
    let is_owed = |number: &usize| backup.get(number).is_some_and(DeliveryHistory::is_owed);
    let annas = |number: &usize| !is_bens(*number);
    let owed: Vec<usize> = (0..published).filter(annas).filter(is_owed).collect();
    all_arrive("what the backup owed", &owed, again).await;
    // Publishing more than necessary does no harm.
    publish(&world, 0..published).await;
    let is_unknown = |number: &usize| !backup.contains_key(number);
    let unknown: Vec<usize> = (0..published).filter(annas).filter(is_unknown).collect();
    all_arrive("what the backup did not know", &unknown, again).await;
    no_delivery_is_open(&world).await;
    assert_owed_deliveries_arrive_once(&backup, published, &posts(&before), &again());
    assert_ben_gets_nothing(&world, &backup).await;
}

/// Publishes steadily, takes a backup in the middle, continues for a while, and kills all
/// processes. Returns the number of events that were confirmed.
async fn load_with_backup_and_crash(
    servers: &Servers,
    world: &World,
    receiver: &Receiver,
    file: &Path,
) -> usize {
    let mut processes =
        [world.start("router").await, world.start("worker").await, world.start("worker").await];
    let stop = tokio::sync::Notify::new();
    let quick = || receiver.requests().iter().filter(|it| it.path == "/quick").count();
    let backup = async {
        eventually("the load flows", SOON, async || quick() > 100).await;
        tokio::task::block_in_place(|| dump(servers, "fanfare", file));
        let at_backup = quick();
        eventually("the load flows on", SOON, async || quick() > at_backup + 100).await;
        stop.notify_one();
    };
    let (published, ()) = tokio::join!(publish_until(world, &stop), backup);
    processes.iter_mut().for_each(fanfare_testkit::process::Process::kill9);
    published
}

/// Processes on a database of these servers.
async fn installation(servers: &Servers, database: &str) -> World {
    let world = World::on(&servers.database_url(database), &servers.amqp_url("fanfare")).await;
    // A failing delivery is retried until the disaster.
    world.with("FANFARE_RETRY_ATTEMPTS", "1000").with("FANFARE_LOG", "info")
}

fn directory(ben_is_enabled: bool) -> Value {
    let roles = ["System Administrator"];
    json!({
        "users": [
            { "name": "anna", "roles": roles },
            { "name": "ben", "enabled": ben_is_enabled, "roles": roles },
        ],
        "roles": [],
    })
}

fn numbered(number: usize) -> Value {
    let Target { kind, subject, .. } = target(number);
    json!({
        "specversion": "1.0", "id": number.to_string(), "source": "/tests", "type": kind,
        "subject": subject, "data": { "Number": number }
    })
}

async fn publish(world: &World, numbers: std::ops::Range<usize>) {
    let amqp = Amqp::connect(&world.report_server_url()).await.unwrap();
    for number in numbers {
        publish_on(&amqp, &numbered(number)).await;
    }
}

/// Publishes numbered events until `stop` is notified; returns their number.
async fn publish_until(world: &World, stop: &tokio::sync::Notify) -> usize {
    let amqp = Amqp::connect(&world.report_server_url()).await.unwrap();
    let mut tick = tokio::time::interval(TICK);
    let stopped = stop.notified();
    tokio::pin!(stopped);
    let mut number = 0;
    loop {
        tokio::select! {
            () = &mut stopped => return number,
            _ = tick.tick() => {}
        }
        publish_on(&amqp, &numbered(number)).await;
        number += 1;
    }
}

/// Takes a backup, as the owner of the tables.
fn dump(servers: &Servers, database: &str, file: &Path) {
    let url = as_role(&servers.database_url(database), "fanfare_migrate");
    let mut dump = postgres_client("pg_dump").unwrap();
    run(dump.args(["--format", "custom", "--dbname", &url, "--file"]).arg(file));
}

/// Restores a backup into an empty database.
fn restore(servers: &Servers, database: &str, file: &Path) {
    let url = as_role(&servers.database_url(database), "fanfare_migrate");
    let to = ["--single-transaction", "--exit-on-error", "--dbname", &url];
    run(postgres_client("pg_restore").unwrap().args(to).arg(file));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The delivery of each event in the ledger, by the event's number.
fn delivery_histories(servers: &Servers, database: &str) -> HashMap<usize, DeliveryHistory> {
    const SQL: &str = "
        select e.event_id, coalesce((array_agg(a.state order by a.entry desc))[1], 'pending'),
               count(a.outcome)
        from events e left join attempts a using (batch, received_at)
        group by e.event_id";
    let rows = servers.endpoints().sql(database, SQL).unwrap();
    let history = |row: &str| {
        let columns: Vec<&str> = row.split('|').collect();
        let (number, posts) = (columns[0].parse().unwrap(), columns[2].parse().unwrap());
        (number, DeliveryHistory { state: columns[1].to_owned(), posts })
    };
    rows.lines().map(history).collect()
}

/// The POSTs of each event, by its number.
fn posts(requests: &[Request]) -> HashMap<usize, Vec<Post>> {
    let mut posts: HashMap<usize, Vec<Post>> = HashMap::new();
    for request in requests {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let number = body["Notifications"][0]["Number"].as_u64().unwrap();
        let number = usize::try_from(number).unwrap();
        assert_eq!(request.path, target(number).path);
        let id = body["Id"].as_str().unwrap().to_owned();
        let post = Post { id, attempt: body["Attempt"].as_u64().unwrap() };
        posts.entry(number).or_default().push(post);
    }
    posts
}

/// Checks that the backup has deliveries in every state, without which the test shows nothing.
fn assert_all_kinds(backup: &HashMap<usize, DeliveryHistory>, published: usize) {
    let count = |of: &Target, state: &str| {
        let is_it = |number: usize| target(number).path == of.path;
        backup.iter().filter(|(number, it)| is_it(**number) && it.state == state).count()
    };
    println!("{} of {published} events are in the backup", backup.len());
    assert!(count(&QUICK, "delivered") > 0, "no delivery was done before the backup");
    assert!(count(&SLOW, "pending") > 0, "no delivery was pending at the backup");
    assert!(count(&DOWN, "retrying") > 0, "no delivery waited for its retry at the backup");
    assert!(count(&LEFT, "retrying") > 0, "no delivery to ben was owed at the backup");
    assert!(backup.len() < published, "no event was published after the backup");
}

async fn all_arrive(what: &str, numbers: &[usize], come: impl Fn() -> HashMap<usize, Vec<Post>>) {
    eventually(&format!("{what} arrives"), LATER, async || {
        let come = come();
        let missing: Vec<&usize> = numbers.iter().filter(|it| !come.contains_key(it)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
    })
    .await;
}

async fn no_delivery_is_open(world: &World) {
    for state in ["pending", "retrying", "dead"] {
        eventually(&format!("no delivery {state}"), LATER, async || {
            let list = world.json(&["deliveries", "list", "--state", state, "--limit", "5"]).await;
            if list == json!([]) { Ok(()) } else { Err(list) }
        })
        .await;
    }
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

/// Checks that deliveries that the backup has as done are not repeated. All others arrive once,
/// with their old `Id`, and their attempt numbers continue from the backup. So a delivery that
/// arrives twice was done after the backup.
fn assert_owed_deliveries_arrive_once(
    backup: &HashMap<usize, DeliveryHistory>,
    published: usize,
    before: &HashMap<usize, Vec<Post>>,
    again: &HashMap<usize, Vec<Post>>,
) {
    let mut twice = 0;
    for number in 0..published {
        let history = backup.get(&number);
        let recorded = history.map_or(0, |it| it.posts);
        let earlier = before.get(&number).map(Vec::as_slice).unwrap_or_default();
        let later = again.get(&number).map(Vec::as_slice).unwrap_or_default();
        let (path, times) = (target(number).path, later.len());
        if is_bens(number) || history.is_some_and(|it| !it.is_owed()) {
            assert_eq!(times, 0, "{number} for {path} was not owed, but arrived after the restore");
            continue;
        }
        assert_eq!(times, 1, "POSTs of {number} for {path} after the restore");
        assert_eq!(later[0].attempt, recorded + 1, "{number} for {path}");
        assert!(earlier.iter().all(|it| it.id == later[0].id), "{number} had two Ids");
        if path != DOWN.path && !earlier.is_empty() {
            twice += 1;
            assert_eq!((earlier.len(), recorded), (1, 0), "{number} for {path} was recorded");
        }
    }
    println!("{twice} deliveries were done after the backup, and arrived twice");
    assert!(twice > 0, "no delivery was done after the backup");
}

/// Checks that ben, who was enabled in the backup and is now disabled, gets no events.
async fn assert_ben_gets_nothing(world: &World, backup: &HashMap<usize, DeliveryHistory>) {
    let owed = backup.iter().filter(|(number, it)| is_bens(**number) && it.is_owed()).count();
    let list = world.json(&["deliveries", "list", "--owner", "ben", "--limit", "1000"]).await;
    let list = list.as_array().unwrap();
    let is_dropped = |it: &&Value| it["reason"] == "owner-disabled" && it["state"] == "dropped";
    assert_eq!(list.iter().filter(is_dropped).count(), owed);
    assert_eq!(list.len(), owed);
}
