//! An address must return a value before notifications are sent to it.

use std::time::Duration;

use fanfare_testkit::receiver::{Receiver, Reply, Request};
use serde_json::{Value, json};

use super::{Api, failure, id, of};
use crate::world::{SOON, event};

const NO_ECHO: &str = "The HTTP request echo query parameter was not returned as plain text in the \
                       response. Please return the echo parameter to verify that the WebHook is \
                       working as expected.";

fn not_verified(reason: &str) -> Value {
    failure(&format!(
        "WebHook verification failed. Please ensure that the WebHook URI is valid and that the \
         endpoint is accessible. Error encountered: {reason}"
    ))
}

fn echo_of(request: &Request) -> String {
    let query = request.path.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let echo = query.split('&').find_map(|pair| pair.strip_prefix("echo="));
    echo.unwrap_or_default().to_owned()
}

/// A receiver that returns the echo.
async fn receiver() -> Receiver {
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, _| Reply::text(200, echo_of(request)));
    receiver
}

#[tokio::test]
async fn documented_registration_leads_to_a_notification() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let user = json!({ "name": "anna", "roles": ["System Administrator"] });
    api.world.directory(&json!({ "users": [user], "roles": [] })).await;
    let receiver = receiver().await;
    let wanted = json!({
        "WebHookUri": receiver.url("/hook?a=b"), "Filters": ["tasks"],
        "Headers": { "X-Key": "k" }, "Properties": { "Team": "blue" }
    });
    let created = anna.post(&wanted).await;
    assert_eq!(created.status, 201, "{created:?}");
    let asked = receiver.requests().remove(0);
    assert_eq!((asked.method.as_str(), asked.header("x-key")), ("GET", Some("k")));
    assert!(asked.path.starts_with("/hook?a=b&echo="), "{}", asked.path);
    let echo = echo_of(&asked);
    assert!(echo.len() == 32 && echo.bytes().all(|b| b.is_ascii_hexdigit()), "{echo}");

    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    api.world.publish(&event()).await;
    let posted = receiver.wait_for(2, SOON).await.remove(1);
    assert_eq!((posted.method.as_str(), posted.path.as_str()), ("POST", "/hook?a=b"));
    let body: Value = serde_json::from_slice(&posted.body).unwrap();
    assert_eq!(body["Properties"], json!({ "Team": "blue" }));
    assert_eq!(body["Notifications"][0]["UserAction"], "execute");
    assert!(posted.header("ms-signature").unwrap().starts_with("sha256="));
}

#[tokio::test]
async fn address_that_fails_verification_is_refused() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let receiver = receiver().await;
    let url = receiver.url("/hook");
    for (reply, expected) in [
        (Reply::text(200, ""), failure(NO_ECHO)),
        (Reply::text(200, "something else"), failure(NO_ECHO)),
        (Reply::status(404), not_verified("the endpoint answered 404 Not Found")),
        (
            Reply::status(302).with_header("location", &url),
            not_verified("the endpoint answered 302 Found"),
        ),
        (Reply::Close, not_verified("the connection was closed before the answer came")),
    ] {
        receiver.answer_with(move |_, _| reply.clone());
        anna.post(&json!({ "WebHookUri": url })).await.is(400, Some(&expected));
    }
    // A JSON string is not the plain text.
    receiver.answer_with(|request, _| Reply::text(200, format!("\"{}\"", echo_of(request))));
    anna.post(&json!({ "WebHookUri": url })).await.is(400, Some(&failure(NO_ECHO)));
    // Any 2xx status is accepted.
    receiver.answer_with(|request, _| Reply::text(202, echo_of(request)));
    assert_eq!(anna.post(&json!({ "WebHookUri": url })).await.status, 201);
    drop(receiver);
    let refused = not_verified("the connection was refused");
    anna.post(&json!({ "WebHookUri": url })).await.is(400, Some(&refused));
    assert_eq!(anna.ids("").await.len(), 1);
}

#[tokio::test]
async fn private_address_is_refused_without_details() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    for url in ["http://10.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://[::1]:1/"] {
        let answer = anna.post(&json!({ "WebHookUri": url })).await;
        assert_eq!(answer.status, 400);
        let body = answer.json();
        let message = body["Message"].as_str().unwrap();
        assert!(message.contains("WebHook verification failed."), "{message}");
        for word in ["os error", "reqwest", "hyper", "resolve error", "src/"] {
            assert!(!message.contains(word), "{message}");
        }
    }
}

#[tokio::test]
async fn noecho_in_any_letter_case_registers_without_verification() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let receiver = Receiver::start().await;
    for query in ["?noecho", "?a=b&NoEcho=1", "?NOECHO="] {
        let url = receiver.url(&format!("/{query}"));
        assert_eq!(anna.post(&json!({ "WebHookUri": url })).await.status, 201, "{query}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn change_of_the_address_is_verified() {
    let api = Api::start().await;
    let anna = api.user("anna", &[]).await;
    let receiver = receiver().await;
    let url = receiver.url("/one");
    let webhook = anna.post(&json!({ "WebHookUri": url })).await.json();
    let id = id(&webhook);
    assert_eq!(receiver.count(), 1);
    let paused = json!({ "WebHookUri": url, "IsPaused": true });
    anna.put(id, &paused).await.is(200, None);
    assert_eq!(receiver.count(), 1);
    anna.put(id, &json!({ "WebHookUri": receiver.url("/two") })).await.is(200, None);
    assert_eq!(receiver.count(), 2);
    receiver.answer_with(|_, _| Reply::status(200));
    let wrong = anna.put(id, &json!({ "WebHookUri": receiver.url("/three") })).await;
    wrong.is(400, Some(&failure(NO_ECHO)));
    assert_eq!(anna.get(&of(id)).await.json()["WebHookUri"], receiver.url("/two"));
    // A change of another user's webhook is refused before its address is contacted.
    let bob = api.user("bob", &[]).await;
    bob.put(id, &json!({ "WebHookUri": receiver.url("/four") })).await.is(404, None);
    assert_eq!(receiver.count(), 3);
}

#[tokio::test]
async fn request_in_progress_is_answered_before_the_console_stops() {
    let mut api = Api::start().await;
    let receiver = Receiver::start().await;
    let delay = Duration::from_secs(2);
    receiver.answer_with(move |request, _| Reply::text(200, echo_of(request)).after(delay));
    let token = api.user("anna", &[]).await.token;
    let (address, url) = (api.address, receiver.url("/"));
    let asking = tokio::spawn(async move {
        let bearer = format!("Bearer {token}");
        let body = json!({ "WebHookUri": url }).to_string();
        let headers = [("Authorization", bearer.as_str())];
        super::send(address, "POST", super::REGISTRATIONS, &headers, body.as_bytes()).await
    });
    receiver.wait_for(1, SOON).await;
    // An idle connection does not delay the stop.
    let _idle = tokio::net::TcpStream::connect(api.address).await.unwrap();
    api.process.terminate();
    assert_eq!(asking.await.unwrap().unwrap().status, 201);
    assert!(api.process.wait_exit(Duration::from_secs(15)).await.success());
}
