//! Sending all failed deliveries again.

use std::collections::HashSet;

use fanfare_testkit::process::Process;
use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::browser::Browser;
use super::{Console, PASSWORD};
use crate::api::client::send;
use crate::world::{SOON, World, event};

async fn until(browser: &mut Browser, path: &str, text: &str) -> String {
    eventually(&format!("{path} says {text}"), 3 * SOON, async || {
        let html = browser.page(path).await;
        if html.contains(text) { Ok(html) } else { Err(html) }
    })
    .await
}

/// Counts failed deliveries and confirms the resend; returns the path that shows its progress.
async fn confirmed(browser: &mut Browser, page: &str, count: &str) -> String {
    let asked = format!("{page}/resend?since=24h");
    let html = browser.page(&asked).await;
    assert!(html.contains(count), "{html}");
    let (_, rest) = html.split_once(r#"name="since" value=""#).unwrap();
    let since = rest.split('"').next().unwrap().replace("&#43;", "+");
    let sent = |browser: &Browser| {
        let (path, since) = (format!("{page}/resend"), since.clone());
        let mut browser = browser.clone();
        let asked = asked.clone();
        async move { browser.submit(&asked, &path, &[("since", &since)]).await }
    };
    // A second click changes nothing.
    let (first, second) = tokio::join!(sent(browser), sent(browser));
    assert_eq!((first.status, second.status), (303, 303), "{first:?} {second:?}");
    let path = first.header("location").unwrap().to_owned();
    assert_eq!(second.header("location"), Some(path.as_str()));
    path
}

fn count_resent(world: &World) -> String {
    world.sql("select count(*) from attempts where entry = 2 and state = 'pending' and tries = 0")
}

#[tokio::test]
async fn failed_deliveries_are_counted_and_resent_once() {
    let world = World::new().await;
    let _processes = [world.start("router").await, world.start("worker").await];
    let console = Console::on(world).await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = console.world.webhook(&receiver.url("/hook")).await;
    for _ in 0..3 {
        console.world.publish(&event()).await;
    }
    console.world.deliveries(&webhook, "dead", 3).await;
    let mut anna = console.user("anna").await;
    let page = format!("/webhooks/{webhook}");
    assert!(anna.page(&page).await.contains(&format!(r#"href="{page}/resend""#)));
    let html = anna.page(&format!("{page}/resend?since=exact&at=2100-01-01+00:00")).await;
    assert!(html.contains("No failed deliveries"), "{html}");
    let html = anna.page(&format!("{page}/resend?since=exact&at=yesterday")).await;
    assert!(html.contains("Write a date and a time"), "{html}");

    receiver.answer_with(|_, _| Reply::status(200));
    let path = confirmed(&mut anna, &page, "3 deliveries failed").await;
    let html = until(&mut anna, &path, "<dt>Delivered</dt><dd>3</dd>").await;
    assert!(
        html.contains("3 of 3") && html.contains("Done.") && html.contains("by anna"),
        "{html}"
    );
    assert!(!html.contains("hx-get") && !html.contains("/cancel"));
    console.world.deliveries(&webhook, "delivered", 3).await;
    assert_eq!(receiver.count(), 3 * 4 + 3);
    let html = anna.page(&format!("{page}/resend?since=ever")).await;
    assert!(html.contains("No failed deliveries"), "{html}");
    // A delivery that fails again is dead again, and is not sent for ever.
    receiver.answer_with(|_, _| Reply::status(500));
    console.world.publish(&event()).await;
    eventually("it is dead", SOON, async || {
        let list = ["deliveries", "list", "--webhook", &webhook, "--state", "dead"];
        let list = console.world.json(&list).await;
        (list.as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    let path = confirmed(&mut anna, &page, "1 delivery failed").await;
    let html = until(&mut anna, &path, "<dt>Failed again</dt><dd>1</dd>").await;
    assert!(html.contains("1 of 1") && html.contains("Done."), "{html}");
}

#[tokio::test]
async fn resend_continues_after_console_and_router_died_and_sends_nothing_twice() {
    let console = Console::start().await;
    let mut router = console.world.start("router").await;
    let receiver = Receiver::start().await;
    let webhook = console.world.webhook(&receiver.url("/hook")).await;
    console.world.insert_dead(&webhook, 600);
    let mut anna = console.user("anna").await;
    let page = format!("/webhooks/{webhook}");
    let path = confirmed(&mut anna, &page, "600 deliveries failed").await;
    // No worker runs, and the next step waits until the deliveries have been attempted.
    let html = until(&mut anna, &path, "250 of 600").await;
    assert!(html.contains("hx-get") && html.contains("<dt>Pending</dt><dd>250</dd>"), "{html}");
    assert_eq!(count_resent(&console.world), "250");
    let html = anna.page(&format!("{page}/resend?since=ever")).await;
    assert!(html.contains("350 deliveries failed") && html.contains("See the progress"), "{html}");
    assert!(anna.page(&page).await.contains(&format!(r#"<a href="{path}">See the progress"#)));

    router.kill9();
    let console = console.killed().await;
    let mut anna = console.signed_in("anna").await;
    let html = anna.page(&path).await;
    assert!(html.contains("250 of 600"), "{html}");
    let _processes: [Process; 2] =
        [console.world.start("router").await, console.world.start("worker").await];
    let html = until(&mut anna, &path, "<dt>Delivered</dt><dd>600</dd>").await;
    assert!(html.contains("600 of 600") && html.contains("Done."), "{html}");
    let requests = receiver.wait_for(600, SOON).await;
    let ids: HashSet<String> = requests
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["Id"].to_string())
        .collect();
    assert_eq!((ids.len(), receiver.count()), (600, 600));
}

#[tokio::test]
async fn resend_begun_by_the_api_is_shown_and_cancelled_on_the_page() {
    let console = Console::start().await;
    let _router = console.world.start("router").await;
    let webhook = console.world.webhook("http://127.0.0.1:9/").await;
    console.world.insert_dead(&webhook, 300);
    let mut anna = console.user("anna").await;
    let page = format!("/webhooks/{webhook}");
    let api = format!("/api/v1{page}/retry-failed");
    let form = format!("grant_type=password&username=anna&password={PASSWORD}");
    let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
    let token = send(console.address, "POST", "/Token", &form_type, form.as_bytes()).await;
    let bearer = format!("Bearer {}", token.unwrap().json()["access_token"].as_str().unwrap());
    let asked = async |method| {
        let headers = [("Authorization", bearer.as_str())];
        send(console.address, method, &api, &headers, b"").await.unwrap().json()
    };
    let begun = asked("POST").await;
    let path = format!("{page}/resend/{}", begun["resend"].as_str().unwrap());
    // There is no worker, so that the next step waits.
    until(&mut anna, &path, "250 of 300").await;
    // A second request begins no second resend.
    assert_eq!(asked("POST").await["resend"], begun["resend"]);
    let shown = asked("GET").await;
    assert_eq!(
        (&shown["begun"], &shown["total"], &shown["open"]),
        (&json!(250), &json!(300), &json!(250))
    );
    assert_eq!(asked("DELETE").await["ended"], "cancelled");
    let html = anna.page(&path).await;
    assert!(html.contains("Cancelled") && html.contains("250 of 300"), "{html}");
    // A program may begin another resend at once.
    assert_ne!(asked("POST").await["resend"], begun["resend"]);
}

#[tokio::test]
async fn resend_is_visible_to_its_owner_only_and_can_be_cancelled() {
    let console = Console::start().await;
    let _router = console.world.start("router").await;
    let webhook = console.world.webhook("http://127.0.0.1:9/").await;
    console.world.insert_dead(&webhook, 300);
    let page = format!("/webhooks/{webhook}");
    let mut anna = console.user("anna").await;
    let path = confirmed(&mut anna, &page, "300 deliveries failed").await;
    until(&mut anna, &path, "250 of 300").await;

    console.directory(&["anna", "bob"]).await;
    let mut bob = console.user("bob").await;
    for path in [&path, &format!("{page}/resend"), &format!("{page}/resend?since=ever")] {
        assert_eq!(bob.get(path).await.status, 404, "{path}");
    }
    let cancel = format!("{path}/cancel");
    for path in [&cancel, &format!("{page}/resend")] {
        let answer = bob.submit("/webhooks/new", path, &[("since", "2020-01-01T00:00:00Z")]).await;
        assert_eq!(answer.status, 404, "{path}");
        let answer = anna.post(path, &[("since", "2020-01-01T00:00:00Z")]).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    let other = console.world.webhook_of("anna", "http://127.0.0.1:9/other", &[]).await;
    let elsewhere = path.replace(&webhook, &other);
    assert_eq!(anna.get(&elsewhere).await.status, 404);

    let answer = anna.submit(&path, &cancel, &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some(path.as_str())));
    let html = anna.page(&path).await;
    assert!(html.contains("Cancelled") && html.contains("250 of 300"), "{html}");
    let html = anna.page(&format!("{page}/resend?since=ever")).await;
    assert!(html.contains("50 deliveries failed"), "{html}");
    assert_eq!(count_resent(&console.world), "250");
    // A paused webhook is sent nothing, and its resend ends.
    console.world.fanfare(&["webhooks", "pause", &webhook]).await;
    let html = anna.page(&format!("{page}/resend?since=ever")).await;
    assert!(html.contains("resume it first") && !html.contains("Send them again"), "{html}");
    console.world.fanfare(&["webhooks", "resume", &webhook]).await;
    let path = confirmed(&mut anna, &page, "50 deliveries failed").await;
    until(&mut anna, &path, "50 of 50").await;
    assert_eq!(count_resent(&console.world), "300");
}

/// Adds a request for all dead deliveries as consoles of the version before do, of which a part is done.
fn request_of_the_version_before(world: &World, webhook: &str, id: &str, begun: u32) {
    world.sql(&format!(
        "insert into resends (id, webhook, since, asked_at, asked_by, total, begun)
         values ('{id}', '{webhook}', 'epoch', now(), 'anna', {begun} + 20, {begun})"
    ));
}

#[tokio::test]
async fn resends_of_the_version_before_are_finished() {
    let console = Console::start().await;
    let world = &console.world;
    console.directory(&["anna"]).await;
    let receiver = Receiver::start().await;
    let [open, new] = [1, 2].map(|n| format!("0199d3f0-0000-7000-8000-{n:012}"));
    let mut anna = console.user("anna").await;
    let mut paths = Vec::new();
    for id in [&open, &new] {
        let webhook = world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
        world.insert_dead(&webhook, 20);
        paths.push(format!("/webhooks/{webhook}/resend/{}", id.replace('-', "")));
        if id == &open {
            // It was open when the database was migrated.
            world.sql("alter table resends disable trigger resends_adopted");
            request_of_the_version_before(world, &webhook, id, 10);
            world.sql("alter table resends enable trigger resends_adopted");
            let migration = include_str!("../../migrations/V9__resends.sql");
            let (_, adoption) = migration.split_once("\nwith open as (").unwrap();
            world.sql(&format!("with open as ({}", adoption.split(';').next().unwrap()));
        } else {
            // A console of the version before is still running.
            request_of_the_version_before(world, &webhook, id, 0);
        }
    }
    assert_eq!(world.sql("select count(*) from resends where ended_at is null"), "0");
    let _processes = [world.start("router").await, world.start("worker").await];
    for path in &paths {
        let html = until(&mut anna, path, "<dt>Delivered</dt><dd>20</dd>").await;
        assert!(html.contains("20 of 20") && html.contains("by anna"), "{html}");
    }
    let requests = receiver.wait_for(40, SOON).await;
    let ids: HashSet<String> = requests
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["Id"].to_string())
        .collect();
    assert_eq!((ids.len(), receiver.count()), (40, 40));
}

#[tokio::test]
async fn resend_is_an_operation_that_its_owner_and_administrators_see() {
    let console = Console::start().await;
    let world = &console.world;
    console.directory(&["anna", "bob"]).await;
    let receivers = [Receiver::start().await, Receiver::start().await];
    let mut webhooks = Vec::new();
    for (owner, receiver) in ["anna", "bob"].into_iter().zip(&receivers) {
        let webhook = world.webhook_of(owner, &receiver.url("/hook"), &[]).await;
        world.insert_dead(&webhook, 3);
        webhooks.push(webhook);
    }
    let (mut anna, mut bob) = (console.user("anna").await, console.user("bob").await);
    let path = confirmed(&mut anna, &format!("/webhooks/{}", webhooks[0]), "3 deliveries").await;
    let id = path.rsplit('/').next().unwrap();
    let operation = format!("/operations/{id}");
    let html = anna.page("/operations").await;
    assert!(html.contains(&format!(r#"href="{operation}">Send again 3 deliveries"#)), "{html}");
    let html = bob.page("/operations").await;
    assert!(!html.contains(id) && html.contains("There is no operation"), "{html}");
    assert_eq!(bob.get(&operation).await.status, 404);
    let listed = world.json(&["operations", "list"]).await;
    let one = &listed.as_array().unwrap()[0];
    assert_eq!((&one["id"], &one["kind"]), (&json!(id), &json!("resend")), "{listed}");
    // Nothing is sent while an administrator has paused it.
    let paused = world.json(&["operations", "pause", id]).await;
    assert_eq!(paused["state"], "paused");
    let _processes = [world.start("router").await, world.start("worker").await];
    let answer = bob.submit("/webhooks/new", &format!("{operation}/resume"), &[]).await;
    assert_eq!(answer.status, 404);
    assert!(anna.page(&path).await.contains("0 of 3"));
    let answer = anna.submit(&operation, &format!("{operation}/resume"), &[]).await;
    assert_eq!(answer.header("location"), Some(operation.as_str()));
    let html = until(&mut anna, &operation, "<dt>Delivered</dt><dd>3</dd>").await;
    assert!(html.contains("3 of 3") && html.contains("Send again what failed"), "{html}");
    until(&mut anna, &path, "Done.").await;
    assert_eq!(receivers.each_ref().map(Receiver::count), [3, 0]);
}
