//! The limit on a webhook's attempts per minute.

use serde_json::{Value, json};

use super::{Api, NOBODY_S, refused, wrong};

#[tokio::test]
async fn owner_can_limit_the_attempts_of_a_webhook() {
    let api = Api::start().await;
    let webhook = api.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    let (anna, bob, root) =
        (api.sign_in("anna").await, api.sign_in("bob").await, api.sign_in("root").await);
    let path = format!("/api/v1/webhooks/{webhook}");
    let shown = anna.read(&path).await;
    let expected = json!({
        "id": webhook, "owner": "anna", "url": "http://127.0.0.1:9/", "paused": false,
        "whilePaused": "drop", "heldSince": null, "rateLimit": null, "heldUntil": null, "intervalSeconds": null,
    });
    assert_eq!(shown, expected);
    for (user, body, limit) in [
        (&anna, r#"{"rateLimit":60}"#, json!(60)),
        (&anna, "{}", json!(60)),
        (&root, r#"{"rateLimit":1000000}"#, json!(1_000_000)),
        (&anna, r#"{"rateLimit":null}"#, Value::Null),
    ] {
        let answer = user.send("PATCH", &path, body).await;
        assert_eq!((answer.status, &answer.json()["rateLimit"]), (200, &limit), "{body}");
        assert_eq!(api.world.json(&["webhooks", "show", &webhook]).await["RateLimit"], limit);
    }
    for body in ["0", "-1", "1.5", "1000001", "\"60\"", "true", "[]"] {
        let body = format!(r#"{{"rateLimit":{body}}}"#);
        let problem = refused(&anna.send("PATCH", &path, &body).await, 400, "invalid-request");
        assert_eq!(wrong(&problem), ["rateLimit"], "{body}");
    }
    refused(&anna.send("PATCH", &path, r#"{"rate":60}"#).await, 400, "invalid-request");
    for other in [path.as_str(), &format!("/api/v1/webhooks/{NOBODY_S}")] {
        refused(&bob.get(other).await, 404, "not-found");
        refused(&bob.send("PATCH", other, r#"{"rateLimit":1}"#).await, 404, "not-found");
    }
    // The drop-in API has no such member, and leaves the limit unchanged.
    anna.send("PATCH", &path, r#"{"rateLimit":7}"#).await;
    let registration = format!("/api/webhooks/registrations/{webhook}");
    assert!(anna.read(&registration).await.get("RateLimit").is_none());
    let put = r#"{"WebHookUri":"http://127.0.0.1:9/","Filters":["tasks"],"RateLimit":9}"#;
    assert_eq!(anna.send("PUT", &registration, put).await.status, 200);
    assert_eq!(anna.read(&path).await["rateLimit"], 7);
}
