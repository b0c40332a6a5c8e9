//! Rotation of a webhook's secret.

use chrono::{DateTime, Utc};
use fanfare_core::signature::{verify_ms_signature, verify_webhook_signature};
use fanfare_core::webhook::Secret;
use fanfare_testkit::receiver::{Receiver, Request};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use super::{Api, refused, wrong};
use crate::world::{SECRET, SOON, event};

/// Whether a secret is one of those that signed a request.
fn signed(request: &Request, secret: &Secret) -> bool {
    let header = |name| request.header(name).unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    verify_webhook_signature(secret, id, timestamp, &request.body, header("webhook-signature"))
}

fn entries(request: &Request) -> usize {
    request.header("webhook-signature").unwrap().split(' ').count()
}

#[tokio::test]
async fn both_secrets_sign_until_the_old_one_expires() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let anna = api.sign_in("anna").await;
    // The worker has the webhook with the old secret in memory.
    api.delivered(&[&webhook]).await;
    let path = format!("/api/v1/webhooks/{webhook}/secret");
    let rotated = anna.post(&path, &json!({ "overlap": "6s" })).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let rotated = rotated.json();
    let (old, new): (Secret, Secret) =
        (SECRET.parse().unwrap(), rotated["secret"].as_str().unwrap().parse().unwrap());
    let until: DateTime<Utc> = rotated["previousUntil"].as_str().unwrap().parse().unwrap();
    // A change of another member does not change the old secret's expiry.
    let mut changed = anna.read(&format!("/api/webhooks/registrations/{webhook}")).await;
    assert_eq!(changed["Secret"], rotated["secret"]);
    changed["Description"] = json!("changed");
    changed["WebHookUri"] = json!(format!("{}?noecho", receiver.url("/hook")));
    let put = format!("/api/webhooks/registrations/{webhook}");
    assert_eq!(anna.send("PUT", &put, &changed.to_string()).await.status, 200);

    eventually("the new secret signs alone", SOON, async || {
        let seen = receiver.count();
        api.world.publish(&event()).await;
        let requests = receiver.wait_for(seen + 1, SOON).await;
        (entries(&requests[seen]) == 1).then_some(())
    })
    .await;
    let requests = receiver.requests();
    assert!(!signed(&requests[0], &new) && signed(&requests[0], &old));
    let (both, alone): (Vec<_>, Vec<_>) =
        requests.iter().filter(|it| signed(it, &new)).partition(|it| entries(it) == 2);
    assert!(!both.is_empty() && !alone.is_empty());
    for request in &both {
        assert!(signed(request, &old));
        assert!(verify_ms_signature(&new, &request.body, request.header("ms-signature").unwrap()));
    }
    let time = |request: &Request| -> i64 {
        request.header("webhook-timestamp").unwrap().parse().unwrap()
    };
    // The processes of this test have the same clock.
    assert!(both.iter().all(|request| time(request) <= until.timestamp()));
    assert!(alone.iter().all(|request| time(request) >= until.timestamp()));
    assert!(alone.iter().all(|request| !signed(request, &old)));
}

#[tokio::test]
async fn secret_is_replaced_by_its_owner_or_an_administrator_and_only_by_a_valid_one() {
    let api = Api::start().await;
    let webhook = api.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let path = format!("/api/v1/webhooks/{webhook}/secret");
    refused(&bob.post(&path, &json!({})).await, 404, "not-found");
    for (body, names) in [
        (
            json!({ "secret": "short", "overlap": "8d" }).to_string(),
            ["secret", "overlap"].as_slice(),
        ),
        (json!({ "overlap": "-1h" }).to_string(), &["overlap"]),
        (json!({ "overlap": 24 }).to_string(), &[""]),
        (json!({ "grace": "1h" }).to_string(), &[""]),
        ("{".to_owned(), &[""]),
    ] {
        let problem = refused(&anna.send("POST", &path, &body).await, 400, "invalid-request");
        assert_eq!(wrong(&problem), names, "{body}");
    }
    let unchanged = anna.read(&format!("/api/webhooks/registrations/{webhook}")).await;
    assert_eq!(unchanged["Secret"], SECRET);
    // Without a body a secret is generated, and the old one is valid for a day.
    let root = api.sign_in("root").await;
    let rotated = root.send("POST", &path, "").await.json();
    let until: DateTime<Utc> = rotated["previousUntil"].as_str().unwrap().parse().unwrap();
    let hours = (until - DateTime::<Utc>::from(std::time::SystemTime::now())).num_minutes();
    assert!((23 * 60..=24 * 60).contains(&hours), "{until}");
    let own = "fedcba9876543210fedcba9876543210";
    let rotated = anna.post(&path, &json!({ "secret": own, "overlap": "0" })).await;
    assert_eq!(rotated.json()["secret"], own);
}
