//! The audit trail: who did what, when, by which door and from where.

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use crate::world::{SECRET, SOON, World, event, unique};

/// An address that needs no verification, and to which no request is sent.
const QUIET: &str = "http://192.0.2.1/hook?token=t0ken-of-the-receiver";

/// The entries that a filter selects, the oldest first.
pub(crate) async fn entries(world: &World, filter: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["audit", "list"].iter().chain(filter).copied().collect();
    let mut entries = world.json(&args).await.as_array().unwrap().clone();
    entries.reverse();
    entries
}

/// The actions of entries.
pub(crate) fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

/// Checks that no entry has any of these texts.
pub(crate) fn check_absent(world: &World, texts: &[&str]) {
    for text in texts {
        let found = format!("select count(*) from audit a where strpos(a::text, '{text}') > 0");
        assert_eq!(world.sql(&found), "0", "{text}");
    }
}

#[tokio::test]
async fn each_command_about_a_webhook_leaves_one_entry_without_a_secret() {
    let world = World::new().await;
    let header = ["--header", "X-Key: k3y-of-the-receiver"];
    let id = world.webhook_of("anna", QUIET, &header).await;
    for command in ["pause", "pause", "resume"] {
        world.fanfare(&["webhooks", command, &id]).await;
    }
    world.fanfare(&["webhooks", "set", &id, "--description", "orders", "--json"]).await;
    world.json(&["webhooks", "show", &id]).await;
    world.json(&["webhooks", "list"]).await;
    world.fanfare(&["webhooks", "list"]).await;
    world.fanfare(&["webhooks", "delete", &id]).await;

    let all = entries(&world, &[]).await;
    let expected = [
        "webhook.created",
        "webhook.paused",
        "webhook.resumed",
        "webhook.changed",
        // The command prints the changed webhook with its secret.
        "webhook.secret-revealed",
        "webhook.secret-revealed",
        "webhook.secrets-listed",
        "webhook.deleted",
    ];
    assert_eq!(actions(&all), expected, "{all:?}");
    for entry in &all {
        assert_eq!(entry["door"], "cli");
        assert!(!entry["actor"].as_str().unwrap().is_empty(), "{entry}");
        assert!(entry["address"].as_str().unwrap().contains('@'), "{entry}");
    }
    let of_webhook = entries(&world, &["--webhook", &id]).await;
    assert_eq!(of_webhook.len(), all.len() - 1);
    for entry in &of_webhook {
        let about = (&entry["objectKind"], &entry["objectId"], &entry["owner"]);
        assert_eq!(about, (&json!("webhook"), &json!(id), &json!("anna")));
    }
    let created = &all[0]["after"];
    assert!(created["secrets"][0].as_str().unwrap().starts_with("sha256:"), "{created}");
    assert!(created["headers"]["X-Key"].as_str().unwrap().starts_with("sha256:"), "{created}");
    let paused = (&all[1]["before"], &all[1]["after"]);
    let state = |paused: bool| json!({ "paused": paused, "pausedReason": null });
    assert_eq!(paused, (&state(false), &state(true)));
    assert_eq!(all[3]["before"], json!({ "description": null }));
    assert_eq!(all[3]["after"], json!({ "description": "orders" }));
    assert_eq!((&all[7]["before"]["paused"], &all[7]["after"]), (&json!(false), &Value::Null));
    check_absent(&world, &[SECRET, "k3y-of-the-receiver", "t0ken-of-the-receiver"]);
}

