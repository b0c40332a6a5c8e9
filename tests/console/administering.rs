//! The overview, the directory and the accounts on the console's pages.

use std::time::Duration;

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use super::Console;
use crate::world::{SOON, event};

#[tokio::test]
async fn the_overview_says_whether_everything_arrives() {
    let console = Console::start().await;
    let receiver = Receiver::start().await;
    let webhook = console.world.webhook(&receiver.url("/hook")).await;
    let mut bob = console.user("bob").await;
    assert_eq!(bob.get("/overview").await.status, 404);
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    let html = root.page("/overview").await;
    for text in ["Needs attention", "No worker sends deliveries", "nothing waits", "process "] {
        assert!(html.contains(text), "{text}: {html}");
    }
    let _processes = [console.world.start("router").await, console.world.start("worker").await];
    console.world.publish(&event()).await;
    console.world.deliveries(&webhook, "delivered", 1).await;
    let html = eventually("everything arrives", SOON, async || {
        let html = root.page("/overview").await;
        if html.contains("Everything arrives") { Ok(html) } else { Err(html) }
    })
    .await;
    for text in ["fanfare.events.dead", "100.0%", "half within", "0 failing"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    receiver.answer_with(|_, _| Reply::status(500));
    console.world.insert_dead(&webhook, 3);
    let html = root.page("/overview").await;
    for text in ["3 letters died within the last hour", "3 deliveries</a>", "0 events</a>"] {
        assert!(html.contains(text), "{text}: {html}");
    }
}

#[tokio::test]
async fn the_overview_lists_processes_and_open_circuit_breakers() {
    let console = Console::start().await;
    let world = &console.world;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500).after(Duration::from_secs(2)));
    world.webhook(&receiver.url("/hook")).await;
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    let (mut router, mut worker) = (world.start("router").await, world.start("worker").await);
    for _ in 0..4 {
        world.publish(&event()).await;
    }
    let told = format!("<strong>{}</strong> in 1 worker", receiver.addr());
    let html = eventually("the breaker is told", SOON, async || {
        let html = root.page("/overview").await;
        if html.contains(&told) { Ok(html) } else { Err(html) }
    })
    .await;
    for role in ["router", "worker", "console"] {
        assert!(html.contains(&format!("<span>{role}</span>")), "{role}: {html}");
    }
    let version = format!("<span>{}</span>", env!("CARGO_PKG_VERSION"));
    assert_eq!(html.matches(&version).count(), 3, "{html}");
    assert_eq!(html.matches("Works").count(), 3, "{html}");

    // One that is asked to end leaves; one that dies is missed for a while, and its breakers are gone.
    router.terminate();
    router.wait_exit(SOON).await;
    worker.kill9();
    world.sql("update processes set seen_at = seen_at - interval '1 minute' where role = 'worker'");
    let html = root.page("/overview").await;
    assert!(!html.contains("<span>router</span>"), "{html}");
    assert_eq!(html.matches("Not seen").count(), 1, "{html}");
    assert!(html.contains("None: every receiver"), "{html}");
    world.sql("update processes set seen_at = seen_at - interval '1 hour' where role = 'worker'");
    assert!(!root.page("/overview").await.contains("<span>worker</span>"));
    eventually("it is removed", SOON, async || {
        let left = world.sql("select string_agg(role, ' ') from processes");
        if left == "console" { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn the_directory_says_who_may_read_what() {
    let console = Console::start().await;
    console
        .world
        .directory(&json!({
            "users": [
                { "name": "anna", "roles": ["System Administrator"] },
                { "name": "Bob", "roles": ["Clerk"], "permissions":
                    [{ "access": ["read"], "scope": "report", "target": "r1" }] },
                { "name": "carol", "enabled": false },
            ],
            "roles": [{ "name": "Clerk", "permissions":
                [{ "access": ["read"], "scope": "any-task" }] }]
        }))
        .await;
    console.add(&["root"], &["--admin"]).await;
    console.add(&["Bob"], &[]).await;
    let (mut root, mut bob) = (console.signed_in("root").await, console.signed_in("Bob").await);
    assert_eq!(bob.get("/directory").await.status, 404);
    let html = root.page("/directory").await;
    for text in ["Revision 1", "anna", "Bob", "Clerk", "Disabled"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    let html = root.page("/directory?q=BO").await;
    assert!(html.contains(">Bob</a>") && !html.contains(">anna</a>"), "{html}");
    let html = root.page("/directory?list=roles").await;
    assert!(html.contains("Clerk") && !html.contains(">Bob</a>"), "{html}");

    let html = root.page("/directory?resource=tasks/t1").await;
    for text in ["any-task of the role Clerk", "the role System Administrator"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    let nobody = root.page("/directory?resource=alerts/a1&at=7").await;
    assert!(nobody.contains("has not reached revision 7"), "{nobody}");
    assert!(root.page("/directory?resource=x").await.contains("Write the resource as"));
    let html = root.page("/directory?user=bob").await;
    assert!(html.contains("report r1") || html.contains("report:r1"), "{html}");
    assert!(html.contains("any-task") && html.contains("their own"), "{html}");
    let html = root.page("/directory?user=anna").await;
    assert!(html.contains("may read everything"), "{html}");
    assert!(root.page("/directory?user=carol").await.contains("may read nothing"));
    assert!(root.page("/directory?user=nobody").await.contains("no such user"));
}

#[tokio::test]
async fn an_account_is_disabled_and_enabled() {
    let console = Console::start().await;
    console.directory(&["bob", "root"]).await;
    let mut bob = console.user("bob").await;
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    assert_eq!(bob.get("/accounts").await.status, 404);
    let html = root.page("/accounts").await;
    assert!(html.contains("Disable bob") && !html.contains("Disable root"), "{html}");
    let fields = [("name", "BOB"), ("reason", "<left>")];
    assert_eq!(root.post("/accounts/disable", &fields).await.status, 403);
    let answer = root.submit("/accounts", "/accounts/disable", &fields).await;
    assert_eq!(answer.header("location"), Some("/accounts?done=disabled"), "{answer:?}");
    assert!(root.page("/accounts").await.contains("&#60;left&#62;"));
    // The session has ended, and the password does not begin another one.
    assert_eq!(bob.get("/webhooks").await.status, 303);
    assert_ne!(bob.sign_in("bob", super::PASSWORD).await.status, 303);
    let own = root.submit("/accounts", "/accounts/disable", &[("name", "root")]).await;
    assert_eq!(own.header("location"), Some("/accounts?problem=own"), "{own:?}");
    let none = root.submit("/accounts", "/accounts/enable", &[("name", "nobody")]).await;
    assert_eq!(none.header("location"), Some("/accounts?problem=unknown"), "{none:?}");
    root.submit("/accounts", "/accounts/enable", &[("name", "bob")]).await;
    assert_eq!(bob.sign_in("bob", super::PASSWORD).await.status, 303);
    let audit = root.page("/audit?action=account.disabled").await;
    assert!(audit.contains("Account disabled"), "{audit}");
}
