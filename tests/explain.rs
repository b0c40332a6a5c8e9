//! Explanations of past decisions: why a webhook got an event or did not, and who could read what.

use std::collections::BTreeMap;

use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SOON, World, event};

fn read(scope: &str, target: &str) -> Value {
    json!({ "access": ["read"], "scope": scope, "target": target })
}

fn user(revision: i64, document: &Value) -> Value {
    json!({ "type": "directory.user", "accessrevision": revision, "data": document })
}

/// Users who may read the task t1 by each kind of grant, and users who may not.
fn directory() -> Value {
    json!({
        "accessrevision": 1,
        "roles": [
            { "name": "Clerk", "permissions": [read("any-task", ""), read("task", "t1")] },
            { "name": "Writer", "permissions": [{ "access": ["modify"], "scope": "any-task" }] }
        ],
        "users": [
            { "name": "anna", "permissions": [read("task", "t1")] },
            { "name": "Rob", "roles": ["CLERK", "writer"] },
            { "name": "root", "roles": ["system administrator"] },
            { "name": "dora", "enabled": false, "permissions": [read("any-task", "")] },
            { "name": "nick", "roles": ["Writer"], "permissions": [read("task", "t2")] }
        ]
    })
}

/// Runs a command that must fail; returns its exit code and its messages.
async fn fails(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = world.run(args, None).await;
    (output.status.code(), output.stderr)
}

struct Hooks {
    /// The webhooks' ids by the names of their cases.
    ids: BTreeMap<&'static str, String>,
}

impl Hooks {
    async fn add(
        &mut self,
        world: &World,
        receiver: &Receiver,
        name: &'static str,
        owner: &str,
        more: &[&str],
    ) {
        let url = receiver.url(&format!("/{name}"));
        self.ids.insert(name, world.webhook_of(owner, &url, more).await);
    }

    /// The explanation of each webhook, by the name of its case.
    fn named(&self, explained: &Value) -> BTreeMap<&'static str, Value> {
        let explained = explained.as_array().unwrap();
        assert_eq!(explained.len(), self.ids.len());
        let of = |id: &String| explained.iter().find(|one| one["webhook"] == json!(id)).unwrap();
        self.ids.iter().map(|(name, id)| (*name, of(id).clone())).collect()
    }
}

/// A webhook for each verdict; the late one is registered after the event.
async fn hooks(world: &World, receiver: &Receiver) -> Hooks {
    let mut hooks = Hooks { ids: BTreeMap::new() };
    for (name, owner, more) in [
        ("own", "ANNA", ["--filter", "tasks"].as_slice()),
        ("role", "rob", &[]),
        ("administrator", "root", &["--filter", "Tasks.Execute"]),
        ("deleted", "anna", &[]),
        ("paused", "anna", &["--paused"]),
        ("filter", "anna", &["--filter", "reports", "--filter", "tasks.delete"]),
        ("disabled", "dora", &[]),
        ("gone", "nobody", &[]),
        ("no-access", "nick", &[]),
        ("everything", "nick", &["--paused", "--filter", "alerts"]),
    ] {
        hooks.add(world, receiver, name, owner, more).await;
    }
    world.fanfare(&["webhooks", "delete", &hooks.ids["deleted"]]).await;
    hooks
}

