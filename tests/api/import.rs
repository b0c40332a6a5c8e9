//! `fanfare webhooks import`: webhooks that another server's API lists are registered here.

use fanfare_testkit::process::Output;
use fanfare_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::Api;
use crate::world::unique;

/// A webhook as the old server lists it to an administrator.
fn listed(uri: &str, user: &str) -> Value {
    json!({
        "Id": unique(), "WebHookUri": uri, "Secret": unique(), "Description": "old",
        "IsPaused": true, "Filters": ["reports"], "Headers": { "X-Key": "1" },
        "Properties": { "a": 1 }, "User": user
    })
}

async fn import(api: &Api, list: &[&Value], more: &[&str]) -> Output {
    let args: Vec<&str> = ["webhooks", "import", "-"].iter().chain(more).copied().collect();
    let text = serde_json::to_string_pretty(list).unwrap();
    api.world.run(&args, Some(&text)).await
}

#[tokio::test]
async fn import_takes_over_every_webhook_that_the_old_server_lists() {
    let api = Api::start().await;
    let (anna, root) = (api.user("Anna", &[]).await, api.user("root", &["--admin"]).await);
    let annas = listed("https://example.org/hook", "anna");
    let bobs = listed("https://example.org/other", "bob");
    let output = import(&api, &[&annas, &bobs], &["--no-verify"]).await;
    assert!(output.stderr.contains("bob is not in the directory"), "{}", output.stderr);
    assert_eq!(output.success().unwrap(), "imported 2; skipped 0 that were here before\n");
    let list = anna.get(super::REGISTRATIONS).await.json();
    let mut expected = annas.clone();
    expected.as_object_mut().unwrap().remove("User");
    assert_eq!(list, json!([expected]));

    // Import what Fanfare's own API lists.
    let all = root.get(&format!("{}?user=all", super::REGISTRATIONS)).await.json();
    let new = listed("https://example.org/?noecho", "carl");
    let all: Vec<&Value> = all.as_array().unwrap().iter().chain([&new]).collect();
    let output = import(&api, &all, &[]).await.success().unwrap();
    assert_eq!(output, "imported 1; skipped 2 that were here before\n");

    // A webhook that is not registered here needs its secret.
    let mut unknown = listed("https://example.org/?noecho", "carl");
    unknown["Secret"] = Value::Null;
    let output = import(&api, &[&annas, &unknown], &[]).await;
    assert!(output.stderr.contains("entry 2: it has no Secret"), "{}", output.stderr);
}

#[tokio::test]
async fn import_with_one_wrong_entry_registers_nothing_and_names_its_line() {
    let api = Api::start().await;
    let root = api.user("root", &["--admin"]).await;
    let good = listed("https://example.org/", "anna");
    let mut short = listed("https://example.org/", "anna");
    short["Secret"] = json!("short");
    let mut without_owner = listed("https://example.org/", "anna");
    without_owner.as_object_mut().unwrap().remove("User");
    let output = import(&api, &[&good, &short, &without_owner], &["--no-verify"]).await;
    assert_eq!(output.status.code(), Some(1));
    for words in [
        "entry 2: The WebHook secret key parameter must be between 32 and 128 characters long.",
        "entry 3: it has no User; give --owner NAME",
        "2 of 3 entries of stdin can't be taken; nothing was imported",
    ] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    assert!(output.stderr.contains("line 19, entry 2"), "{}", output.stderr);
    assert_eq!(root.ids("?user=all").await, [""; 0]);
    let owned = import(&api, &[&without_owner], &["--no-verify", "--owner", "dora"]).await;
    owned.success().unwrap();
    assert_eq!(root.ids("?user=dora").await, [super::id(&without_owner)]);
}

#[tokio::test]
async fn import_verifies_addresses_unless_no_verify_is_given() {
    let api = Api::start().await;
    let root = api.user("root", &["--admin"]).await;
    let receiver = Receiver::start().await;
    let hook = listed(&receiver.url("/"), "anna");
    let output = import(&api, &[&hook], &[]).await;
    let words = "line 2, entry 1: The HTTP request echo query parameter was not returned";
    assert!(output.stderr.contains(words), "{}", output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(root.ids("?user=all").await, [""; 0]);
}
