//! The contract as a whole: with many users, webhooks and events, each receiver gets exactly the
//! bytes that the rules define, and independent libraries verify the signatures.

use std::collections::{BTreeMap, HashMap, HashSet};

use fanfare_core::access::may_read;
use fanfare_core::directory::{Content, Document, RoleDocument, UserDocument};
use fanfare_core::filter::{Action, Filter, Filters};
use fanfare_core::resource::Resource;
use fanfare_core::signature::ms_signature;
use fanfare_testkit::receiver::{Receiver, Request};
use fanfare_testkit::wait::eventually;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::python_env::script;
use crate::world::{SECRET, SOON, World, unique};

const EVENTS: usize = 2_000;

fn permission(scope: &str, target: &str) -> Value {
    json!({ "access": ["modify", "read"], "scope": scope, "target": target })
}

/// Six users: with roles, with their own permissions of each scope, disabled, an administrator, and
/// without permissions.
fn directory() -> Value {
    json!({
        "accessrevision": 7,
        "roles": [
            { "name": "Report Reader", "permissions": [
                permission("any-report", ""), permission("any-category", "")] },
            { "name": "Writer", "permissions": [
                { "access": ["modify", "create"], "scope": "any-task" }] }
        ],
        "users": [
            { "name": "anna", "roles": ["report reader", "WRITER", "no such role"] },
            { "name": "ben", "permissions": [
                permission("reports-in-category", "c1"), permission("report", "r4"),
                permission("task", "t1"), permission("connection", "x2"),
                permission("category", "c2"), permission("alert", "a1")] },
            { "name": "carl", "enabled": false, "roles": ["System Administrator"],
              "permissions": [permission("any-task", "")] },
            { "name": "dora", "permissions": [
                permission("any-connection", ""), permission("any-alert", ""),
                permission("any-task", ""), { "access": ["delete"], "scope": "any-report" }] },
            { "name": "eve", "roles": ["SYSTEM administrator"] },
            { "name": "finn" }
        ]
    })
}

struct Hook {
    id: String,
    path: String,
    owner: &'static str,
    filters: Filters,
    paused: bool,
}

/// Twenty webhooks, each with a path of its own.
async fn webhooks(world: &World, receiver: &Receiver) -> Vec<Hook> {
    let owners = ["anna", "BEN", "carl", "dora", "Eve", "finn"];
    let wanted: [&[&str]; 7] = [
        &[],
        &["Reports"],
        &["tasks", "TASKS", "alerts"],
        &["reports.delete"],
        &["connections", "categories.edit"],
        &["*"],
        &["tasks.execute", "reports.upload", "alerts.create"],
    ];
    let mut hooks = Vec::new();
    for number in 0..20 {
        let (owner, wanted) = (owners[number % 6], wanted[number % 7]);
        let (path, paused) = (format!("/hook/{number}"), number == 4);
        let header = format!("X-Own: {path}");
        let property = format!("path={path}");
        let mut more = vec!["--header", &header, "--property", &property];
        more.extend(wanted.iter().flat_map(|filter| ["--filter", filter]));
        more.extend(paused.then_some("--paused"));
        let id = world.webhook_of(owner, &receiver.url(&path), &more).await;
        hooks.push(Hook { id, path, owner, filters: Filters::parse(wanted).unwrap(), paused });
    }
    hooks
}

/// An event; its number decides its type and subject.
fn event(number: usize) -> Value {
    let resources = [
        ("reports", format!("categories/c{}/reports/r{}", number % 3, number % 7)),
        ("categories", format!("categories/c{}", number % 4)),
        ("connections", format!("connections/x{}", number % 5)),
        ("tasks", format!("tasks/t{}", number % 3)),
        ("alerts", format!("alerts/a{}", number % 3)),
    ];
    let actions = ["create", "upload", "edit", "delete", "execute", "rename"];
    let (filter, subject) = &resources[number % 5];
    let action = actions[(number / 5) % 6];
    json!({
        "specversion": "1.0", "id": format!("{number}"), "source": "/report-server/main",
        "type": format!("{filter}.{action}"), "time": "2026-11-23T10:00:00Z", "subject": subject,
        "data": { "Zeta": number, "Id": subject, "Nothing": null, "Umlaut": "ä\u{1F600}", "A": [1.50, {}] }
    })
}

