//! Owners and administrators register, read, change and delete webhooks.

use serde_json::json;

use super::client::send;
use super::{Api, QUIET, REGISTRATIONS, failure, id, of};
use crate::world::{SOON, unique};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn filter_catalogue_lists_everything_and_the_five_kinds() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let answer = anna.get("/api/webhooks/filters").await;
    let filters = answer.json();
    let names: Vec<&str> =
        filters.as_array().unwrap().iter().map(|one| one["Name"].as_str().unwrap()).collect();
    assert_eq!(names, ["*", "reports", "categories", "connections", "tasks", "alerts"]);
    assert!(answer.body.starts_with(r#"[{"Name":"*","Description":""#), "{}", answer.body);
    // The report server's routes ignore case and a slash at the end.
    assert_eq!(anna.get("/API/WebHooks/Filters/").await.status, 200);
}

#[tokio::test]
async fn webhook_can_be_created_read_changed_and_deleted() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let wanted = json!({
        "id": "ffffffffffffffffffffffffffffffff", "WEBHOOKURI": QUIET, "secret": SECRET,
        "description": "for Anna", "ispaused": true, "filters": ["TASKS", "Reports.Delete", "tasks"],
        "headers": { "X-Key": " 1 " }, "properties": { "b": 1, "a": "x", "c": null, "d": true },
        "unknown": { "deep": [1, 2] }
    });
    let created = anna.post(&wanted).await;
    assert_eq!(created.status, 201, "{created:?}");
    let webhook = created.json();
    let id = id(&webhook);
    assert!(id.len() == 32 && id.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{id}");
    assert_ne!(id, "ffffffffffffffffffffffffffffffff");
    let location = format!("http://reports.example.org{}", of(id));
    assert_eq!(created.header("location"), Some(location.as_str()));
    let expected = format!(
        concat!(
            r#"{{"Id":"{}","WebHookUri":"{}","Secret":"{}","Description":"for Anna","#,
            r#""IsPaused":true,"Filters":["tasks","reports.delete"],"Headers":{{"X-Key":"1"}},"#,
            r#""Properties":{{"b":1,"a":"x","c":null,"d":true}}}}"#
        ),
        id, QUIET, SECRET
    );
    assert_eq!(created.body, expected);
    assert_eq!(anna.get(&of(id)).await.body, expected);
    assert_eq!(anna.get(REGISTRATIONS).await.body, format!("[{expected}]"));

    // Members that a PUT leaves out return to their defaults, except the secret.
    anna.put(id, &json!({ "WebHookUri": QUIET })).await.is(200, None);
    let changed = json!({
        "Id": id, "WebHookUri": QUIET, "Secret": SECRET, "Description": null, "IsPaused": false,
        "Filters": ["*"], "Headers": {}, "Properties": {}
    });
    anna.get(&of(id)).await.is(200, Some(&changed));

    anna.send("DELETE", &of(id), b"").await.is(200, None);
    for method in ["GET", "DELETE"] {
        anna.send(method, &of(id), b"").await.is(404, None);
    }
    anna.put(id, &changed).await.is(404, None);
    assert_eq!(anna.ids("").await, [""; 0]);
}

#[tokio::test]
async fn registration_fills_in_defaults_and_generates_a_secret() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let mut secrets = Vec::new();
    for secret in [json!(null), json!("")] {
        let wanted = json!({ "WebHookUri": QUIET, "Secret": secret, "Filters": [] });
        let webhook = anna.post(&wanted).await.json();
        assert_eq!(webhook["Filters"], json!(["*"]));
        assert_eq!(webhook["IsPaused"], false);
        assert_eq!((&webhook["Headers"], &webhook["Properties"]), (&json!({}), &json!({})));
        let secret = webhook["Secret"].as_str().unwrap().to_owned();
        assert!(secret.len() == 32 && secret.bytes().all(|b| b.is_ascii_alphanumeric()));
        secrets.push(secret);
    }
    assert_ne!(secrets[0], secrets[1]);
}

