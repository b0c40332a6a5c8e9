//! The page of notices.

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use super::Console;
use crate::world::{SOON, World, event};

#[tokio::test]
async fn owners_see_the_notices_of_their_webhooks_and_administrators_see_all() {
    let console = Console::on(World::new().await.with("FANFARE_NOTICES_EVERY", "1s")).await;
    let world = &console.world;
    let read = json!({ "access": ["read"], "scope": "any-task", "target": "" });
    let users = json!([{ "name": "anna", "permissions": [read] }, { "name": "bob" }]);
    world.directory(&json!({ "users": users, "roles": [] })).await;
    let _processes = [world.start("router").await, world.start("worker").await];
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(410));
    let webhook = world.webhook_of("anna", &receiver.url("/hook?token=abc"), &[]).await;
    let mut anna = console.user("anna").await;
    let mut bob = console.user("bob").await;
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    let html = anna.page("/notices").await;
    assert!(html.contains("There is no notice."), "{html}");

    world.publish(&event()).await;
    let html = eventually("the notice of the pause", SOON, async || {
        let html = root.page("/notices").await;
        if html.contains("webhook.paused") { Ok(html) } else { Err(html) }
    })
    .await;
    for text in ["was paused (gone)", "127.0.0.1", &format!("/webhooks/{webhook}"), "Exchange: "] {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert!(!html.contains("token=abc"), "{html}");
    let html = anna.page("/notices").await;
    assert!(html.contains("was paused (gone)") && !html.contains("Exchange: "), "{html}");
    assert!(bob.page("/notices").await.contains("There is no notice."));
    let older = root.page("/notices?after=00000000000000000000000000000000").await;
    assert!(older.contains("There are no older notices."), "{older}");
}