/// The messages: single events and batches, some of them twice.
fn messages() -> Vec<Vec<usize>> {
    let mut messages: Vec<Vec<usize>> = Vec::new();
    let mut number = 0;
    while number < EVENTS {
        let size = if number % 3 == 0 { 1 } else { 1 + number % 9 };
        let mut message: Vec<usize> = (number..EVENTS.min(number + size)).collect();
        number += message.len();
        if message.len() > 4 {
            // One event is twice in the batch, and one was published before.
            message.push(message[1]);
            message.push(number / 2);
        }
        if number % 7 == 0 {
            messages.push(message.clone());
        }
        messages.push(message);
    }
    messages
}

/// The notifications that each webhook should get: one list for each POST.
fn expected(hooks: &[Hook]) -> BTreeMap<String, Vec<Vec<String>>> {
    let (users, roles) = users_and_roles();
    let mut seen = HashSet::new();
    let mut expected: BTreeMap<String, Vec<Vec<String>>> =
        hooks.iter().map(|hook| (hook.path.clone(), Vec::new())).collect();
    for message in messages() {
        let new: Vec<usize> = message.into_iter().filter(|number| seen.insert(*number)).collect();
        for hook in hooks.iter().filter(|hook| !hook.paused) {
            let gets = new.iter().map(|number| event(*number));
            let gets = gets.filter(|event| is_owed(hook, event, &users, &roles));
            let notifications: Vec<String> = gets.map(|event| notification(&event)).collect();
            if !notifications.is_empty() {
                expected.entry(hook.path.clone()).or_default().push(notifications);
            }
        }
    }
    expected
}

/// The users and roles of the directory, as the reference rules take them.
fn users_and_roles() -> (Vec<UserDocument>, Vec<RoleDocument>) {
    let text = directory().to_string();
    let raw: &RawValue = serde_json::from_str(&text).unwrap();
    match Document::bare_snapshot(7, raw).unwrap().content {
        Content::Snapshot { users, roles } => (users, roles),
        _ => panic!("the directory is a snapshot"),
    }
}

fn is_owed(hook: &Hook, event: &Value, users: &[UserDocument], roles: &[RoleDocument]) -> bool {
    why_not(hook, event, users, roles).is_empty()
}

/// All reasons why a webhook does not get an event, as an explanation should list them.
fn why_not(
    hook: &Hook,
    event: &Value,
    users: &[UserDocument],
    roles: &[RoleDocument],
) -> Vec<&'static str> {
    let (filter, action) = event["type"].as_str().unwrap().split_once('.').unwrap();
    let (filter, action) = (Filter::parse(filter).unwrap(), Action::parse(action).unwrap());
    let resource = Resource::parse(event["subject"].as_str().unwrap()).unwrap();
    let owner = users.iter().find(|user| user.name.key() == hook.owner.to_lowercase()).unwrap();
    let if_enabled = UserDocument { enabled: true, ..owner.clone() };
    [
        ("webhook-paused", hook.paused),
        ("filter", !hook.filters.accept(filter, &action)),
        ("owner-disabled", !owner.enabled),
        ("no-access", !may_read(&if_enabled, roles, &resource)),
    ]
    .into_iter()
    .filter_map(|(reason, holds)| holds.then_some(reason))
    .collect()
}