#[tokio::test]
async fn each_command_about_accounts_and_the_directory_leaves_one_entry() {
    let world = World::new().await;
    world.directory(&json!({ "accessrevision": 4, "users": [], "roles": [] })).await;
    world.fanfare(&["directory", "accept-revision", "5000000"]).await;
    let users = async |args: &[&str]| {
        let args: Vec<&str> = ["users"].iter().chain(args).copied().collect();
        world.fanfare_with(&args, Some("passw0rd-of-anna")).await;
    };
    users(&["add", "Anna", "--password-stdin"]).await;
    users(&["add", "anna", "--password-stdin"]).await;
    users(&["add", "Anna", "--admin", "--password-stdin"]).await;
    users(&["password", "anna", "--password-stdin"]).await;
    users(&["disable", "anna", "--reason", "on leave"]).await;
    users(&["disable", "anna"]).await;
    users(&["enable", "anna"]).await;
    users(&["enable", "anna"]).await;
    users(&["remove", "anna"]).await;
    let unknown = world.run(&["users", "remove", "anna"], None).await;
    assert!(unknown.success().is_err());

    let all = entries(&world, &[]).await;
    let of_accounts = [
        "account.created",
        "account.password-changed",
        "account.changed",
        "account.password-changed",
        "account.disabled",
        "account.enabled",
        "account.removed",
    ];
    let of_directory = ["directory.imported", "directory.revision-accepted"];
    let expected: Vec<&str> = of_directory.iter().chain(&of_accounts).copied().collect();
    assert_eq!(actions(&all), expected, "{all:?}");
    assert_eq!(actions(&entries(&world, &["--account", "ANNA"]).await), of_accounts);
    assert_eq!(all[0]["before"], json!({ "revision": 0 }));
    assert_eq!(all[1]["after"], json!({ "acceptedRevision": 5_000_000 }));
    assert_eq!(all[6]["after"]["disabledReason"], "on leave");
    assert!(all.iter().all(|entry| entry["door"] == "cli" && entry["owner"].is_null()));
    check_absent(&world, &["passw0rd-of-anna", "argon2"]);

    let disabled = entries(&world, &["--action", "account.disabled", "--since", "1h"]).await;
    assert_eq!(disabled, [all[6].clone()]);
    let actor = all[0]["actor"].as_str().unwrap();
    assert_eq!(entries(&world, &["--actor", actor]).await.len(), all.len());
    assert_eq!(entries(&world, &["--until", "1h"]).await, [] as [Value; 0]);
    assert_eq!(entries(&world, &["--limit", "2"]).await, all[all.len() - 2..]);
}

#[tokio::test]
async fn each_command_about_publishers_leaves_one_entry_without_the_token() {
    let world = World::new().await;
    let token = world.fanfare(&["publishers", "add", "Reports 1"]).await;
    let again = world.run(&["publishers", "add", "reports 1"], None).await;
    assert!(again.success().is_err());
    world.fanfare(&["publishers", "revoke", "REPORTS 1"]).await;
    let again = world.run(&["publishers", "revoke", "reports 1"], None).await;
    assert!(again.success().is_err());
    let all = entries(&world, &[]).await;
    assert_eq!(actions(&all), ["publisher.added", "publisher.revoked"], "{all:?}");
    for entry in &all {
        let about = (&entry["objectKind"], &entry["objectId"], &entry["door"]);
        assert_eq!(about, (&json!("publisher"), &json!("reports 1"), &json!("cli")));
    }
    check_absent(&world, &[token.trim()]);
}

#[tokio::test]
async fn an_import_leaves_an_entry_for_each_new_webhook() {
    let world = World::new().await;
    let listed = |secret: &str| json!({ "Id": unique(), "WebHookUri": "http://192.0.2.1/", "Secret": secret, "User": "anna" });
    let list = json!([listed(&unique()), listed(SECRET)]).to_string();
    for _ in 0..2 {
        world.fanfare_with(&["webhooks", "import", "-", "--no-verify"], Some(&list)).await;
    }
    let all = entries(&world, &["--owner", "Anna"]).await;
    assert_eq!(actions(&all), ["webhook.imported"; 2]);
    check_absent(&world, &[SECRET]);
}

#[tokio::test]
async fn a_change_that_fails_leaves_no_entry_and_none_happens_without_its_entry() {
    let world = World::new().await.with("FANFARE_WEBHOOKS_PER_OWNER", "1");
    let id = world.webhook_of("anna", QUIET, &[]).await;
    let second = ["webhooks", "add", "--no-verify", "--owner", "anna", "--url", QUIET];
    assert!(world.run(&second, None).await.success().is_err());
    assert_eq!(actions(&entries(&world, &[]).await), ["webhook.created"]);

    world.sql("revoke insert on audit from fanfare_admin");
    let webhooks = "select paused, deleted_at is null, count(*) from webhooks group by 1, 2";
    let before = world.sql(webhooks);
    for command in [
        ["webhooks", "pause", &id].as_slice(),
        &["webhooks", "delete", &id],
        &["webhooks", "show", &id],
        &["webhooks", "set", &id, "--description", "x"],
        &["users", "add", "anna", "--password-stdin"],
        &["directory", "accept-revision", "5000000"],
    ] {
        let output = world.run(command, Some("a long password")).await;
        assert!(!output.stdout.contains(SECRET), "{command:?}");
        assert!(output.success().is_err(), "{command:?}");
    }
    assert_eq!(world.sql(webhooks), before);
    assert_eq!(world.sql("select count(*) from accounts"), "0");
    assert_eq!(world.sql("select accepted_revision from directory_state"), "0");
}