/// Checks the explanation of each webhook, which must not depend on later changes.
fn check(named: &BTreeMap<&'static str, Value>) {
    let lacks = "owner lacks read: none of any-task, task t1 as of revision 1";
    for (name, reasons, words) in [
        ("own", [].as_slice(), "task t1 of their own, since revision 1"),
        ("role", &[], "any-task of the role Clerk, since revision 1"),
        ("administrator", &[], "the role System Administrator, since revision 1"),
        ("deleted", &["webhook-deleted"], "was deleted"),
        ("paused", &["webhook-paused"], "was paused"),
        ("filter", &["filter"], "asked for reports, tasks.delete, not tasks.execute"),
        ("disabled", &["owner-disabled"], "owner was disabled as of revision 1"),
        ("gone", &["owner-deleted"], "owner was not in the directory as of revision 1"),
        ("no-access", &["no-access"], lacks),
        ("everything", &["webhook-paused", "filter", "no-access"], lacks),
        ("late", &["not-created"], "did not exist yet"),
    ] {
        let one = &named[name];
        assert_eq!(one["verdict"], *reasons.first().unwrap_or(&"sent"), "{name}: {one}");
        assert_eq!(one["reasons"], json!(reasons), "{name}: {one}");
        assert!(one["detail"].as_str().unwrap().contains(words), "{name}: {one}");
        assert_eq!(one["revision"], 1);
        assert_eq!(one["scopes"], json!(["any-task", "task t1"]));
        let state = if reasons.is_empty() { json!("delivered") } else { Value::Null };
        assert_eq!((&one["state"], &one["reason"]), (&state, &Value::Null), "{name}: {one}");
    }
    for (name, grant) in [
        ("own", json!({ "scope": "task", "target": "t1", "by": "user", "role": null, "since": 1 })),
        (
            "role",
            json!({ "scope": "any-task", "target": null, "by": "role", "role": "Clerk",
                    "since": 1 }),
        ),
        (
            "administrator",
            json!({ "scope": null, "target": null, "by": "administrator",
                    "role": "System Administrator", "since": 1 }),
        ),
        ("disabled", Value::Null),
        ("no-access", Value::Null),
    ] {
        assert_eq!(named[name]["grant"], grant, "{name}");
    }
}

#[tokio::test]
async fn explanations_hold_after_later_changes() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.directory(&directory()).await;
    let mut hooks = hooks(&world, &receiver).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let published = event();
    let id = published["id"].as_str().unwrap();
    world.publish(&published).await;
    for name in ["own", "role", "administrator"] {
        world.deliveries(&hooks.ids[name], "delivered", 1).await;
    }
    hooks.add(&world, &receiver, "late", "anna", &[]).await;
    let explain = async || hooks.named(&world.json(&["events", "explain", id]).await);
    let before = explain().await;
    check(&before);
    let sent: Vec<Value> = ["administrator", "own", "role"]
        .map(|name| {
            json!({ "id": before[name]["delivery"], "webhook": hooks.ids[name],
                            "state": "delivered", "reason": null })
        })
        .into();
    let shown = world.json(&["events", "show", id]).await;
    for delivery in &sent {
        assert!(shown["deliveries"].as_array().unwrap().contains(delivery), "{shown}");
    }
    let posted = receiver.requests();
    assert_eq!(posted.len(), 3);
    for request in &posted {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert!(sent.iter().any(|delivery| delivery["id"] == body["Id"]));
    }
    let owners = world.json(&["webhooks", "list"]).await;
    let state = |name: &str| {
        let mut owners = owners.as_array().unwrap().iter();
        owners.find(|one| one["Id"] == json!(hooks.ids[name])).unwrap()["OwnerState"].clone()
    };
    assert_eq!(["own", "disabled", "gone"].map(state), ["enabled", "disabled", "deleted"]);

    world.fanfare(&["webhooks", "resume", &hooks.ids["paused"], &hooks.ids["everything"]]).await;
    world.fanfare(&["webhooks", "pause", &hooks.ids["filter"], &hooks.ids["role"]]).await;
    world.fanfare(&["webhooks", "delete", &hooks.ids["own"], &hooks.ids["disabled"]]).await;
    world.sql("update webhooks set filters = '{alerts}'");
    world
        .directory(&json!([
            user(2, &json!({ "name": "Dora", "permissions": [read("any-task", "")] })),
            user(3, &json!({ "name": "nick", "roles": ["Clerk"] })),
            user(4, &json!({ "name": "nobody", "permissions": [read("task", "t1")] })),
            user(5, &json!({ "name": "anna", "deleted": true })),
        ]))
        .await;
    let after = explain().await;
    check(&after);
    assert_eq!(after, before);

    // Limited to one owner, one webhook, and a number; and as text for people.
    let narrow = ["events", "explain", id, "--owner", "NICK"];
    assert_eq!(world.json(&narrow).await.as_array().unwrap().len(), 2);
    let narrow = ["events", "explain", id, "--webhook", &hooks.ids["no-access"]];
    assert_eq!(world.json(&narrow).await, json!([after["no-access"]]));
    assert!(world.fanfare(&narrow).await.contains("none of any-task, task t1"));
    let few = world.json(&["events", "explain", id, "--limit", "2"]).await;
    assert_eq!(few, json!([after["own"], after["role"]]));

    // After the directory's history has been trimmed, only the webhooks' own reasons are known.
    world.sql("update directory_state set oldest = 2");
    let forgotten = explain().await;
    for (name, verdict) in [
        ("own", "sent"),
        ("paused", "webhook-paused"),
        ("no-access", "unknown"),
        ("gone", "unknown"),
        ("late", "not-created"),
    ] {
        assert_eq!(forgotten[name]["verdict"], verdict, "{}", forgotten[name]);
    }
}