/// Checks the explanation of every event for every webhook; returns the number of sent events.
async fn explained(world: &World, hooks: &[Hook], ids: &HashSet<String>) -> usize {
    let (users, roles) = users_and_roles();
    let numbers: Vec<String> = (0..EVENTS).map(|number| number.to_string()).collect();
    let by_id: HashMap<&str, &Hook> = hooks.iter().map(|hook| (hook.id.as_str(), hook)).collect();
    let mut n_sent = 0;
    for chunk in numbers.chunks(100) {
        let args = ["events", "explain"].into_iter().chain(chunk.iter().map(String::as_str));
        let explained_events = world.json(&args.collect::<Vec<_>>()).await;
        let explained_events = explained_events.as_array().unwrap();
        assert_eq!(explained_events.len(), chunk.len() * hooks.len());
        for one in explained_events {
            let event = event(one["event"].as_str().unwrap().parse().unwrap());
            let hook = by_id[one["webhook"].as_str().unwrap()];
            let reasons = why_not(hook, &event, &users, &roles);
            assert_eq!(one["reasons"], json!(reasons), "{one}");
            assert_eq!(one["verdict"], *reasons.first().unwrap_or(&"sent"), "{one}");
            let delivery = one["delivery"].as_str();
            assert_eq!(delivery.is_some_and(|id| ids.contains(id)), reasons.is_empty(), "{one}");
            let may_read = !reasons.iter().any(|it| ["owner-disabled", "no-access"].contains(it));
            assert_eq!(one["grant"].is_object(), may_read, "{one}");
            n_sent += usize::from(delivery.is_some());
        }
    }
    n_sent
}

/// The notification that is expected, rendered without the code under test.
fn notification(event: &Value) -> String {
    let (filter, action) = event["type"].as_str().unwrap().split_once('.').unwrap();
    let data = event["data"].to_string();
    format!(r#"{{"Action":"{filter}","UserAction":"{action}",{}"#, &data[1..])
}

#[tokio::test]
async fn every_receiver_gets_exactly_the_requests_of_the_contract() {
    let world = World::new().await.with("FANFARE_LOG", "info");
    let receiver = Receiver::start().await;
    world.directory(&directory()).await;
    let hooks = webhooks(&world, &receiver).await;
    let _router = world.start("router").await;
    let _workers = [world.start("worker").await, world.start("worker").await];
    let scratch = std::env::temp_dir().join(format!("fanfare-{}.jsonl", unique()));
    let line = |numbers: &Vec<usize>| match numbers.as_slice() {
        // Some single events are published as batches of one.
        [number] if number % 2 == 0 => event(*number).to_string(),
        numbers => numbers.iter().map(|number| event(*number)).collect::<Value>().to_string(),
    };
    let lines: Vec<String> = messages().iter().map(line).collect();
    std::fs::write(&scratch, lines.join("\n")).unwrap();
    let file = scratch.to_string_lossy().into_owned();
    script("tests/python/publish.py", &[&world.report_server_url(), &file]).await;

    let expected = expected(&hooks);
    for hook in &hooks {
        let is_silent = hook.paused || matches!(hook.owner, "carl" | "finn");
        assert!(
            !is_silent || expected[&hook.path].is_empty(),
            "a delivery to {} is owed",
            hook.path
        );
    }
    let total: usize = expected.values().map(Vec::len).sum();
    receiver.wait_for(total, 2 * SOON).await;
    for hook in &hooks {
        world.deliveries_settle(&hook.id).await;
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), total, "unexpected requests");
    let mut ids = HashSet::new();
    let mut got: BTreeMap<String, Vec<String>> =
        expected.keys().map(|path| (path.clone(), Vec::new())).collect();
    for request in &requests {
        check_headers(request);
        let body = std::str::from_utf8(&request.body).unwrap();
        let (id, notifications) = split(body, &request.path);
        assert!(ids.insert(id.to_owned()), "two requests have the Id {id}");
        got.get_mut(&request.path).unwrap().push(notifications.to_owned());
    }
    for (path, wanted) in &expected {
        let mut wanted: Vec<String> = wanted.iter().map(|post| post.join(",")).collect();
        let got = got.get_mut(path).unwrap();
        wanted.sort_unstable();
        got.sort_unstable();
        assert_eq!(*got, wanted, "{path}");
    }
    assert_eq!(verified_by_others(&requests, &file).await, total);
    assert_eq!(world.json(&["dead-letters", "list"]).await, json!([]));
    let limit = (total + 1).to_string();
    let list = world.json(&["deliveries", "list", "--limit", &limit]).await;
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), total);
    for delivery in list {
        assert_eq!(delivery["state"], "delivered");
        assert!(ids.contains(delivery["id"].as_str().unwrap()));
    }
    let notifications: usize = expected.values().flatten().map(Vec::len).sum();
    assert_eq!(explained(&world, &hooks, &ids).await, notifications);
    std::fs::remove_file(&scratch).unwrap();
}

