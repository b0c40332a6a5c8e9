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

#[tokio::test]
async fn user_chooses_channels_of_notices_and_sees_the_generated_secret_once() {
    let domains = ("FANFARE_NOTICES_MAIL_DOMAINS", "example.org");
    let console = Console::on(World::new().await.with(domains.0, domains.1)).await;
    console.directory(&["anna"]).await;
    let mut anna = console.user("anna").await;
    let (page, silent) = ("/notices/settings", Receiver::start().await);
    let refused = [("url", &*silent.url("/")), ("mail", "anna@example.com")];
    for (field, value) in refused {
        let fields = [("type", "webhook.paused"), (field, value)];
        let answer = anna.submit(page, page, &fields).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let error = format!(r#"class="error" id="{field}-error""#);
        assert!(answer.body.contains(&error) && answer.body.contains(value), "{answer:?}");
    }
    let url = silent.url("/?noecho");
    let fields = [("type", "webhook.paused"), ("url", &url), ("mail", "anna@example.org")];
    let answer = anna.submit(page, page, &fields).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains(r#"id="new-secret""#), "{answer:?}");
    let html = anna.page(page).await;
    let paused = r#"value="webhook.paused" checked"#;
    for text in [&*url, "anna@example.org", paused] {
        assert!(html.contains(text), "{text}: {html}");
    }
    let other = r#"value="webhook.failing" checked"#;
    assert!(!html.contains("new-secret") && !html.contains(other), "{html}");
    let answer = anna.submit(page, page, &[]).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert!(!anna.page(page).await.contains("anna@example.org"));
}