#[tokio::test]
async fn events_with_the_same_id_are_distinguished_by_source() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.directory(&directory()).await;
    let webhook = world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut first = event();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    first["traceparent"] = json!(traceparent);
    first["time"] = json!("2026-11-23T10:00:00Z");
    world.publish(&first).await;
    world.deliveries(&webhook, "delivered", 1).await;
    let mut second = first.clone();
    second["source"] = json!("/elsewhere");
    second["type"] = json!("Tasks.Delete");
    second["subject"] = json!("tasks/t2");
    second["accessrevision"] = json!(1);
    world.publish(&second).await;
    let id = first["id"].as_str().unwrap();
    let list = eventually("both events", SOON, async || {
        let list = world.json(&["events", "list"]).await;
        if list.as_array().unwrap().len() == 2 { Ok(list) } else { Err(list) }
    })
    .await;
    // The list begins with the newest event.
    assert_eq!((&list[0]["source"], &list[1]["source"]), (&json!("/elsewhere"), &json!("/tests")));
    assert_eq!((&list[0]["webhooks"], &list[0]["settled"]), (&json!(0), &json!(true)));
    assert_eq!((&list[0]["accessRevision"], &list[1]["accessRevision"]), (&json!(1), &Value::Null));
    assert_eq!((&list[1]["webhooks"], &list[1]["decidedRevision"]), (&json!(1), &json!(1)));
    assert_eq!(list[1]["time"], "2026-11-23T10:00:00.000Z");
    assert_eq!(list[1]["batch"].as_str().unwrap().len(), 32);
    for (option, value, expected) in [
        ("--type", "TASKS", json!([list[0], list[1]])),
        ("--type", "tasks.delete", json!([list[0]])),
        ("--type", "reports", json!([])),
        ("--subject", "tasks/t1", json!([list[1]])),
        ("--webhook", webhook.as_str(), json!([list[1]])),
        ("--since", "1h", json!([list[0], list[1]])),
        ("--since", "1ms", json!([])),
        ("--limit", "1", json!([list[0]])),
    ] {
        let found = world.json(&["events", "list", option, value]).await;
        assert_eq!(found, expected, "{option} {value}");
    }
    for command in ["show", "explain"] {
        let (code, said) = fails(&world, &["events", command, id]).await;
        assert_eq!(code, Some(2), "{said}");
        for word in ["/elsewhere, /tests", "--source"] {
            assert!(said.contains(word), "{said}");
        }
        let (code, said) = fails(&world, &["events", command, "unheard-of"]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("`fanfare events list`"), "{said}");
    }
    let shown = world.json(&["events", "show", id, "--source", "/tests"]).await;
    assert_eq!(shown["traceparent"], traceparent);
    let expected = json!({ "Action": "tasks", "UserAction": "execute", "Id": "t1",
                           "Name": "Nightly orders" });
    assert_eq!(shown["notification"].to_string(), expected.to_string());
    assert_eq!(shown["deliveries"][0]["webhook"], webhook);
    let explained = world.json(&["events", "explain", id, "--source", "/elsewhere"]).await;
    assert_eq!(explained[0]["verdict"], "no-access");
    assert_eq!(explained[0].get("event"), None);
}