fn check_headers(request: &Request) {
    let headers: HashMap<&str, &str> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers.len(), request.headers.len(), "a header is repeated");
    assert_eq!(request.method, "POST");
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(headers["user-agent"], concat!("Fanfare/", env!("CARGO_PKG_VERSION")));
    assert_eq!(headers["x-own"], request.path);
    assert!(request.body.starts_with(format!(r#"{{"Id":"{}""#, headers["webhook-id"]).as_bytes()));
}

/// The Id and the notifications, as one text, of a body in the contract's form.
fn split<'a>(body: &'a str, path: &str) -> (&'a str, &'a str) {
    let rest = body.strip_prefix(r#"{"Id":""#).unwrap();
    let (id, rest) = rest.split_at(32);
    assert!(id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{id}");
    let middle = format!(r#"","Attempt":1,"Properties":{{"path":"{path}"}},"Notifications":["#);
    let rest = rest.strip_prefix(&middle).unwrap_or_else(|| panic!("{body}"));
    (id, rest.strip_suffix("]}").unwrap())
}

/// Verifies all requests with Python's own HMAC and the Standard Webhooks library.
async fn verified_by_others(requests: &[Request], file: &str) -> usize {
    use base64::Engine as _;
    let encode = |body: &[u8]| base64::engine::general_purpose::STANDARD.encode(body);
    let line = |request: &Request| {
        json!({ "secret": SECRET, "headers": request.headers, "body": encode(&request.body) })
            .to_string()
    };
    let lines: Vec<String> = requests.iter().map(line).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
    script("tests/python/verify.py", &[file]).await.trim().parse().unwrap()
}

/// Sample bodies of a real report server, with its signatures.
#[test]
fn signatures_match_those_of_the_report_server() {
    let vectors: [(&[u8], &str); 3] = [
        (
            include_bytes!("../crates/core/vectors/v2-task-execute-attempt1.body"),
            "sha256=17BDA3D82726A20C2E9810BC0AA7A06E5E0306FA809A3E9FB4E152CA55A01475",
        ),
        (
            include_bytes!("../crates/core/vectors/v3-task-execute-attempt2.body"),
            "sha256=346094FC7CF1EE1F2AD0D1108B21FBB14BB663E54F1D232BB7E33A9B1E81E0AF",
        ),
        (
            include_bytes!("../crates/core/vectors/v5-as-v2-but-compact.body"),
            "sha256=67355CC88F44D1A6FFC4F2C13A6521F7D71C20A750B309C97C24C86440336B5B",
        ),
    ];
    for (body, signature) in vectors {
        assert_eq!(ms_signature(&SECRET.parse().unwrap(), body), signature);
    }
}

#[tokio::test]
async fn queue_names_match_the_contract() {
    let world = World::new().await;
    let _router = world.start("router").await;
    let amqp = world.amqp().await;
    for queue in [
        "fanfare.events",
        "fanfare.events.dead",
        "fanfare.deliveries",
        "fanfare.retries",
        "fanfare.deliveries.dead",
        "fanfare.directory",
    ] {
        eventually(queue, SOON, async || amqp.queue_len(queue).await.is_ok()).await;
    }
}
