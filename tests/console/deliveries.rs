//! The deliveries of a webhook, their attempts, and the test event.

use std::time::Duration;

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::Console;
use super::browser::Browser;
use crate::world::{SOON, World, event};

/// An answer that contains markup.
const ANSWER: &str = "<script>alert('answer')</script><img src=x onerror=alert(1)>";

/// The time that a slow receiver takes to answer.
const SLOW: Duration = Duration::from_millis(100);

/// The headers that a receiver gets.
const HEADERS: [&str; 9] = [
    "ms-signature",
    "webhook-signature",
    "webhook-timestamp",
    "webhook-id",
    "content-type",
    "content-length",
    "user-agent",
    "accept",
    "host",
];

/// A console, with a router and a worker that are ready.
async fn delivering() -> (Console, [Process; 2]) {
    let world = World::new().await;
    let processes = [world.start("router").await, world.start("worker").await];
    (Console::on(world).await, processes)
}

/// Waits until a page has this text; returns its HTML.
async fn until(browser: &mut Browser, path: &str, text: &str) -> String {
    eventually(&format!("{path} says {text}"), SOON, async || {
        let html = browser.page(path).await;
        if html.contains(text) { Ok(html) } else { Err(html) }
    })
    .await
}

#[tokio::test]
async fn delivery_can_be_followed_from_the_list_to_its_bytes() {
    let (console, _delivering) = delivering().await;
    let world = &console.world;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| Reply::text(if count < 1 { 500 } else { 200 }, ANSWER));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let mut anna = console.user("anna").await;
    let page = format!("/webhooks/{webhook}");
    assert!(anna.page(&page).await.contains("Nothing was sent yet"));
    world.publish(&event()).await;
    let requests = receiver.wait_for(2, SOON).await;

    let html = until(&mut anna, &page, "Delivered</span>").await;
    assert!(html.contains("tasks.execute") && html.contains(r#"hx-trigger="every 2s""#));
    let part = anna.page(&format!("{page}/deliveries?state=delivered")).await;
    assert!(part.contains("tasks.execute") && !part.contains("<html"));
    assert!(anna.page(&format!("{page}?state=dead")).await.contains("No delivery is Dead."));
    let html = until(&mut anna, "/webhooks", "% ok").await;
    assert!(html.contains("50% ok") && html.contains(r#"label="1 succeeded, 1 failed""#), "{html}");

    let delivery = world.json(&["deliveries", "list", "--webhook", &webhook]).await;
    let delivery = delivery[0]["id"].as_str().unwrap().to_owned();
    let shown = format!("{page}/deliveries/{delivery}");
    let html = anna.page(&shown).await;
    assert!(html.contains("Attempt 1 ") && html.contains("Attempt 2 "));
    assert!(!html.contains("<script>alert") && !html.contains("<img src=x"));
    assert_eq!(html.matches("&#60;script&#62;alert").count(), 2);
    for (number, request) in (1..).zip(&requests) {
        let file = anna.get(&format!("{shown}/body?attempt={number}")).await;
        assert_eq!(file.body.as_bytes(), &request.body[..]);
        assert!(file.header("content-disposition").unwrap().starts_with("attachment"));
        let html = anna.page(&format!("{shown}?attempt={number}")).await;
        assert!(html.contains("POST /hook HTTP/1.1") && html.contains("not changed since"));
        for name in HEADERS {
            let value = request.header(name).unwrap().replace('+', "&#43;");
            let line = format!("{name}: {}", request.header(name).unwrap());
            assert!(html.contains(&line) || html.contains(&format!("{name}: {value}")), "{line}");
        }
    }

    let answer = anna.submit(&shown, &format!("{shown}/resend"), &[]).await;
    assert_eq!(answer.status, 303);
    let html = anna.page(answer.header("location").unwrap()).await;
    assert!(html.contains("attempted again"), "{html}");
    let again = receiver.wait_for(3, 3 * SOON).await;
    let body: Value = serde_json::from_slice(&again[2].body).unwrap();
    assert_eq!((&body["Attempt"], &body["Id"]), (&json!(3), &json!(delivery)));

    // With another secret the signatures differ from those that were sent.
    let rotate = format!("{page}/secret/rotate");
    assert_eq!(anna.submit(&page, &rotate, &[("overlap", "24h")]).await.status, 303);
    let html = anna.page(&format!("{shown}?attempt=1")).await;
    assert!(html.contains("changed or paused after this attempt"), "{html}");
}

#[tokio::test]
async fn attempt_page_shows_timings_and_response_headers() {
    let (console, _delivering) = delivering().await;
    let world = &console.world;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| match count {
        0 => Reply::text(500, "no").with_header("X-Why", ANSWER).after(SLOW),
        _ => Reply::status(200),
    });
    let url = format!("http://localhost:{}/hook", receiver.addr().port());
    let webhook = world.webhook(&url).await;
    let mut anna = console.user("anna").await;
    world.publish(&event()).await;
    let delivery = world.deliveries(&webhook, "delivered", 1).await[0]["id"].clone();
    let delivery = delivery.as_str().unwrap();
    assert_eq!((receiver.count(), receiver.connections()), (2, 1));

    let shown = world.json(&["deliveries", "show", delivery]).await;
    let (first, second) = (&shown["attemptLog"][0], &shown["attemptLog"][1]);
    let part = |name: &str| first["timings"][name].as_u64();
    assert_eq!(first["timings"]["reusedConnection"], false);
    assert!(part("dnsMs").is_some() && part("tlsMs").is_none(), "{shown}");
    assert!(part("firstByteMs").unwrap() >= 100, "{shown}");
    let parts = ["dnsMs", "connectMs", "firstByteMs"].map(|name| part(name).unwrap());
    assert!(parts.iter().sum::<u64>() <= first["durationMs"].as_u64().unwrap(), "{shown}");
    assert_eq!(first["responseHeaders"][0], json!({ "name": "x-why", "value": ANSWER }));
    assert_eq!(second["timings"]["reusedConnection"], true);
    assert_eq!(second["responseHeaders"], json!(null));
    assert!(world.fanfare(&["deliveries", "show", delivery]).await.contains("open connection"));

    let html = anna.page(&format!("/webhooks/{webhook}/deliveries/{delivery}")).await;
    let (second, first) = html.split_once(r#"id="a1""#).unwrap();
    for part in ["DNS <b>", "Connect <b>", "First byte <b>", "Total <b>", "x-why: &#60;script"] {
        assert!(first.contains(part) && !second.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("<script>alert") && !html.contains("<img src=x"));
    let open = "over a connection that was open already";
    assert!(second.contains(open) && !first.contains(open), "{html}");
}

#[tokio::test]
async fn event_an_owner_may_no_longer_read_is_not_shown() {
    let (console, _delivering) = delivering().await;
    let world = &console.world;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    console.add(&["root"], &["--admin"]).await;
    let mut anna = console.user("anna").await;
    world.publish(&event()).await;
    let delivery = world.deliveries(&webhook, "delivered", 1).await[0]["id"].clone();
    let shown = format!("/webhooks/{webhook}/deliveries/{}", delivery.as_str().unwrap());
    assert!(anna.page(&shown).await.contains("Nightly orders"));
    world.directory(&json!({ "users": [{ "name": "anna" }], "roles": [] })).await;
    let html = anna.page(&shown).await;
    assert!(!html.contains("Nightly orders") && html.contains("The request is hidden"), "{html}");
    assert_eq!(anna.get(&format!("{shown}/body")).await.status, 404);
    assert!(console.signed_in("root").await.page(&shown).await.contains("Nightly orders"));
}

#[tokio::test]
async fn test_event_page_shows_whether_the_receiver_works() {
    let (console, _delivering) = delivering().await;
    let world = &console.world;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let mut anna = console.user("anna").await;
    let page = format!("/webhooks/{webhook}");
    let answer = anna.submit(&page, &format!("{page}/test"), &[]).await;
    assert_eq!(answer.header("location"), Some(format!("{page}?done=tested").as_str()));
    let request = &receiver.wait_for(1, 3 * SOON).await[0];
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["Notifications"][0]["UserAction"], "test");
    until(&mut anna, &page, "Delivered</span>").await;
    // A user who may read nothing gets no events, not even a test event.
    world.directory(&json!({ "users": [{ "name": "anna" }], "roles": [] })).await;
    let answer = anna.submit(&page, &format!("{page}/test"), &[]).await;
    let html = anna.page(answer.header("location").unwrap()).await;
    assert!(html.contains("A test event could not be sent"), "{html}");
}
