//! Restoring a backup that was taken under load, with all of the broker's data lost: what the
//! backup owes is sent, what came after it is published again, and what it knows as done is not
//! repeated. The steps are those of `docs/operating.md`.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::receiver::{Receiver, Reply, Request};
use fanfare_testkit::roles::as_role;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, publish_on};

/// Long enough for what is only found by the reconciler, which waits a minute, and a second one for
/// a retry that was not overdue by then.
const LATER: Duration = Duration::from_mins(3);

/// Between two events of the load.
const TICK: Duration = Duration::from_millis(10);

/// What a POST said of itself.
struct Post {
    id: String,
    attempt: u64,
}

/// How a delivery stands in the backup.
struct Standing {
    state: String,
    posts: u64,
}

impl Standing {
    fn is_owed(&self) -> bool {
        matches!(self.state.as_str(), "pending" | "retrying")
    }
}

/// A webhook and the only kind of event that goes there. An event for several might be left alone
/// for five minutes by the reconciler, after it has found one of its deliveries, not yet another.
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

/// Where the event with a number goes.
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
async fn a_backup_taken_under_load_loses_nothing_that_was_owed() {
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
    let backup = standings(&servers, "restored");
    let before = receiver.requests();
    assert_all_kinds(&backup, published);

    // Before any process starts: what the report server says of its users now.
    world.directory(&directory(false)).await;
    receiver.answer_with(|_, _| Reply::status(200));
    let _processes =
        [world.start("router").await, world.start("worker").await, world.start("worker").await];
    let again = || posts(receiver.requests().get(before.len()..).unwrap_or_default());
    let is_owed = |number: &usize| backup.get(number).is_some_and(Standing::is_owed);
    let annas = |number: &usize| !is_bens(*number);
    let owed: Vec<usize> = (0..published).filter(annas).filter(is_owed).collect();
    all_come("what the backup owed", &owed, again).await;
    // More than is needed does no harm.
    publish(&world, 0..published).await;
    let is_unknown = |number: &usize| !backup.contains_key(number);
    let unknown: Vec<usize> = (0..published).filter(annas).filter(is_unknown).collect();
    all_come("what the backup did not know", &unknown, again).await;
    nothing_is_left(&world).await;
    assert_each_comes_as_often_as_it_must(&backup, published, &posts(&before), &again());
    assert_ben_is_told_of_nothing(&world, &backup).await;
}

/// Publishes steadily, takes a backup in the middle, goes on a little, and ends all processes by
/// force. Returns how many events the report server had confirmed.
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
    // What fails goes on failing until the disaster.
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

/// Publishes numbered events until told to stop; returns how many.
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
    run(Command::new("pg_dump").args(["--format", "custom", "--dbname", &url, "--file"]).arg(file));
}

/// Brings a backup into an empty database.
fn restore(servers: &Servers, database: &str, file: &Path) {
    let url = as_role(&servers.database_url(database), "fanfare_migrate");
    let to = ["--single-transaction", "--exit-on-error", "--dbname", &url];
    run(Command::new("pg_restore").args(to).arg(file));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How the delivery of each event of the ledger stands.
fn standings(servers: &Servers, database: &str) -> HashMap<usize, Standing> {
    const SQL: &str = "
        select e.event_id, coalesce((array_agg(a.state order by a.entry desc))[1], 'pending'),
               count(a.outcome)
        from events e left join attempts a on a.batch = e.batch
        group by e.event_id";
    let rows = servers.endpoints().sql(database, SQL).unwrap();
    let standing = |row: &str| {
        let columns: Vec<&str> = row.split('|').collect();
        let (number, posts) = (columns[0].parse().unwrap(), columns[2].parse().unwrap());
        (number, Standing { state: columns[1].to_owned(), posts })
    };
    rows.lines().map(standing).collect()
}

/// What came of each event.
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

/// The backup has some of all that a backup can have, or the test shows nothing.
fn assert_all_kinds(backup: &HashMap<usize, Standing>, published: usize) {
    let count = |of: &Target, state: &str| {
        let is_it = |number: usize| target(number).path == of.path;
        backup.iter().filter(|(number, it)| is_it(**number) && it.state == state).count()
    };
    println!("{} of {published} events are in the backup", backup.len());
    assert!(count(&QUICK, "delivered") > 0, "nothing was done before the backup");
    assert!(count(&SLOW, "pending") > 0, "nothing was under way at the backup");
    assert!(count(&DOWN, "retrying") > 0, "nothing was waiting for its retry at the backup");
    assert!(count(&LEFT, "retrying") > 0, "nothing was owed to ben at the backup");
    assert!(backup.len() < published, "nothing was published after the backup");
}

async fn all_come(what: &str, numbers: &[usize], come: impl Fn() -> HashMap<usize, Vec<Post>>) {
    eventually(&format!("{what} arrives"), LATER, async || {
        let come = come();
        let missing: Vec<&usize> = numbers.iter().filter(|it| !come.contains_key(it)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
    })
    .await;
}

async fn nothing_is_left(world: &World) {
    for state in ["pending", "retrying", "dead"] {
        eventually(&format!("no delivery {state}"), LATER, async || {
            let list = world.json(&["deliveries", "list", "--state", state, "--limit", "5"]).await;
            if list == json!([]) { Ok(()) } else { Err(list) }
        })
        .await;
    }
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
}

/// What the backup knows as done comes no more; all else comes once, under its old `Id`, and counts
/// its attempts on from the backup. So what comes twice was done without the backup's knowledge.
fn assert_each_comes_as_often_as_it_must(
    backup: &HashMap<usize, Standing>,
    published: usize,
    before: &HashMap<usize, Vec<Post>>,
    again: &HashMap<usize, Vec<Post>>,
) {
    let mut twice = 0;
    for number in 0..published {
        let standing = backup.get(&number);
        let recorded = standing.map_or(0, |it| it.posts);
        let earlier = before.get(&number).map(Vec::as_slice).unwrap_or_default();
        let later = again.get(&number).map(Vec::as_slice).unwrap_or_default();
        let (path, times) = (target(number).path, later.len());
        if is_bens(number) || standing.is_some_and(|it| !it.is_owed()) {
            assert_eq!(times, 0, "{number} for {path} was not owed, and came after the restore");
            continue;
        }
        assert_eq!(times, 1, "{number} for {path} came so often after the restore");
        assert_eq!(later[0].attempt, recorded + 1, "{number} for {path}");
        assert!(earlier.iter().all(|it| it.id == later[0].id), "{number} had two Ids");
        if path != DOWN.path && !earlier.is_empty() {
            twice += 1;
            assert_eq!((earlier.len(), recorded), (1, 0), "{number} for {path} was recorded");
        }
    }
    println!("{twice} deliveries were done after the backup, and came twice");
    assert!(twice > 0, "nothing was done after the backup");
}

/// He was enabled in the backup, and is not any more.
async fn assert_ben_is_told_of_nothing(world: &World, backup: &HashMap<usize, Standing>) {
    let owed = backup.iter().filter(|(number, it)| is_bens(**number) && it.is_owed()).count();
    let list = world.json(&["deliveries", "list", "--owner", "ben", "--limit", "1000"]).await;
    let list = list.as_array().unwrap();
    let is_dropped = |it: &&Value| it["reason"] == "owner-disabled" && it["state"] == "dropped";
    assert_eq!(list.iter().filter(is_dropped).count(), owed);
    assert_eq!(list.len(), owed);
}
