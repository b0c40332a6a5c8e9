//! The audit trail in the console, and the entries that its forms leave.

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use super::{Console, QUIET};
use crate::audit::{actions, check_absent, entries};
use crate::world::{SECRET, SOON, World, event};

#[tokio::test]
async fn each_form_leaves_one_entry_and_the_page_shows_them_to_their_owner() {
    let world = World::new().await.with("FANFARE_CONSOLE_PROXIES", "127.0.0.0/8");
    let console = Console::on(world).await;
    let mut anna = console.user("anna").await;
    let header = [("header-name", "X-Key"), ("header-value", "k3y-of-the-receiver")];
    let form = |more: &[(&'static str, &'static str)]| {
        let fixed = [("url", QUIET), ("filter", "*"), ("secret", SECRET)];
        fixed.iter().chain(&header).chain(more).copied().collect::<Vec<_>>()
    };
    let page = anna.create(&form(&[])).await;
    let id = page.rsplit('/').next().unwrap().to_owned();
    let post = async |browser: &mut super::Browser, path: &str, fields: &[(&str, &str)]| {
        let answer = browser.submit(&page, &format!("{page}{path}"), fields).await;
        assert!(matches!(answer.status, 200 | 303), "{path}: {answer:?}");
    };
    post(&mut anna, "/pause", &[]).await;
    post(&mut anna, "/resume", &[]).await;
    post(&mut anna, "/secret", &[]).await;
    post(&mut anna, "/secret/rotate", &[("overlap", "1h")]).await;
    let shown = anna.page(&page).await;
    for label in ["Webhook created", "Webhook paused", "Secret shown", "Secret replaced"] {
        assert!(shown.contains(label), "{label}: {shown}");
    }
    post(&mut anna, "/delete", &[]).await;

    let all = entries(&console.world, &["--webhook", &id]).await;
    let expected = [
        "webhook.created",
        "webhook.paused",
        "webhook.resumed",
        "webhook.secret-revealed",
        "webhook.secret-rotated",
        "webhook.deleted",
    ];
    assert_eq!(actions(&all), expected, "{all:?}");
    for entry in &all {
        let by = (entry["actor"].as_str(), entry["door"].as_str(), entry["address"].as_str());
        assert_eq!(by, (Some("anna"), Some("console"), Some("127.0.0.1")));
    }
    check_absent(&console.world, &[SECRET, "k3y-of-the-receiver"]);
    let html = anna.page(&format!("/audit?webhook={id}")).await;
    assert!(html.contains("Webhook deleted") && html.contains("127.0.0.1"), "{html}");
    assert!(!html.contains(SECRET));
    let html = anna.page("/audit?action=webhook.paused&actor=Anna").await;
    assert!(html.contains("<span>Webhook paused</span>"), "{html}");
    assert!(!html.contains("<span>Webhook deleted</span>"), "{html}");
}

#[tokio::test]
async fn other_users_see_nothing_and_administrators_see_all_pages() {
    let console = Console::start().await;
    let (mut anna, mut bob) = (console.user("anna").await, console.user("bob").await);
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    let page = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    let id = page.rsplit('/').next().unwrap();
    let html = bob.page(&format!("/audit?webhook={id}")).await;
    assert!(html.contains("No entry matches") && !html.contains("anna"), "{html}");
    for _ in 0..30 {
        for path in ["/pause", "/resume"] {
            anna.submit(&page, &format!("{page}{path}"), &[]).await;
        }
    }
    let first = root.page("/audit?actor=anna&action=webhook.paused").await;
    assert_eq!(first.matches("<span>Webhook paused</span>").count(), 30);
    let (mut path, mut seen) = ("/audit?actor=anna".to_owned(), 0);
    loop {
        let html = root.page(&path).await;
        seen += html.matches(r#"scope="row""#).count();
        let Some((before, _)) = html.split_once(r#"" rel="next""#) else { break };
        path = before.rsplit('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    }
    assert_eq!(seen, 61);
    let wrong = root.page("/audit?webhook=7&from=yesterday").await;
    assert!(wrong.contains(r#"role="alert""#), "{wrong}");
    let answer = console.browser().get("/audit").await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/sign-in?next=%2Faudit")));
}

#[tokio::test]
async fn an_entry_has_the_address_that_a_trusted_proxy_names() {
    let world = World::new().await.with("FANFARE_CONSOLE_PROXIES", "127.0.0.1,10.0.0.0/8");
    let console = Console::on(world).await;
    let mut anna = console.user("anna").await;
    let page = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    let token = anna.token(&page).await;
    let body = super::browser::encode(&[("token", &token)]);
    let headers = [
        super::browser::FORM,
        ("Origin", super::browser::ORIGIN),
        ("X-Forwarded-For", "203.0.113.9, 192.0.2.77, 10.0.0.2"),
        ("X-Request-ID", "r-4711"),
    ];
    let answer = anna.send("POST", &format!("{page}/pause"), &headers, &body).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let paused = entries(&console.world, &["--action", "webhook.paused"]).await;
    let from = (paused[0]["address"].as_str(), paused[0]["correlation"].as_str());
    assert_eq!(from, (Some("192.0.2.77"), Some("r-4711")));
}

/// An auditor's question: who paused this webhook, and what happened to its deliveries since?
#[tokio::test]
async fn the_trail_says_which_user_paused_a_webhook_and_what_became_of_its_events() {
    let world = World::new().await.with("FANFARE_RETRY_FIRST", "3s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let console = Console::on(world).await;
    let world = &console.world;
    let mut anna = console.user("anna").await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let (before, after) = (event(), event());
    world.publish(&before).await;
    world.deliveries(&webhook, "retrying", 1).await;
    let page = format!("/webhooks/{webhook}");
    let answer = anna.submit(&page, &format!("{page}/pause"), &[]).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    world.publish(&after).await;

    // The two commands of docs/audit.md, and the one about an event that came later.
    let paused = ["--webhook", &webhook, "--action", "webhook.paused", "--limit", "1"];
    let [paused] = &entries(world, &paused).await[..] else { panic!("no entry") };
    let by = (&paused["actor"], &paused["door"], &paused["address"]);
    assert_eq!(by, (&json!("anna"), &json!("console"), &json!("127.0.0.1")));
    let dropped = &world.deliveries(&webhook, "dropped", 1).await[0];
    assert_eq!(dropped["events"], json!([before["id"]]));
    assert_eq!(dropped["reason"], "webhook-paused");
    assert!(dropped["finishedAt"].as_str().unwrap() >= paused["at"].as_str().unwrap());
    let id = after["id"].as_str().unwrap();
    let explain = ["events", "explain", id, "--webhook", &webhook];
    let explained = eventually("the later event is routed", SOON, async || {
        let output = world.run(&explain, None).await;
        output.success().map_err(|error| error.to_string())
    })
    .await;
    assert!(explained.contains("paused"), "{explained}");
}