#[tokio::test]
async fn readers_are_listed_as_of_any_kept_revision() {
    let world = World::new().await;
    world.directory(&directory()).await;
    world
        .directory(&json!([
            user(2, &json!({ "name": "anna" })),
            { "type": "directory.role", "accessrevision": 3,
              "data": { "name": "clerk", "permissions": [read("task", "t1")] } },
            user(4, &json!({ "name": "dora", "permissions": [read("any-task", "")] })),
        ]))
        .await;
    let readers = async |at: &[&str]| {
        let args: Vec<&str> = ["access", "readers", "tasks/t1"].iter().chain(at).copied().collect();
        world.json(&args).await
    };
    let anna = json!({ "user": "anna", "scope": "task", "target": "t1", "by": "user",
                       "role": null, "since": 1 });
    let dora = json!({ "user": "dora", "scope": "any-task", "target": null, "by": "user",
                       "role": null, "since": 4 });
    let rob = |scope: &str, target: Value, role: &str, since: i64| {
        json!({ "user": "Rob", "scope": scope, "target": target, "by": "role", "role": role,
                "since": since })
    };
    let root = json!({ "user": "root", "scope": null, "target": null, "by": "administrator",
                       "role": "System Administrator", "since": 1 });
    let before = rob("any-task", Value::Null, "Clerk", 1);
    let after = rob("task", json!("t1"), "clerk", 3);
    assert_eq!(readers(&["--at", "0"]).await, json!([]));
    assert_eq!(readers(&["--at", "1"]).await, json!([anna, before, root]));
    assert_eq!(readers(&["--at", "2"]).await, json!([before, root]));
    assert_eq!(readers(&["--at", "3"]).await, json!([after, root]));
    assert_eq!(readers(&[]).await, json!([dora, after, root]));

    let check = async |user: &str, at: &str| {
        world.json(&["access", "check", user, "tasks/t1", "--at", at]).await
    };
    let answer = check("ROB", "1").await;
    assert_eq!(answer["mayRead"], true);
    assert_eq!(answer["scopes"], json!(["any-task", "task t1"]));
    assert_eq!(answer["grants"].as_array().unwrap().len(), 2, "{answer}");
    for (user, at, state, may_read) in [
        ("anna", "1", "enabled", true),
        ("ANNA", "2", "enabled", false),
        ("dora", "3", "disabled", false),
        ("dora", "4", "enabled", true),
        ("root", "4", "enabled", true),
        ("nick", "4", "enabled", false),
        ("nobody", "4", "deleted", false),
    ] {
        let answer = check(user, at).await;
        assert_eq!((&answer["userState"], &answer["mayRead"]), (&json!(state), &json!(may_read)));
        assert_eq!(answer["grants"] == json!([]), !may_read, "{answer}");
    }
    let said = world.fanfare(&["access", "check", "anna", "tasks/t1"]).await;
    assert_eq!(
        said,
        "no: anna may not read tasks/t1 as of revision 4: has none of any-task, task t1\n"
    );

    world.sql("update directory_state set oldest = 3");
    for (args, words) in [
        (["tasks/t1", "--at", "5"], "has not reached revision 5"),
        (["tasks/t1", "--at", "2"], "give --at 3 or more"),
        (["tasks", "--at", "3"], "bad-subject: the subject \"tasks\" is not"),
    ] {
        for command in [["access", "readers"].as_slice(), &["access", "check", "anna"]] {
            let all: Vec<&str> = command.iter().chain(&args).copied().collect();
            let (code, said) = fails(&world, &all).await;
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(words), "{said}");
        }
    }
}