#[tokio::test]
async fn pauses_by_the_service_have_its_reason() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(410));
    let gone = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    let arguments = ["--action", "webhook.paused"];
    let paused = eventually("the webhook is paused", SOON, async || {
        let found = entries(&world, &arguments).await;
        if found.is_empty() { Err(found) } else { Ok(found) }
    })
    .await;
    assert_eq!(paused.len(), 1, "{paused:?}");
    let by = (&paused[0]["actor"], &paused[0]["door"], &paused[0]["address"]);
    assert_eq!(by, (&Value::Null, &json!("system"), &Value::Null));
    assert_eq!(paused[0]["webhook"], gone.as_str());
    assert_eq!(paused[0]["after"], json!({ "paused": true, "pausedReason": "gone" }));

    // The name of a former user returns.
    world.fanfare_with(&["users", "add", "bob", "--password-stdin"], Some("a long password")).await;
    let bobs = world.webhook_of("bob", QUIET, &[]).await;
    for users in [json!([{ "name": "bob" }]), json!([]), json!([{ "name": "bob" }])] {
        world.directory(&json!({ "users": users, "roles": [] })).await;
    }
    let recreated = entries(&world, &["--webhook", &bobs, "--action", "webhook.paused"]).await;
    assert_eq!(recreated.len(), 1, "{recreated:?}");
    assert_eq!((&recreated[0]["door"], &recreated[0]["owner"]), (&json!("system"), &json!("bob")));
    assert_eq!(recreated[0]["objectId"], bobs.as_str());
    assert_eq!(recreated[0]["after"]["pausedReason"], "owner-recreated");
    let disabled = entries(&world, &["--account", "bob", "--action", "account.disabled"]).await;
    assert_eq!(disabled[0]["after"]["disabledReason"], "owner-recreated");
}

/// An auditor's question: who paused this webhook, and what happened to its deliveries since?
#[tokio::test]
async fn the_trail_says_who_paused_a_webhook_and_the_ledger_what_became_of_its_deliveries() {
    let world = World::new().await.with("FANFARE_RETRY_FIRST", "2s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    world.deliveries(&webhook, "retrying", 1).await;
    world.fanfare(&["webhooks", "pause", &webhook]).await;

    let paused = entries(&world, &["--webhook", &webhook, "--action", "webhook.paused"]).await;
    let [paused] = paused.as_slice() else { panic!("{paused:?}") };
    assert_eq!((&paused["door"], &paused["before"]["paused"]), (&json!("cli"), &json!(false)));
    let since = paused["at"].as_str().unwrap();
    let dropped = &world.deliveries(&webhook, "dropped", 1).await[0];
    assert_eq!(dropped["reason"], "webhook-paused");
    assert!(dropped["finishedAt"].as_str().unwrap() >= since, "{dropped} {paused}");
}

#[tokio::test]
async fn dead_letters_and_retries_leave_entries_for_the_owner() {
    let world = World::new().await.with("FANFARE_RETRY_ATTEMPTS", "1");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let mut unknown = event();
    unknown["type"] = json!("galaxies.create");
    world.publish(&unknown).await;
    world.publish(&event()).await;
    let dead = &world.deliveries(&webhook, "dead", 1).await[0];
    let letters = eventually("two dead letters", SOON, async || {
        let list = world.json(&["dead-letters", "list"]).await;
        if list.as_array().unwrap().len() == 2 { Ok(list) } else { Err(list) }
    })
    .await;
    world.fanfare(&["dead-letters", "replay", "--all", "--dry-run"]).await;
    world.fanfare(&["dead-letters", "replay", "--webhook", &webhook]).await;
    world.fanfare(&["dead-letters", "discard", "--reason", "unknown-filter"]).await;
    world.deliveries(&webhook, "dead", 1).await;
    world.fanfare(&["deliveries", "retry", dead["id"].as_str().unwrap()]).await;

    let of_letters = |entry: &Value| !entry["objectKind"].as_str().unwrap().starts_with("webhook");
    let all: Vec<Value> = entries(&world, &[]).await.into_iter().filter(of_letters).collect();
    let expected =
        ["directory.imported", "dead-letter.replayed", "dead-letter.discarded", "delivery.retried"];
    assert_eq!(actions(&all), expected, "{all:?}");
    for entry in [&all[1], &all[3]] {
        let about = (&entry["objectKind"], &entry["objectId"], &entry["webhook"], &entry["owner"]);
        assert_eq!(about, (&json!("delivery"), &dead["id"], &json!(webhook), &json!("anna")));
    }
    assert_eq!(all[1]["before"]["reason"], "exhausted");
    let discarded = letters.as_array().unwrap().iter().find(|it| it["queue"] == "events").unwrap();
    assert_eq!(
        (&all[2]["objectKind"], &all[2]["objectId"]),
        (&json!("dead-letter"), &discarded["id"])
    );
    assert_eq!(all[2]["before"]["event"], unknown["id"]);
    assert_eq!(all[3]["after"], json!({ "state": "pending" }));
}
