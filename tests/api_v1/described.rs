//! The `OpenAPI` description, compared with the answers.

use fanfare_testkit::receiver::Receiver;
use serde_json::{Map, Value, json};

use super::{Api, NOBODY_S};
use crate::api::client::send;

#[tokio::test]
async fn every_described_operation_exists_and_requires_sign_in() {
    let api = Api::start().await;
    let answer = send(api.address, "GET", "/api/openapi.json", &[], b"").await.unwrap();
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let path = path.replace("{id}", NOBODY_S);
            let method = method.to_ascii_uppercase();
            let answer = send(api.address, &method, &path, &[], b"").await.unwrap();
            let expected = if path == "/Token" { 400 } else { 401 };
            assert_eq!(answer.status, expected, "{method} {path}");
            let status = expected.to_string();
            assert!(operation["responses"][status.as_str()].is_object(), "{method} {path}");
        }
    }
    assert_eq!(operations, 40);
}

/// Checks that an answer has the members of its schema and no others.
#[track_caller]
fn check(document: &Value, schema: &str, answer: &Value) {
    let schema = &document["components"]["schemas"][schema];
    let mut known = Map::new();
    let mut required = Vec::new();
    let parts = schema["allOf"].as_array().cloned().unwrap_or_default();
    for part in std::iter::once(schema.clone()).chain(parts) {
        // Objects that may be absent as a whole.
        let option = part["anyOf"][0]["$ref"].as_str();
        let reference = option.or(part["$ref"].as_str()).map(|it| it.trim_start_matches('#'));
        let part = reference.map_or(&part, |pointer| document.pointer(pointer).unwrap());
        known.extend(part["properties"].as_object().cloned().unwrap_or_default());
        if option.is_none() {
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
    }
    let members = answer.as_object().unwrap();
    for name in members.keys() {
        assert!(known.contains_key(name), "{name} is not described: {schema}");
    }
    for name in required {
        let name = name.as_str().unwrap();
        assert!(members.contains_key(name), "{name} is missing: {answer}");
    }
}

#[tokio::test]
async fn responses_match_their_description() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("root", &receiver.url("/hook"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let event = api.delivered(&[&webhook]).await["id"].as_str().unwrap().to_owned();
    let root = api.sign_in("root").await;
    let document = root.read("/api/openapi.json").await;
    let deliveries = root.read("/api/v1/deliveries").await;
    let delivery = &deliveries["items"][0];
    check(&document, "Delivery", delivery);
    let id = delivery["id"].as_str().unwrap();
    let shown = root.read(&format!("/api/v1/deliveries/{id}")).await;
    check(&document, "Delivery", &shown);
    check(&document, "Attempt", &shown["attemptLog"][0]);
    check(&document, "Event", &root.read("/api/v1/events").await["items"][0]);
    check(&document, "Event", &root.read(&format!("/api/v1/events/{event}")).await);
    let explained = root.read(&format!("/api/v1/events/{event}/explain")).await;
    check(&document, "Explanation", &explained[0]);
    check(&document, "Statistics", &root.read("/api/v1/statistics").await);
    let shown = root.read(&format!("/api/v1/webhooks/{webhook}")).await;
    check(&document, "Webhook", &shown);
    let tested = root.send("POST", &format!("/api/v1/webhooks/{webhook}/test"), "").await.json();
    check(&document, "Tested", &tested);
    let rotated = root.send("POST", &format!("/api/v1/webhooks/{webhook}/secret"), "").await.json();
    check(&document, "Rotated", &rotated);
    let retried = root.send("POST", &format!("/api/v1/deliveries/{id}/retry"), "").await.json();
    check(&document, "Retried", &retried);
    let problem = root.get("/api/v1/deliveries?x=1").await;
    check(&document, "Problem", &serde_json::from_str(&problem.body).unwrap());
    check(&document, "WebHook", &root.read("/api/webhooks/registrations").await[0]);
    check(&document, "Filter", &root.read("/api/webhooks/filters").await[0]);
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"],
        json!({ "type": "http", "scheme": "bearer" })
    );
}

#[tokio::test]
async fn description_can_be_read_without_a_script() {
    let api = Api::start().await;
    let page = send(api.address, "GET", "/api/docs", &[], b"").await.unwrap();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.body.contains("/api/v1/deliveries/{id}/retry"));
    assert!(!page.body.contains("<script") && !page.body.contains("http://"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
}
