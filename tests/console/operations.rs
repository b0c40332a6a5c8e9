//! Bulk operations on dead letters on the console's pages.

use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;

use super::Console;
use crate::world::SOON;

#[tokio::test]
async fn an_administrator_counts_letters_and_replays_them() {
    let console = Console::start().await;
    let receiver = Receiver::start().await;
    let webhook = console.world.webhook(&receiver.url("/hook")).await;
    console.world.insert_dead(&webhook, 12);
    let mut bob = console.user("bob").await;
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    assert!(root.page("/operations").await.contains("There is no operation"));
    let new = format!("/operations/new?kind=replay&webhook={webhook}");
    let html = root.page(&new).await;
    assert!(html.contains("12 letters would be replayed") && html.contains(&webhook), "{html}");

    let fields = [("kind", "replay"), ("webhook", &*webhook), ("canary", "yes"), ("note", "fixed")];
    let wrong: Vec<_> = fields.iter().copied().chain([("rate", "fast")]).collect();
    let answer = root.submit(&new, "/operations", &wrong).await;
    let path = answer.header("location").unwrap().to_owned();
    assert!(root.page(&path).await.contains("The rate is a whole number"));
    let answer = root.submit(&new, "/operations", &fields).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let path = answer.header("location").unwrap().to_owned();
    let html = root.page(&path).await;
    for text in ["Running.", "0 of 12", "fixed", "by root", "Pause", "hx-get"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert_eq!(bob.get(&path).await.status, 404);
    assert_eq!(root.post(&format!("{path}/cancel"), &[]).await.status, 403);

    let answer = root.submit(&path, &format!("{path}/pause"), &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some(path.as_str())));
    let html = root.page(&path).await;
    assert!(html.contains("Paused.") && html.contains("Resume"), "{html}");
    root.submit(&path, &format!("{path}/resume"), &[]).await;
    let _processes = [console.world.start("router").await, console.world.start("worker").await];
    let html = eventually("it is done", 3 * SOON, async || {
        let html = root.page(&path).await;
        if html.contains("Done.") { Ok(html) } else { Err(html) }
    })
    .await;
    assert!(html.contains("12 of 12") && !html.contains("hx-get"), "{html}");
    assert_eq!(receiver.count(), 12);
    let html = root.page("/operations").await;
    assert!(html.contains("Replay 12 letters") && html.contains("12 delivered"), "{html}");
}

#[tokio::test]
async fn an_administrator_finds_what_failed_and_replays_it() {
    let console = Console::start().await;
    let receiver = Receiver::start().await;
    let webhook = console.world.webhook(&receiver.url("/hook")).await;
    console.world.insert_dead(&webhook, 3);
    let mut bob = console.user("bob").await;
    assert_eq!(bob.get("/dead-letters").await.status, 404);
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    let html = root.page("/dead-letters").await;
    for text in ["Replay 3 letters", "exhausted", "All attempts failed.", "127.0.0.1", "of anna"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    let host = root.page("/dead-letters?by=host").await;
    let narrowed = "/dead-letters?host=127.0.0.1&#38;by=cause";
    assert!(host.contains(narrowed), "{host}");
    let html = root.page(&narrowed.replace("&#38;", "&")).await;
    let replay = "/operations/new?kind=replay&#38;host=127.0.0.1";
    assert!(html.contains(replay) && html.contains("Remove the filter host"), "{html}");
    let html = root.page("/dead-letters?host=elsewhere").await;
    assert!(html.contains("No dead letter matches."), "{html}");
    let html = root.page("/dead-letters?status=many").await;
    assert!(html.contains("can’t be read"), "{html}");

    let letters = console.world.json(&["dead-letters", "list"]).await;
    let id = letters[0]["id"].as_str().unwrap();
    let path = format!("/dead-letters/letter?id={id}");
    let html = root.page(&path).await;
    for text in ["The receiver did not accept it.", &*webhook, id, "Replay…"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert_eq!(root.get("/dead-letters/letter?id=none").await.status, 404);
    assert_eq!(bob.get(&path).await.status, 404);
}

#[tokio::test]
async fn an_owner_pauses_with_a_hold_and_counts_what_was_missed() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let webhook = console.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    let page = format!("/webhooks/{webhook}");
    assert!(anna.page(&page).await.contains("Pause and hold"));
    let answer = anna.submit(&page, &format!("{page}/pause"), &[("while", "hold")]).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    for path in [page.as_str(), "/webhooks"] {
        let html = anna.page(path).await;
        assert!(html.contains("0 deliveries wait for it to be resumed"), "{html}");
    }
    let resumed = anna.submit(&page, &format!("{page}/resume"), &[]).await;
    assert_eq!(resumed.status, 303, "{resumed:?}");
    let new = format!("/operations/new?kind=recover&webhook={webhook}");
    let html = anna.page(&new).await;
    assert!(html.contains("Missed since") && !html.contains("would be sent"), "{html}");
    let html = anna.page(&format!("{new}&last=24h")).await;
    assert!(html.contains("0 deliveries would be sent"), "{html}");
    let html = anna.page(&format!("{new}&last=exact&at=soon")).await;
    assert!(html.contains("Write a date and a time"), "{html}");
    // Only administrators recover for more than a webhook of their own.
    assert_eq!(anna.get("/operations/new?kind=recover").await.status, 404);
    let mut bob = console.user("bob").await;
    assert_eq!(bob.get(&new).await.status, 404);
}
