//! The audit trail by the API: administrators see all of it, and users what concerns their webhooks.

use serde_json::{Value, json};

use super::{Api, User, refused, wrong};
use crate::audit::{actions, check_absent};
use crate::world::SECRET;

const AUDIT: &str = "/api/v1/audit";
const REGISTRATIONS: &str = "/api/webhooks/registrations";
const QUIET: &str = "http://192.0.2.1/hook?noecho";

/// The entries of a page, the oldest first.
async fn entries(user: &User, query: &str) -> Vec<Value> {
    let page = user.read(&format!("{AUDIT}?limit=1000&{query}")).await;
    let mut items = page["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

/// Registers, changes, pauses, rotates and deletes a webhook; returns its id.
async fn life(anna: &User) -> String {
    let mut body = json!({
        "WebHookUri": QUIET, "Secret": SECRET, "Headers": { "X-Key": "k3y-of-the-receiver" }
    });
    let registered = anna.post(REGISTRATIONS, &body).await.json();
    let id = registered["Id"].as_str().unwrap().to_owned();
    let path = format!("{REGISTRATIONS}/{id}");
    body["Description"] = json!("orders");
    body["IsPaused"] = json!(true);
    for _ in 0..2 {
        assert_eq!(anna.send("PUT", &path, &body.to_string()).await.status, 200);
    }
    let limited = anna.send("PATCH", &format!("/api/v1/webhooks/{id}"), r#"{"rateLimit":5}"#).await;
    assert_eq!(limited.status, 200, "{limited:?}");
    body["IsPaused"] = json!(false);
    assert_eq!(anna.send("PUT", &path, &body.to_string()).await.status, 200);
    let secret = json!({ "secret": "n3w-secret-of-anna-n3w-secret-of-anna" });
    let rotated = anna.post(&format!("/api/v1/webhooks/{id}/secret"), &secret).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(anna.send("DELETE", &path, "").await.status, 200);
    id
}

#[tokio::test]
async fn each_request_leaves_one_entry_and_users_see_only_their_own() {
    let api = Api::start().await;
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let root = api.sign_in("root").await;
    let id = life(&anna).await;
    let own = entries(&anna, "").await;
    let expected = [
        "webhook.created",
        "webhook.changed",
        "webhook.paused",
        "webhook.changed",
        "webhook.resumed",
        "webhook.secret-rotated",
        "webhook.deleted",
    ];
    assert_eq!(actions(&own), expected, "{own:?}");
    for entry in &own {
        let by = (&entry["actor"], &entry["door"], &entry["address"]);
        assert_eq!(by, (&json!("anna"), &json!("api"), &json!("127.0.0.1")));
        let about = (&entry["objectId"], &entry["webhook"], &entry["owner"]);
        assert_eq!(about, (&json!(id), &json!(id), &json!("anna")));
    }
    assert_eq!(own[3]["before"], json!({ "rateLimit": null }));
    let (old, new) = (&own[5]["before"]["secrets"], &own[5]["after"]["secrets"]);
    assert_eq!((&new[1], new.as_array().unwrap().len()), (&old[0], 2));
    assert_eq!(entries(&root, &format!("webhook={id}")).await, own);
    assert_eq!(entries(&root, "owner=ANNA&actor=Anna").await, own);
    assert_eq!(entries(&bob, "").await, [] as [Value; 0]);
    assert_eq!(entries(&bob, &format!("webhook={id}")).await, [] as [Value; 0]);
    refused(&bob.get(&format!("{AUDIT}?owner=anna")).await, 403, "forbidden");
    check_absent(&api.world, &[SECRET, "n3w-secret-of-anna", "k3y-of-the-receiver"]);
}

#[tokio::test]
async fn an_owner_sees_who_changed_a_webhook_but_not_from_where() {
    let api = Api::start().await;
    let id = api.world.webhook_of("anna", QUIET, &[]).await;
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);
    let body = json!({ "WebHookUri": QUIET, "IsPaused": true }).to_string();
    let path = format!("{REGISTRATIONS}/{id}");
    assert_eq!(root.send("PUT", &path, &body).await.status, 200);
    let asked = format!("/api/v1/webhooks/{id}/retry-failed");
    refused(&anna.post(&asked, &json!({})).await, 409, "webhook-paused");

    let paused = entries(&anna, "action=webhook.paused").await;
    let [paused] = paused.as_slice() else { panic!("{paused:?}") };
    assert_eq!((&paused["actor"], &paused["address"]), (&json!("root"), &Value::Null));
    let created = entries(&anna, "action=webhook.created").await;
    assert_eq!((&created[0]["door"], &created[0]["address"]), (&json!("cli"), &Value::Null));
    let seen = entries(&root, "action=webhook.paused").await;
    assert_eq!(seen[0]["address"], "127.0.0.1");
    assert!(entries(&anna, "").await.iter().all(|entry| entry["objectKind"] == "webhook"));
    assert!(entries(&root, "account=bob").await.iter().all(|it| it["objectId"] == "bob"));
}

#[tokio::test]
async fn pages_have_each_entry_once_and_wrong_filters_are_refused() {
    let api = Api::start().await;
    let root = api.sign_in("root").await;
    for n in 0..4 {
        api.world.webhook_of("anna", &format!("http://192.0.2.{n}/"), &[]).await;
    }
    let all = entries(&root, "").await;
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = root.read(&format!("{AUDIT}?limit=3{cursor}")).await;
        walked.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    walked.reverse();
    assert_eq!(walked, all);
    let times = format!("since={}&until={}", text(&all[1]["at"]), text(&all[3]["at"]));
    let within: Vec<&Value> = all.iter().filter(|it| it["id"] == all[1]["id"]).collect();
    assert!(entries(&root, &times).await.contains(within[0]));
    let answer = root.get(&format!("{AUDIT}?action=webhook.painted&webhook=7&since=now")).await;
    let problem = refused(&answer, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["action", "webhook", "since"]);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
