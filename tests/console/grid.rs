//! The grid of webhooks: who sees which, in which order, on which page.

use fanfare_testkit::wait::eventually;
use serde_json::json;

use super::browser::{Browser, ORIGIN};
use super::{Console, QUIET};
use crate::world::{SOON, World};

/// The largest size of a page with its scripts, styles and images, in bytes.
const MOST: usize = 150 * 1024;

/// The number of bytes by which a busy day makes a row longer than one without attempts.
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

/// The path of the link of this kind.
fn linked(html: &str, kind: &str) -> String {
    let (before, _) = html.split_once(&format!(r#"" rel="{kind}">"#)).unwrap();
    before.rsplit('"').next().unwrap().replace("&#38;", "&")
}

#[tokio::test]
async fn user_without_webhooks_sees_a_first_step() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let html = anna.page("/webhooks").await;
    assert!(html.contains("There are no webhooks yet") && html.contains(r#"href="/webhooks/new""#));
    assert!(!html.contains("<table"));
}

#[tokio::test]
async fn users_see_their_own_webhooks_and_administrators_see_all() {
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
async fn many_webhooks_are_divided_into_small_pages() {
    let world = World::new().await.with("FANFARE_WEBHOOKS_PER_OWNER", "120");
    let console = Console::on(world).await;
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
        if !html.contains(r#"rel="next""#) {
            break;
        }
        path = linked(&html, "next");
    }
    assert_eq!(seen.len(), 120);
    assert!(seen.is_sorted());
    let html = anna.page(&path).await;
    assert!(html.contains("101–120 of 120"), "{html}");
    let back = linked(&html, "prev");
    let html = anna.page(&back).await;
    assert_eq!(urls(&html), seen[50..100]);
    let first = anna.page(&linked(&html, "prev")).await;
    assert_eq!(urls(&first), seen[..50]);
    assert!(!first.contains(r#"rel="prev""#));
    // A page begins where the last one ended, even if webhooks were deleted in between.
    console.world.sql("update webhooks set deleted_at = now() where description like 'Number 7 %'");
    assert_eq!(urls(&anna.page(&linked(&first, "next")).await), seen[50..100]);
    let found = anna.page("/webhooks?q=number+119").await;
    assert_eq!(urls(&found).len(), 1);
    assert!(anna.page("/webhooks?q=nowhere").await.contains("No webhook matches"));
}

#[tokio::test]
async fn webhook_is_paused_and_resumed_in_its_row() {
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
    // Without scripts the answer is a redirect to a page.
    let answer = anna.submit("/webhooks", &format!("{path}/pause"), &[]).await;
    assert_eq!(answer.status, 303);
    assert!(anna.page(answer.header("location").unwrap()).await.contains("was paused"));
    console.world.sql("update webhooks set paused_reason = 'gone'");
    let html = anna.page("/webhooks").await;
    assert!(html.contains("the receiver answered 410"), "{html}");
}

#[tokio::test]
async fn expired_session_redirects_htmx_requests_to_sign_in() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    console.world.sql("update sessions set expires_at = now()");
    let deliveries = format!("{path}/deliveries");
    let answer = anna.send("GET", &deliveries, &[("HX-Request", "true")], "").await;
    assert_eq!((answer.status, answer.header("hx-redirect")), (401, Some("/sign-in")));
}

/// Inserts attempts that succeeded and failed in one minute, some time ago.
fn attempted(console: &Console, path: &str, ago: &str, succeeded: u32, failed: u32) {
    let attempts = |n: u32, outcome: &str, status: u32| {
        console.world.sql(&format!(
            "insert into attempts (batch, webhook, entry, attempt, tries, since, state, at,
                                   outcome, status, revision, received_at)
             select gen_random_uuid(), id, 1, 1, 1, now() - interval '{ago}', 'delivered',
                    now() - interval '{ago}' + n * interval '1 millisecond',
                    '{outcome}', {status}, 0, now() - interval '{ago}'
             from webhooks, generate_series(1, {n}) n where uri like '%{path}%'"
        ));
    };
    attempts(failed, "status", 503);
    attempts(succeeded, "delivered", 200);
}

#[tokio::test]
async fn webhooks_can_be_sorted_by_any_column_and_each_attempt_counts_once() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    for (name, filter) in [("c-none", "tasks"), ("a-good", "alerts"), ("b-bad", "reports")] {
        let url = format!("http://192.0.2.1/{name}?noecho");
        anna.create(&[("url", &url), ("filter", filter), ("description", &name[..1])]).await;
    }
    console.world.sql("update webhooks set paused = true where uri like '%b-bad%'");
    // Some attempts are old enough to be counted, and some are too young.
    attempted(&console, "a-good", "5 minutes", 8, 1);
    attempted(&console, "b-bad", "5 minutes", 1, 2);
    attempted(&console, "a-good", "0 minutes", 1, 0);
    attempted(&console, "b-bad", "0 minutes", 0, 1);
    console.world.sql("update health_state set counted_to = now() - interval '6 minutes'");
    let sorted = async |anna: &mut Browser, query: &str| {
        let urls = urls(&anna.page(&format!("/webhooks?sort={query}")).await);
        urls.iter().map(|url| url["http://192.0.2.1/".len()..][..1].to_owned()).collect::<String>()
    };
    let counted_to = "select counted_to > now() - interval '3 minutes' from health_state";
    // Before they are counted and after.
    for _ in 0..2 {
        for (query, expected) in [
            ("url&order=asc", "abc"),
            ("url&order=desc", "cba"),
            ("filters&order=asc", "abc"),
            ("description&order=desc", "cba"),
            ("created&order=asc", "cab"),
            ("rate&order=asc", "cba"),
            ("rate&order=desc", "abc"),
            ("last&order=desc", "bac"),
        ] {
            assert_eq!(sorted(&mut anna, query).await, expected, "{query}");
        }
        assert!(sorted(&mut anna, "paused&order=desc").await.starts_with('b'));
        let html = anna.page("/webhooks").await;
        for bars in [r#"label="9 succeeded, 1 failed""#, r#"label="1 succeeded, 3 failed""#] {
            assert!(html.contains(bars), "{bars}: {html}");
        }
        assert!(html.contains("90% ok") && html.contains("25% ok"), "{html}");
        eventually("they are counted", SOON, async || {
            (console.world.sql(counted_to) == "t").then_some(())
        })
        .await;
    }
    // After a day only the last results are left.
    console.world.sql(
        "delete from attempts;
         update webhook_hours set hour = hour - interval '1 day';
         update health_state set counted_to = date_trunc('hour', now()) - interval '5 minutes'",
    );
    eventually("the hours are forgotten", SOON, async || {
        let forgotten = console.world.sql("select sum(succeeded + failed) from webhook_health");
        if forgotten == "0" { Ok(()) } else { Err(forgotten) }
    })
    .await;
    let html = anna.page("/webhooks").await;
    assert_eq!(html.matches(r#"label="0 succeeded, 0 failed""#).count(), 2, "{html}");
    assert_eq!(html.matches("no attempts").count(), 2, "{html}");
}

#[tokio::test]
async fn search_matches_every_word_and_invalid_parameters_are_ignored() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let mut ids = Vec::new();
    for (url, description) in [("http://192.0.2.1/Alpha", "Über 100%"), ("http://192.0.2.1/b", "_")]
    {
        let url = format!("{url}?noecho");
        let fields = [("url", url.as_str()), ("filter", "tasks"), ("description", description)];
        let path = anna.create(&fields).await;
        ids.push(path.rsplit('/').next().unwrap().to_owned());
    }
    for (search, found) in [
        ("ALPHA+tasks", 1),
        ("alpha+reports", 0),
        ("%C3%9Cber", 1),
        ("100%25", 1),
        ("%25", 1),
        ("_", 1),
        ("192.0.2.1+anna", 2),
        ("%00", 2),
        (&ids[1], 1),
        (&ids[1][..31], 0),
    ] {
        let html = anna.page(&format!("/webhooks?q={search}")).await;
        assert_eq!(urls(&html).len(), found, "{search}");
    }
    let beyond = format!("after={}~~", "f".repeat(32));
    for odd in [&beyond, "after=x", "before=%00~%00", "sort=x&order=y&after=~", "after=%ff~%ff"] {
        let html = anna.page(&format!("/webhooks?sort=url&{odd}")).await;
        assert!(html.contains("2 webhooks"), "{odd}: {html}");
    }
    assert!(
        anna.page(&format!("/webhooks?sort=url&{beyond}")).await.contains("This page is empty")
    );
}
