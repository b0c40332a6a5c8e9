//! All webhooks at a glance: who sees which, in which order, on which page.

use serde_json::json;

use super::browser::{Browser, ORIGIN};
use super::{Console, QUIET};

/// The most that a page may weigh with everything that it brings, in bytes.
const MOST: usize = 150 * 1024;

/// What a row gains in bytes by a busy day, beside the word that nothing was sent.
const HEALTH: usize = 650;

async fn register(browser: &mut Browser, webhook: serde_json::Value) {
    let path = "/api/webhooks/registrations";
    let answer = browser.send("POST", path, &[("Origin", ORIGIN)], &webhook.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// The addresses of the grid in their order.
fn urls(html: &str) -> Vec<String> {
    let links = html.split(r#"<a class="url" href="/webhooks/"#).skip(1);
    links
        .map(|link| link.split_once('>').unwrap().1.split('<').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_new_user_is_told_what_to_do() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let html = anna.page("/webhooks").await;
    assert!(html.contains("There are no webhooks yet") && html.contains(r#"href="/webhooks/new""#));
    assert!(!html.contains("<table"));
}

#[tokio::test]
async fn users_see_their_own_and_administrators_everybody_s() {
    let console = Console::start().await;
    console.add(&["root"], &["--admin"]).await;
    console.world.webhook_of("anna", "http://192.0.2.1/annas", &[]).await;
    console.world.webhook_of("Bob", "http://192.0.2.1/bobs", &[]).await;
    console.directory(&["anna"]).await;
    let mut anna = console.user("anna").await;
    let html = anna.page("/webhooks").await;
    assert_eq!(urls(&html), ["http://192.0.2.1/annas"]);
    assert!(!html.contains("sort=user") && !html.contains(r#"data-label="User""#));

    let mut root = console.signed_in("root").await;
    let html = root.page("/webhooks?sort=user&order=asc").await;
    assert_eq!(urls(&html), ["http://192.0.2.1/annas", "http://192.0.2.1/bobs"]);
    for heading in ["User", "Webhook URL", "Filters", "Description", "Paused"] {
        assert!(html.contains(&format!(">{heading}</a></th>")), "{heading}");
    }
    let rows: Vec<&str> = html.split("<tr>").skip(2).collect();
    assert!(rows[0].contains("<span>anna") && !rows[0].contains("Not in the directory"));
    assert!(rows[1].contains("<span>Bob") && rows[1].contains("Not in the directory"));

    console
        .world
        .directory(&json!({ "users": [{ "name": "bob", "enabled": false }], "roles": [] }))
        .await;
    let html = root.page("/webhooks?q=bob").await;
    assert_eq!(urls(&html), ["http://192.0.2.1/bobs"]);
    assert!(html.contains("Disabled: gets nothing"));
}

#[tokio::test]
async fn many_webhooks_come_on_pages_that_stay_small() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    for n in 0..120 {
        let long = "x".repeat(3000);
        register(
            &mut anna,
            json!({
                "WebHookUri": format!("http://192.0.2.1/{n:03}/{long}?noecho"),
                "Description": format!("Number {n} {}", "wide & deep ".repeat(200)),
                "Filters": ["reports", "categories", "connections", "tasks.execute", "alerts"],
            }),
        )
        .await;
    }
    let mut weight = 0;
    for asset in anna.page("/sign-in").await.split('"').filter(|it| it.starts_with("/assets/")) {
        weight += anna.get(asset).await.body.len();
    }
    let mut seen = Vec::new();
    let mut path = "/webhooks?sort=url&order=asc&q=number".to_owned();
    loop {
        let html = anna.page(&path).await;
        assert!(html.len() + weight < MOST - 50 * HEALTH, "{} + {weight}", html.len());
        seen.extend(urls(&html));
        let Some((before, _)) = html.split_once(r#"" rel="next">"#) else { break };
        path = before.rsplit('"').next().unwrap().replace("&#38;", "&");
    }
    assert_eq!(seen.len(), 120);
    assert!(seen.is_sorted());
    let found = anna.page("/webhooks?q=number+119").await;
    assert_eq!(urls(&found).len(), 1);
    assert!(anna.page("/webhooks?q=nowhere").await.contains("Nothing is like that"));
}

#[tokio::test]
async fn a_webhook_is_paused_and_resumed_in_its_row() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    let row = anna.submit_part("/webhooks", &format!("{path}/pause")).await;
    assert_eq!(row.status, 200);
    assert!(row.body.starts_with("<tr>") && row.body.contains(&id), "{}", row.body);
    assert!(row.body.contains("Paused</span>") && row.body.contains("by its owner"));
    let shown = console.world.json(&["webhooks", "show", &id]).await;
    assert_eq!(shown["IsPaused"], true);
    let row = anna.submit_part("/webhooks", &format!("{path}/resume")).await;
    assert!(row.body.contains("Active</span>"), "{}", row.body);
    // Without scripts it is a page that follows.
    let answer = anna.submit("/webhooks", &format!("{path}/pause"), &[]).await;
    assert_eq!(answer.status, 303);
    assert!(anna.page(answer.header("location").unwrap()).await.contains("was paused"));
    console.world.sql("update webhooks set paused_reason = 'gone'");
    let html = anna.page("/webhooks").await;
    assert!(html.contains("the receiver answered 410"), "{html}");
}

#[tokio::test]
async fn who_is_not_signed_in_any_more_is_sent_to_sign_in_by_htmx_too() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    console.world.sql("update sessions set expires_at = now()");
    let deliveries = format!("{path}/deliveries");
    let answer = anna.send("GET", &deliveries, &[("HX-Request", "true")], "").await;
    assert_eq!((answer.status, answer.header("hx-redirect")), (401, Some("/sign-in")));
}