#[tokio::test]
async fn put_may_repeat_the_id_and_change_the_secret() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let webhook = anna.register().await;
    let id = id(&webhook);
    let secret = "\u{1F600}".repeat(16);
    for (named, secret) in [(id.to_uppercase(), ""), (id.to_owned(), secret.as_str())] {
        let wanted = json!({ "ID": named, "WebHookUri": QUIET, "Secret": secret });
        anna.put(id, &wanted).await.is(200, None);
        let kept = if secret.is_empty() { webhook["Secret"].as_str().unwrap() } else { secret };
        assert_eq!(anna.get(&of(id)).await.json()["Secret"], kept);
    }
    let upper = id.to_uppercase();
    assert_eq!(anna.get(&of(&upper)).await.json()["Id"], id);
    let other = unique();
    let wrong = anna.put(id, &json!({ "Id": other, "WebHookUri": QUIET })).await;
    let reason = format!("The Id '{other}' is not the one in the path, '{id}'.");
    wrong.is(400, Some(&super::failure(&reason)));
}

#[tokio::test]
async fn webhooks_of_other_users_are_not_found() {
    let api = Api::start().await;
    let (anna, bob) = (api.user("anna", &[]).await, api.user("bob", &[]).await);
    let (annas, bobs) = (anna.registered().await, bob.registered().await);
    for method in ["GET", "PUT", "DELETE"] {
        let body = json!({ "WebHookUri": QUIET }).to_string();
        for path in [of(&bobs), of(&unique()), of("nonsense"), of("%ff")] {
            anna.send(method, &path, body.as_bytes()).await.is(404, None);
        }
    }
    for query in ["?user=all", "?user=bob", "?user=anna", "?USER=All"] {
        let answer = anna.get(&format!("{REGISTRATIONS}{query}")).await;
        let words = "Only a System Administrator may see the WebHooks of other users.";
        answer.is(403, Some(&json!({ "Message": words })));
    }
    anna.registered().await;
    anna.send("DELETE", REGISTRATIONS, b"").await.is(200, None);
    assert_eq!(anna.ids("").await, [""; 0]);
    anna.get(&of(&annas)).await.is(404, None);
    assert_eq!(bob.ids("").await, [bobs]);
}

