//! Test events: they are processed as all events are, for one webhook.

use fanfare_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::{Api, NOBODY_S, refused};
use crate::world::SOON;

fn path(webhook: &str) -> String {
    format!("/api/v1/webhooks/{webhook}/test")
}

#[tokio::test]
async fn test_event_reaches_its_webhook_only_and_is_listed() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let other = api.world.webhook_of("bob", &receiver.url("/bob"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);
    let answer = anna.send("POST", &path(&webhook), "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let tested = answer.json();
    let request = receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(request.path, "/anna");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["Id"], tested["delivery"]);
    let expected = json!({
        "Action": "tasks", "UserAction": "test", "Id": "fanfare-test",
        "Name": "A test, asked for by anna", "Test": true,
    });
    assert_eq!(body["Notifications"], json!([expected]));
    api.world.deliveries(&webhook, "delivered", 1).await;
    let listed = &anna.read("/api/v1/deliveries").await["items"][0];
    assert_eq!(listed["id"], tested["delivery"]);
    assert_eq!(listed["events"], json!([tested["event"]]));
    assert_eq!(listed["types"], json!(["tasks.test"]));
    assert_eq!(listed["createdAt"], tested["createdAt"]);

    let event = tested["event"].as_str().unwrap();
    let explained = root.read(&format!("/api/v1/events/{event}/explain")).await;
    let verdict = |id: &str| {
        let all = explained.as_array().unwrap();
        all.iter().find(|one| one["webhook"] == id).unwrap()["verdict"].clone()
    };
    assert_eq!((verdict(&webhook), verdict(&other)), (json!("sent"), json!("test-of-another")));
    // A later event reaches both webhooks. So the other one did not get the test event.
    api.delivered(&[&webhook, &other]).await;
    assert_eq!(receiver.requests().iter().filter(|it| it.path == "/bob").count(), 1);
}

#[tokio::test]
async fn test_event_response_says_why_no_event_would_be_sent() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/hook");
    let paused = api.world.webhook_of("anna", &url, &["--paused"]).await;
    let reports = api.world.webhook_of("anna", &url, &["--filter", "reports"]).await;
    let ownerless = api.world.webhook_of("carl", &url, &[]).await;
    let bobs = api.world.webhook_of("bob", &url, &[]).await;
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);
    refused(&anna.send("POST", &path(&paused), "").await, 409, "webhook-paused");
    let problem = refused(&anna.send("POST", &path(&reports), "").await, 409, "nothing-readable");
    assert!(problem["detail"].as_str().unwrap().contains("anna may read no resource"), "{problem}");
    refused(&root.send("POST", &path(&ownerless), "").await, 409, "owner-deleted");
    for id in [bobs.as_str(), NOBODY_S, "x"] {
        refused(&anna.send("POST", &path(id), "").await, 404, "not-found");
    }
    assert_eq!(root.read("/api/v1/deliveries").await["items"], json!([]));
}

#[tokio::test]
async fn owner_has_at_most_ten_test_events_at_once_regardless_of_the_caller() {
    let api = Api::start().await;
    let annas = api.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    let another = api.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    let bobs = api.world.webhook_of("bob", "http://127.0.0.1:9/", &[]).await;
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);
    for n in 0..10 {
        let (user, webhook) = if n % 2 == 0 { (&anna, &annas) } else { (&root, &another) };
        assert_eq!(user.send("POST", &path(webhook), "").await.status, 202, "{n}");
    }
    let answer = anna.send("POST", &path(&another), "").await;
    refused(&answer, 429, "too-many-requests");
    let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&seconds), "{seconds}");
    assert_eq!(root.send("POST", &path(&bobs), "").await.status, 202);
}
