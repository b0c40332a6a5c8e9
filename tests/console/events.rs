//! Events, their explanations, and the correction of dead ones on the console's pages.

use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::wait::eventually;
use serde_json::json;

use super::Console;
use crate::world::{SOON, event};

#[tokio::test]
async fn an_administrator_mends_a_dead_event() {
    let console = Console::start().await;
    let receiver = Receiver::start().await;
    let webhook = console.world.webhook(&receiver.url("/hook")).await;
    let _processes = [console.world.start("router").await, console.world.start("worker").await];
    let (good, mut bad, known) = (event(), event(), event());
    console.world.publish(&known).await;
    console.world.deliveries(&webhook, "delivered", 1).await;
    bad["type"] = json!("galaxies.<b>");
    console.world.publish(&bad).await;
    let mut bob = console.user("bob").await;
    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    let id = eventually("a dead event", SOON, async || {
        let letters = console.world.json(&["dead-letters", "list", "--queue", "events"]).await;
        letters[0]["id"].as_str().map(str::to_owned).ok_or(letters)
    })
    .await;
    let path = format!("/dead-letters/mend?id={id}");
    let letter = root.page(&format!("/dead-letters/letter?id={id}")).await;
    assert!(letter.contains(&path) && letter.contains("Mend…"), "{letter}");
    assert_eq!(bob.get(&path).await.status, 404);
    let html = root.page(&path).await;
    assert!(html.contains("bad-type") && html.contains("galaxies.&#60;b&#62;"), "{html}");

    let bad = bad.to_string();
    let fields = [("id", &*id), ("event", &*bad), ("publish", "yes")];
    let answer = root.submit(&path, "/dead-letters/mend", &fields).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("can’t be published"), "{answer:?}");
    // One that was routed before would be dropped as a duplicate, which the page says before it is published.
    let known = known.to_string();
    for (wish, status) in [("check", 200), ("publish", 409)] {
        let fields = [("id", &*id), ("event", &*known), (wish, "yes")];
        let answer = root.submit(&path, "/dead-letters/mend", &fields).await;
        assert_eq!(answer.status, status, "{answer:?}");
        for text in ["Routers would drop these events as duplicates", "Publish all the same"] {
            assert!(answer.body.contains(text), "{text}: {answer:?}");
        }
    }
    let good_text = good.to_string();
    let checked = [("id", &*id), ("event", &*good_text), ("check", "yes")];
    let answer = root.submit(&path, "/dead-letters/mend", &checked).await;
    assert!(answer.status == 200 && answer.body.contains("The text is valid"), "{answer:?}");
    assert_eq!(root.post("/dead-letters/mend", &checked).await.status, 403);
    let fields = [("id", &*id), ("event", &*good_text), ("publish", "yes")];
    let answer = root.submit(&path, "/dead-letters/mend", &fields).await;
    assert!(answer.body.contains("The mended event was published"), "{answer:?}");
    console.world.deliveries(&webhook, "delivered", 2).await;
    let gone = root.get(&path).await;
    assert!(gone.status == 404 && gone.body.contains("can’t be mended"), "{gone:?}");
    let event = format!("/events/event?id={}", good["id"].as_str().unwrap());
    assert!(root.page(&event).await.contains("Delivered"));
}

#[tokio::test]
async fn an_event_says_who_got_it_and_why_others_did_not() {
    let console = Console::start().await;
    let receiver = Receiver::start().await;
    console
        .world
        .directory(&json!({
            "users": [
                { "name": "anna", "roles": ["System Administrator"] },
                { "name": "bob", "permissions":
                    [{ "access": ["read"], "scope": "task", "target": "t2" }] },
            ],
            "roles": []
        }))
        .await;
    let webhook = console.world.webhook_of("anna", &receiver.url("/hook"), &[]).await;
    let other = console.world.webhook_of("bob", &receiver.url("/bob"), &[]).await;
    let _processes = [console.world.start("router").await, console.world.start("worker").await];
    let (event, mut second) = (event(), event());
    second["subject"] = json!("tasks/t2");
    for event in [&event, &second] {
        console.world.publish(event).await;
    }
    console.world.deliveries(&webhook, "delivered", 2).await;
    console.world.deliveries(&other, "delivered", 1).await;
    console.add(&["root"], &["--admin"]).await;
    console.add(&["bob"], &[]).await;
    let (mut root, mut bob) = (console.signed_in("root").await, console.signed_in("bob").await);
    let (id, second) = (event["id"].as_str().unwrap(), second["id"].as_str().unwrap());

    assert_eq!(bob.get("/events").await.status, 404);
    let html = root.page("/events").await;
    assert!(html.contains(id) && html.contains(second), "{html}");
    for (query, has, lacks) in [
        ("resource=tasks/t2", second, id),
        (&*format!("id={id}"), id, second),
        (&*format!("webhook={other}"), second, id),
    ] {
        let html = root.page(&format!("/events?{query}")).await;
        assert!(html.contains(has) && !html.contains(lacks), "{query}: {html}");
    }
    let none = root.page("/events?state=under-way&type=reports").await;
    assert!(none.contains("No event matches"), "{none}");
    assert!(root.page("/events?resource=x").await.contains("Write the resource as"));

    let path = format!("/events/event?id={id}");
    assert_eq!(bob.get(&path).await.status, 404);
    let html = root.page(&path).await;
    for text in [&*webhook, &*other, "Sent", "Its owner may not read the resource", "Delivered"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    let html = root.page(&format!("{path}&webhook={webhook}")).await;
    assert!(html.contains(&webhook) && !html.contains(&other), "{html}");
    assert_eq!(root.get("/events/event?id=none").await.status, 404);

    // An owner asks about an own webhook, and learns nothing of what the owner may not read.
    let explain = format!("/webhooks/{other}/explain?about=");
    let html = bob.page(&format!("{explain}{id}")).await;
    assert!(html.contains("Its owner may not read the resource"), "{html}");
    assert!(!html.contains("tasks/t1") && !html.contains("tasks.execute"), "{html}");
    let html = bob.page(&format!("{explain}{second}")).await;
    assert!(html.contains("tasks/t2") && html.contains("Delivered"), "{html}");
    let html = bob.page(&format!("{explain}tasks/t2")).await;
    assert!(html.contains(second), "{html}");
    let html = bob.page(&format!("{explain}tasks/t1")).await;
    assert!(html.contains("may know of") && !html.contains(id), "{html}");
    assert!(bob.page(&format!("{explain}nothing")).await.contains("no event with this id"));
    assert_eq!(bob.get(&format!("/webhooks/{webhook}/explain?about={id}")).await.status, 404);
    let page = bob.page(&format!("/webhooks/{other}")).await;
    assert!(page.contains("Why was an event not sent?"), "{page}");
}