#[tokio::test]
async fn administrator_manages_the_webhooks_of_all_users() {
    let api = Api::start().await;
    let (anna, bob) = (api.user("Anna", &[]).await, api.user("bob", &[]).await);
    let root = api.user("root", &["--admin"]).await;
    let (annas, bobs, roots) =
        (anna.registered().await, bob.registered().await, root.registered().await);
    assert_eq!(root.ids("").await, [roots.as_str()]);
    assert_eq!(root.ids("?user=").await, [roots.as_str()]);
    assert_eq!(root.ids("?user=all").await, [annas.as_str(), &bobs, &roots]);
    assert_eq!(root.ids("?User=BOB").await, [bobs.as_str()]);
    assert_eq!(root.ids("?user=nobody").await, [""; 0]);
    let listed = root.get(&format!("{REGISTRATIONS}?user=anna")).await;
    assert!(listed.body.ends_with(r#""Properties":{},"User":"Anna"}]"#), "{}", listed.body);
    assert_eq!(root.get(REGISTRATIONS).await.json()[0].get("User"), None);

    let change = json!({ "WebHookUri": QUIET, "IsPaused": true });
    root.put(&bobs, &change).await.is(200, None);
    assert_eq!(root.get(&of(&bobs)).await.json()["IsPaused"], true);
    assert_eq!(bob.ids("").await, [bobs.as_str()]);
    root.send("DELETE", &of(&bobs), b"").await.is(200, None);
    bob.get(&of(&bobs)).await.is(404, None);
    // `DELETE` on the collection deletes the caller's webhooks only, also for an administrator.
    root.send("DELETE", REGISTRATIONS, b"").await.is(200, None);
    assert_eq!(root.ids("?user=all").await, [annas]);
}

#[tokio::test]
async fn directory_decides_who_is_an_administrator() {
    let api = Api::start().await;
    let carl = api.user("Carl", &[]).await;
    let status = async || carl.get(&format!("{REGISTRATIONS}?user=all")).await.status;
    assert_eq!(status().await, 403);
    for (user, expected) in [
        (json!({ "name": "carl", "roles": ["system administrator"] }), 200),
        (json!({ "name": "carl", "roles": ["Report Reader"] }), 403),
        (json!({ "name": "CARL", "roles": ["System Administrator"] }), 200),
        (json!({ "name": "carl", "enabled": false, "roles": ["System Administrator"] }), 401),
        (json!({ "name": "carla", "roles": ["System Administrator"] }), 401),
    ] {
        api.world.directory(&json!({ "users": [user], "roles": [] })).await;
        assert_eq!(status().await, expected, "{user}");
    }
}

#[tokio::test]
async fn every_response_forbids_caching_and_sniffing() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    for answer in [
        anna.get(REGISTRATIONS).await,
        anna.get(&of(&unique())).await,
        api.ask("GET", REGISTRATIONS).await,
        api.ask("GET", "/nowhere").await,
        api.ask("PATCH", REGISTRATIONS).await,
        api.token("").await,
    ] {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
    }
    let origin = [("Origin", "http://elsewhere.example.org")];
    let answer = send(api.address, "OPTIONS", REGISTRATIONS, &origin, b"").await.unwrap();
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn resumed_or_moved_webhook_begins_without_failures() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let id = anna.registered().await;
    let failing = |paused: bool| {
        let set = format!("update webhooks set failing_since = now(), paused = {paused}");
        api.world.sql(&set);
    };
    let is_failing = || !api.world.sql("select failing_since from webhooks").is_empty();
    for (was_paused, wanted, expected) in [
        (true, json!({ "WebHookUri": QUIET, "IsPaused": true }), true),
        (true, json!({ "WebHookUri": QUIET }), false),
        (false, json!({ "WebHookUri": QUIET, "Description": "new" }), true),
        (false, json!({ "WebHookUri": format!("{QUIET}&new") }), false),
    ] {
        failing(was_paused);
        anna.put(&id, &wanted).await.is(200, None);
        assert_eq!(is_failing(), expected, "{wanted}");
    }
}

#[tokio::test]
async fn webhook_of_a_former_user_is_resumed_by_an_administrator_only() {
    let api = Api::start().await;
    let directory = async |names: &[&str]| {
        let users: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        api.world.directory(&json!({ "users": users, "roles": [] })).await;
    };
    directory(&["anna", "olga"]).await;
    let former = api.user("anna", &[]).await;
    let id = former.registered().await;
    directory(&["olga"]).await;
    directory(&["anna", "olga"]).await;
    assert_eq!(former.get(REGISTRATIONS).await.status, 401, "the session has ended");

    let anna = api.user("anna", &[]).await;
    let reason = "The WebHook belonged to a former user of the same name, so only a System \
                  Administrator may resume it.";
    let resumed = json!({ "WebHookUri": QUIET, "IsPaused": false });
    anna.put(&id, &resumed).await.is(400, Some(&failure(reason)));
    anna.put(&id, &json!({ "WebHookUri": QUIET, "IsPaused": true })).await.is(200, None);
    assert_eq!(anna.get(&of(&id)).await.json()["IsPaused"], true);
    let olga = api.user("olga", &["--admin"]).await;
    olga.put(&id, &resumed).await.is(200, None);
    assert_eq!(anna.get(&of(&id)).await.json()["IsPaused"], false);
}

#[tokio::test]
async fn each_change_is_logged_with_its_webhook_and_its_user() {
    let api = Api::start().await;
    let (anna, root) = (api.user("anna", &[]).await, api.user("root", &["--admin"]).await);
    let id = anna.registered().await;
    root.put(&id, &json!({ "WebHookUri": QUIET, "IsPaused": true })).await.is(200, None);
    root.send("PATCH", &format!("/api/v1/webhooks/{id}"), br#"{"rateLimit":5}"#).await;
    root.send("POST", &format!("/api/v1/webhooks/{id}/secret"), b"").await;
    anna.send("DELETE", &of(&id), b"").await.is(200, None);
    anna.send("DELETE", REGISTRATIONS, b"").await.is(200, None);
    for (message, by) in [
        ("registered a webhook", "anna"),
        ("changed a webhook", "root"),
        ("replaced a webhook's secret", "root"),
        ("deleted a webhook", "anna"),
    ] {
        let line = api.process.wait_for_line(message, SOON).await;
        assert!(line.contains(&id) && line.contains(&format!("by={by}")), "{line}");
    }
    api.process.wait_for_line("deleted all webhooks of an owner", SOON).await;
}
