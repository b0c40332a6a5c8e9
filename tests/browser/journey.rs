//! What users do from sign-in to the deletion of a webhook.

use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::json;

use super::window::Window;
use super::{Desk, sign_in};
use crate::console::PASSWORD;

/// A status line that the page must not show.
const NOTHING_SAID: [&str; 0] = [];

/// A receiver that returns the value of a verification and accepts all other requests.
async fn receiver() -> Receiver {
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, _| match request.path.split_once("echo=") {
        Some((_, value)) => Reply::text(200, value.to_owned()),
        None => Reply::text(200, "<b id=answer>taken</b>"),
    });
    receiver
}

/// Marks the page, so that [`is_marked`] can see whether it was loaded again.
async fn mark(window: &Window) {
    window.run("window.marked = true").await.unwrap();
}

async fn is_marked(window: &Window) -> bool {
    window.run("return window.marked === true").await.unwrap() == json!(true)
}

/// Creates a webhook with the form, after an attempt with mistakes.
async fn create(window: &Window, receiver: &Receiver) -> String {
    window.choose("Create the first webhook").await;
    window.fill("#url", "ftp://receiver.example/").await;
    window.fill("#secret", "short").await;
    window.choose("Create webhook").await;
    window.sees("#url-error", "must be absolute with a scheme of either 'http' or 'https'").await;
    window.sees("#secret-error", "must be between 32 and 128 characters long").await;
    window.sees("[role=alert]", "2 fields need your attention").await;
    window.until("document.activeElement.id === 'url'").await;
    window.until("document.activeElement.value === 'ftp://receiver.example/'").await;
    // The refused form is a 400, which the browser's console reports.
    assert!(window.complaints().await.iter().all(|line| line.contains("400 (Bad Request)")));

    window.fill("#url", &receiver.url("/hook")).await;
    window.fill("#description", "<script>document.title = 'taken over'</script>").await;
    window.choose("Create webhook").await;
    window.sees("[role=status]", "The webhook was created").await;
    window.sees(".head", "<script>document.title").await;
    window.path().await.split('?').next().unwrap().to_owned()
}

#[tokio::test]
async fn webhook_can_be_created_tested_inspected_and_deleted() {
    let desk = Desk::new().await;
    let receiver = receiver().await;
    desk.console.add(&["anna"], &[]).await;
    desk.console.world.directory_of_anna().await;
    let window = desk.window().await;
    window.go("/webhooks").await;
    window.arrives("/sign-in").await;
    sign_in(&window, "anna", "wrong").await;
    window.sees("[role=alert]", "is incorrect").await;
    assert!(window.complaints().await.iter().all(|line| line.contains("401 (Unauthorized)")));
    sign_in(&window, "anna", PASSWORD).await;
    window.arrives("/webhooks").await;
    window.sees("h2", "There are no webhooks yet").await;
    let page = create(&window, &receiver).await;

    // The delivery and its state appear without a page load.
    window.sees("#deliveries", "Nothing was sent yet").await;
    window.choose("Send a test event").await;
    window.sees("[role=status]", "test event").await;
    mark(&window).await;
    window.sees("#deliveries .badge", "Delivered").await;
    assert!(is_marked(&window).await, "the page was loaded again");
    window.click("#deliveries tbody a").await;
    window.sees("h3", "Attempt 1").await;
    window.sees("article", "The receiver accepted it.").await;
    window.sees("article pre", "<b id=answer>taken</b>").await;
    window.until("document.getElementById('answer') === null").await;
    let sent = receiver.requests().pop().unwrap();
    window.sees("pre", &format!("ms-signature: {}", sent.header("ms-signature").unwrap())).await;
    window.sees("pre", std::str::from_utf8(&sent.body).unwrap()).await;

    window.go(&page).await;
    window.choose("Pause").await;
    window.sees(".notice.warn", "paused: by its owner").await;
    window.choose("Resume").await;
    window.sees("[role=status]", "resumed").await;
    rotate(&window).await;

    // In the grid, without a page load.
    window.go("/webhooks").await;
    mark(&window).await;
    window.choose("Pause").await;
    window.sees("tbody .badge", "Paused").await;
    window.choose("Resume").await;
    window.sees("tbody .badge", "Active").await;
    assert!(is_marked(&window).await, "the page was loaded again");

    window.choose("Delete").await;
    window.sees("h1", "Delete this webhook?").await;
    window.choose("Delete webhook").await;
    window.sees("[role=status]", "The webhook was deleted").await;
    window.sees("h2", "There are no webhooks yet").await;
    window.until("!document.title.includes('taken over')").await;
    assert_eq!(window.complaints().await, NOTHING_SAID);
    window.choose("Sign out").await;
    window.arrives("/sign-in").await;
    window.go(&page).await;
    window.arrives("/sign-in").await;
    window.close().await;
}

/// Replaces the secret; the old one stays valid for a while.
async fn rotate(window: &Window) {
    let secret = "document.getElementById('s1')";
    window.choose("Show secret").await;
    window.until(&format!("{secret}.value.length === 32")).await;
    let old = window.run(&format!("return {secret}.value")).await.unwrap();
    window.choose("Rotate").await;
    window.choose("Rotate secret").await;
    window.sees("[role=status]", "secret").await;
    window.choose("Show secret").await;
    window.until(&format!("document.getElementById('s2').value === {old}")).await;
    window.until(&format!("{secret}.value.length === 32 && {secret}.value !== {old}")).await;
}

#[tokio::test]
async fn users_see_their_own_webhooks_and_an_administrator_sees_all() {
    let desk = Desk::new().await;
    desk.console.add(&["anna", "bob"], &[]).await;
    desk.console.add(&["root"], &["--admin"]).await;
    desk.console.directory(&["anna", "bob", "root"]).await;
    let urls = [("anna", "http://192.0.2.1/annas"), ("bob", "http://192.0.2.1/bobs")];
    let mut ids = Vec::new();
    for (owner, url) in urls {
        ids.push(desk.console.world.webhook_of(owner, url, &[]).await);
    }
    for (index, (name, own)) in urls.into_iter().enumerate() {
        let (others, id) = (urls[1 - index].1, &ids[1 - index]);
        let window = desk.signed_in(name).await;
        window.sees("tbody th", own).await;
        window.until("document.querySelectorAll('tbody tr').length === 1").await;
        window.until(&format!("!document.body.textContent.includes('{others}')")).await;
        assert_eq!(window.complaints().await, NOTHING_SAID);
        for path in ["", "/edit", "/delete", "/signature"] {
            window.go(&format!("/webhooks/{id}{path}")).await;
            window.sees("h1", "There is nothing here").await;
            window.until(&format!("!document.body.textContent.includes('{others}')")).await;
        }
        window.close().await;
    }
    let window = desk.signed_in("root").await;
    window.sees(".me", "Administrator").await;
    for (name, url) in urls {
        window.sees("tbody tr", name).await;
        window.sees("tbody th", url).await;
    }
    window.fill("#q", "bobs").await;
    window.until("document.querySelectorAll('tbody tr').length === 1").await;
    window.choose("Pause").await;
    window.sees("tbody .badge", "Paused").await;
    window.go(&format!("/webhooks/{}", ids[1])).await;
    window.sees("aside", "Only its owner, bob, sees the secret").await;
    assert_eq!(window.complaints().await, NOTHING_SAID);
    window.close().await;
}
