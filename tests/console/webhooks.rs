//! The forms that create, change and delete webhooks.

use std::sync::Arc;

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::{Console, QUIET};
use crate::world::{SECRET, SOON, World};

fn id(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// The error message of a field.
fn error<'a>(html: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = html.split_once(&format!(r#"class="error" id="{field}-error">"#))?;
    rest.split_once("</p>").map(|(text, _)| text)
}

#[tokio::test]
async fn form_shows_an_error_at_each_field_and_keeps_the_values() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let fields = [
        ("url", "ftp://receiver.example/"),
        ("actions", "galaxies.explode"),
        ("description", "Kept"),
        ("header-name", "Host"),
        ("header-value", "x"),
        ("property-name", "weight"),
        ("property-kind", "json"),
        ("property-value", "heavy"),
        ("secret", "short"),
        ("rate-limit", "1.5"),
        ("paused", "on"),
    ];
    let answer = anna.submit("/webhooks/new", "/webhooks", &fields).await;
    assert_eq!(answer.status, 400);
    let html = answer.body;
    for (field, text) in [
        ("url", "must be absolute with a scheme of either"),
        ("filters", "The following filters are not valid"),
        ("headers", "The header &#39;Host&#39; can&#39;t be set"),
        ("properties", "must be a number, true, false or null"),
        ("secret", "must be between 32 and 128 characters long"),
        ("rate-limit", "must be a whole number from 1 to 1000000"),
    ] {
        let message = error(&html, field).unwrap_or_default();
        assert!(message.contains(text), "{field}: {message}");
    }
    assert!(html.contains("6 fields need your attention"));
    assert_eq!(html.matches(r#"aria-invalid="true""#).count(), 6);
    for kept in [r#"value="Kept""#, r#"value="galaxies.explode""#, r#"value="heavy""#] {
        assert!(html.contains(kept), "{kept}");
    }
    assert!(html.contains(r#"name="paused" checked"#) && !html.contains("short"));
    assert_eq!(console.world.json(&["webhooks", "list"]).await, json!([]));
}

#[tokio::test]
async fn address_must_pass_verification() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::text(200, "<b>hello</b>"));
    let url = receiver.url("/hook");
    let fields = [("url", url.as_str()), ("filter", "*")];
    let answer = anna.submit("/webhooks/new", "/webhooks", &fields).await;
    assert_eq!(answer.status, 400);
    let message = error(&answer.body, "url").unwrap();
    assert!(message.contains("echo query parameter was not returned"), "{message}");
    receiver.answer_with(|request, _| {
        let echo = request.path.rsplit("echo=").next().unwrap_or_default().to_owned();
        Reply::text(200, echo)
    });
    let path = anna.create(&fields).await;
    assert!(anna.page(&path).await.contains(&url));
}

#[tokio::test]
async fn webhook_is_created_changed_and_deleted() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let path = anna
        .create(&[
            ("url", QUIET),
            ("filter", "reports"),
            ("actions", "Tasks.Execute alerts"),
            ("description", "Orders"),
            ("header-name", "X-Key"),
            ("header-value", "abc"),
            ("header-name", ""),
            ("header-value", ""),
            ("property-name", "weight"),
            ("property-kind", "json"),
            ("property-value", "5"),
            ("rate-limit", "60"),
            ("property-name", "name"),
            ("property-kind", "text"),
            ("property-value", "5"),
        ])
        .await;
    let shown = console.world.json(&["webhooks", "show", id(&path)]).await;
    assert_eq!(shown["User"], "anna");
    assert_eq!(shown["Filters"], json!(["reports", "tasks.execute", "alerts"]));
    assert_eq!(shown["Headers"], json!({ "X-Key": "abc" }));
    assert_eq!(shown["Properties"], json!({ "weight": 5, "name": "5" }));
    assert_eq!(shown["Secret"].as_str().unwrap().len(), 32);
    assert_eq!(shown["RateLimit"], 60);
    assert!(anna.page(&path).await.contains("60 requests a minute"));

    let edit = format!("{path}/edit");
    let html = anna.page(&edit).await;
    for value in ["X-Key", "abc", "weight", "Orders", "tasks.execute", "60"] {
        assert!(html.contains(&format!(r#"value="{value}""#)), "{value}");
    }
    let changed = "http://192.0.2.1/other?noecho";
    let fields = [("url", changed), ("filter", "*"), ("secret", SECRET)];
    let bad = anna.submit(&edit, &edit, &[("url", ""), ("filter", "*")]).await;
    assert_eq!((bad.status, error(&bad.body, "url").is_some()), (400, true));
    let answer = anna.submit(&edit, &edit, &fields).await;
    assert_eq!(answer.header("location"), Some(format!("{path}?done=saved").as_str()));
    let shown = console.world.json(&["webhooks", "show", id(&path)]).await;
    assert_eq!(shown["WebHookUri"], changed);
    assert_eq!((&shown["Filters"], &shown["Headers"]), (&json!(["*"]), &json!({})));
    assert_eq!((&shown["Secret"], &shown["Description"]), (&json!(SECRET), &Value::Null));
    assert_eq!(shown["RateLimit"], Value::Null);

    let delete = format!("{path}/delete");
    assert!(anna.page(&delete).await.contains("Delete this webhook?"));
    let answer = anna.submit(&delete, &delete, &[]).await;
    assert_eq!(answer.header("location"), Some("/webhooks?done=deleted"));
    assert_eq!(anna.get(&path).await.status, 404);
}

#[tokio::test]
async fn receivers_wait_is_shown_until_the_address_changes() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    let wait = "The receiver asked to wait until";
    assert!(!anna.page(&path).await.contains(wait));
    console.world.sql(&format!(
        "insert into webhook_paces (webhook, hold_until, interval_seconds)
         values ('{}', now() + interval '1 hour', 2.5)",
        id(&path)
    ));
    let html = anna.page(&path).await;
    assert!(html.contains(wait) && html.contains("one request every 2.50 s"), "{html}");
    let edit = format!("{path}/edit");
    anna.submit(&edit, &edit, &[("url", QUIET), ("filter", "tasks")]).await;
    assert!(anna.page(&path).await.contains(wait));
    let elsewhere = "http://192.0.2.7/?noecho";
    anna.submit(&edit, &edit, &[("url", elsewhere), ("filter", "*")]).await;
    assert!(!anna.page(&path).await.contains(wait));
}

#[tokio::test]
async fn form_rows_can_be_added_without_a_script() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let fields = [("url", "x"), ("header-name", "A"), ("header-value", "1"), ("more", "header")];
    let answer = anna.submit("/webhooks/new", "/webhooks", &fields).await;
    assert_eq!(answer.status, 200);
    let (form, _) = answer.body.split_once("<template").unwrap();
    assert_eq!(form.matches(r#"name="header-name""#).count(), 2);
    assert!(form.contains(r#"value="A""#) && error(form, "url").is_none());
}

#[tokio::test]
async fn secret_is_shown_to_its_owner_only_and_on_request() {
    let console = Console::start().await;
    console.add(&["root"], &["--admin"]).await;
    let mut anna = console.user("anna").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*"), ("secret", SECRET)]).await;
    for page in ["/webhooks".to_owned(), path.clone(), format!("{path}/edit")] {
        assert!(!anna.page(&page).await.contains(SECRET), "{page}");
    }
    let reveal = format!("{path}/secret");
    assert_eq!(anna.get(&reveal).await.status, 405);
    assert_eq!(anna.post(&reveal, &[]).await.status, 403);
    let part = anna.submit_part(&path, &reveal).await;
    assert!(part.body.contains(SECRET) && part.body.contains("whsec_"), "{}", part.body);
    assert!(!part.body.contains("<html"));
    assert!(anna.submit(&path, &reveal, &[]).await.body.contains(SECRET));

    let rotate = format!("{path}/secret/rotate");
    let answer = anna.submit(&path, &rotate, &[("overlap", "24h")]).await;
    assert_eq!(answer.header("location"), Some(format!("{path}?done=rotated").as_str()));
    let part = anna.submit_part(&path, &reveal).await;
    assert!(part.body.contains(SECRET), "the old one still signs");
    assert_eq!(part.body.matches(r#"id="s"#).count(), 2);
    anna.submit(&path, &rotate, &[("overlap", "0")]).await;
    let part = anna.submit_part(&path, &reveal).await;
    assert_eq!(part.body.matches(r#"id="s"#).count(), 1);
    assert!(!part.body.contains(SECRET));

    let mut root = console.signed_in("root").await;
    assert!(root.page(&path).await.contains("Only its owner, anna, sees the secret"));
    for action in [&reveal, &rotate] {
        assert_eq!(root.submit(&path, action, &[("overlap", "0")]).await.status, 404);
    }
}

#[tokio::test]
async fn webhook_is_not_found_for_other_users() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let mut bob = console.user("bob").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    let one = "00000000000000000000000000000001";
    for get in ["", "/edit", "/delete", "/signature", "/deliveries"] {
        assert_eq!(bob.get(&format!("{path}{get}")).await.status, 404, "{get}");
    }
    for post in [
        "/edit",
        "/delete",
        "/pause",
        "/resume",
        "/test",
        "/secret",
        "/secret/rotate",
        "/signature",
        &format!("/deliveries/{one}/resend"),
    ] {
        let fields = [("url", QUIET), ("filter", "*"), ("overlap", "0")];
        let answer = bob.submit("/webhooks", &format!("{path}{post}"), &fields).await;
        assert_eq!(answer.status, 404, "{post}");
    }
    assert_eq!(bob.get(&format!("{path}/deliveries/{one}")).await.status, 404);
    assert_eq!(bob.get(&format!("{path}/deliveries/{one}/body")).await.status, 404);
    assert_eq!(anna.get(&path).await.status, 200);
}

#[tokio::test]
async fn signature_is_explained_part_by_part() {
    let console = Console::start().await;
    let mut anna = console.user("anna").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*"), ("secret", SECRET)]).await;
    let page = format!("{path}/signature");
    let html = anna.page(&page).await;
    for language in ["C#", "Python", "Node.js", "Go", "Rust"] {
        assert!(html.contains(&format!("<summary>{language}</summary>")), "{language}");
    }
    assert!(!html.contains(SECRET));
    let body = include_str!("../../crates/core/vectors/v5-as-v2-but-compact.body");
    let right = "ms-signature: \
                 sha256=67355CC88F44D1A6FFC4F2C13A6521F7D71C20A750B309C97C24C86440336B5B";
    let ms = |html: &str| {
        let (_, rest) = html.split_once("<strong>ms-signature</strong>").unwrap();
        rest.split("</li>").next().unwrap().to_owned()
    };
    let other = "fedcba9876543210fedcba9876543210";
    let pretty = body.replacen('{', "{ ", 1);
    for (body, secret, verdict) in [
        (body, "", "It matches the body and the secret."),
        (body, SECRET, "It matches the body and the secret."),
        (body, other, "the secret is another"),
        (&pretty, "", "reformatted it"),
    ] {
        let fields = [("headers", right), ("body", body), ("secret", secret)];
        let html = anna.submit(&page, &page, &fields).await.body;
        assert!(ms(&html).contains(verdict), "{}", ms(&html));
        assert!(html.contains("<strong>webhook-signature</strong>"));
    }
}

/// The owner's name passes to another person while the owner resumes the webhook: the transaction
/// that records it ends while the request to resume waits for the webhook's row.
#[tokio::test]
async fn webhook_stays_paused_when_its_owner_is_replaced_during_a_resume() {
    const BECOMES_A_FORMER_OWNERS: &str = "
        update webhooks set paused = true, paused_reason = 'owner-recreated';
        do $$ begin
            for n in 1..1200 loop
                perform pg_stat_clear_snapshot();
                exit when exists (select from pg_stat_activity
                                  where datname = current_database() and wait_event_type = 'Lock');
                perform pg_sleep(0.05);
            end loop;
        end $$";
    const IS_LOCKED: &str = "
        select count(*) from pg_locks l join pg_class c on c.oid = l.relation
        where c.relname = 'webhooks' and l.mode = 'RowExclusiveLock' and l.granted";
    let sandbox = Arc::new(Sandbox::new().await);
    let console = Console::on(World::on(&sandbox.database_url, &sandbox.amqp_url).await).await;
    let mut anna = console.user("anna").await;
    let path = anna.create(&[("url", QUIET), ("filter", "*")]).await;
    anna.submit_part("/webhooks", &format!("{path}/pause")).await;
    let page = anna.page(&path).await;
    assert!(page.contains("/resume"), "{page}");
    let departure = tokio::task::spawn_blocking({
        let sandbox = Arc::clone(&sandbox);
        move || sandbox.sql(BECOMES_A_FORMER_OWNERS)
    });
    eventually("the webhook's row is locked", SOON, async || {
        let locks = sandbox.sql(IS_LOCKED).unwrap();
        if locks.trim() == "0" { Err(locks) } else { Ok(()) }
    })
    .await;
    anna.submit_part(&path, &format!("{path}/resume")).await;
    departure.await.unwrap().unwrap();
    let shown = console.world.json(&["webhooks", "show", id(&path)]).await;
    assert_eq!(
        (&shown["IsPaused"], &shown["PausedReason"]),
        (&json!(true), &json!("owner-recreated"))
    );
}
