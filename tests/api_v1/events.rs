//! Events and their explanations.

use fanfare_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::{Api, ids, refused, wrong};
use crate::world::event;

#[tokio::test]
async fn administrators_see_events_as_commands_show_them() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    for _ in 0..3 {
        api.delivered(&[&webhook]).await;
    }
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);
    let list = api.world.json(&["events", "list"]).await;
    let path = "/api/v1/events";
    assert_eq!(root.read(path).await, json!({ "items": list, "next": null }));
    let first = root.read(&format!("{path}?limit=2")).await;
    let rest = first["next"].as_str().unwrap();
    let rest = root.read(&format!("{path}?limit=2&cursor={rest}")).await;
    let both: Vec<String> = ids(&first).into_iter().chain(ids(&rest)).collect();
    assert_eq!((both, &rest["next"]), (ids(&json!({ "items": list })), &Value::Null));
    for (query, count) in [
        ("type=Tasks", 3),
        ("type=tasks.delete", 0),
        ("subject=tasks/t1", 3),
        ("subject=tasks/t2", 0),
        ("since=2100-01-01T00:00:00Z", 0),
        ("since=2000-01-01T00:00:00Z", 3),
        (&format!("webhook={webhook}"), 3),
    ] {
        assert_eq!(ids(&root.read(&format!("{path}?{query}")).await).len(), count, "{query}");
    }
    let id = ids(&first).remove(0);
    let shown = api.world.json(&["events", "show", &id]).await;
    assert_eq!(root.read(&format!("{path}/{id}?source=/tests")).await, shown);

    refused(&anna.get(path).await, 403, "forbidden");
    refused(&anna.get(&format!("{path}/{id}")).await, 403, "forbidden");
    for unknown in ["none", &format!("{id}?source=other"), "a%00b"] {
        refused(&root.get(&format!("{path}/{unknown}")).await, 404, "not-found");
    }
    let problem = root.get(&format!("{path}?type=planets&subject=x&source=1")).await;
    let problem = refused(&problem, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["source", "type", "subject"]);
}

#[tokio::test]
async fn id_of_two_sources_requires_the_source() {
    let api = Api::start().await;
    let webhook = api.world.webhook_of("anna", "http://127.0.0.1:9/", &["--paused"]).await;
    let _router = api.world.start("router").await;
    let (mut one, root) = (event(), api.sign_in("root").await);
    api.world.publish(&one).await;
    one["source"] = json!("/other");
    api.world.publish(&one).await;
    let id = one["id"].as_str().unwrap();
    fanfare_testkit::wait::eventually("both events are stored", super::SOON, async || {
        (ids(&root.read("/api/v1/events").await).len() == 2).then_some(())
    })
    .await;
    for path in [format!("/api/v1/events/{id}"), format!("/api/v1/events/{id}/explain")] {
        let problem = refused(&root.get(&path).await, 409, "ambiguous-event");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("/tests") && detail.contains("/other"), "{detail}");
    }
    let explained = root.read(&format!("/api/v1/events/{id}/explain?source=/other")).await;
    assert_eq!(explained[0]["webhook"], webhook);
}

#[tokio::test]
async fn id_shared_with_an_unreadable_event_makes_no_difference_to_an_owner() {
    let api = Api::start().await;
    let webhook = api.world.webhook_of("anna", "http://127.0.0.1:9/", &["--paused"]).await;
    let _router = api.world.start("router").await;
    let (own, root, anna) = (event(), api.sign_in("root").await, api.sign_in("anna").await);
    let mut hidden = own.clone();
    hidden["source"] = json!("/hidden");
    hidden["type"] = json!("reports.upload");
    hidden["subject"] = json!("categories/hidden/reports/hidden");
    api.world.publish(&hidden).await;
    api.world.publish(&own).await;
    fanfare_testkit::wait::eventually("both events are stored", super::SOON, async || {
        (ids(&root.read("/api/v1/events").await).len() == 2).then_some(())
    })
    .await;
    let path = format!("/api/v1/events/{}/explain", own["id"].as_str().unwrap());
    refused(&root.get(&path).await, 409, "ambiguous-event");
    let explained = anna.read(&path).await;
    assert_eq!(explained[0]["webhook"], webhook);
    assert_eq!(explained[0]["verdict"], "webhook-paused", "{explained}");
}

#[tokio::test]
async fn explanations_match_the_commands_and_reveal_nothing_unreadable() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let annas = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let paused = api.world.webhook_of("anna", &receiver.url("/paused"), &["--paused"]).await;
    let bobs = api.world.webhook_of("bob", &receiver.url("/bob"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let event_id = api.delivered(&[&annas, &bobs]).await["id"].as_str().unwrap().to_owned();
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let (root, path) = (api.sign_in("root").await, format!("/api/v1/events/{event_id}/explain"));
    let all = api.world.json(&["events", "explain", &event_id]).await;
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(root.read(&path).await, all);
    let own = api.world.json(&["events", "explain", &event_id, "--owner", "anna"]).await;
    assert_eq!(anna.read(&path).await, own);
    assert_eq!(root.read(&format!("{path}?owner=anna")).await, own);
    let one = api.world.json(&["events", "explain", &event_id, "--webhook", &paused]).await;
    assert_eq!(anna.read(&format!("{path}?webhook={paused}")).await, one);
    assert_eq!(one[0]["verdict"], "webhook-paused");

    refused(&bob.get(&format!("{path}?webhook={annas}")).await, 404, "not-found");
    refused(&bob.get(&format!("{path}?owner=anna")).await, 403, "forbidden");
    refused(&bob.get("/api/v1/events/none/explain").await, 404, "not-found");
    // An event about a report; bob may read no reports.
    let mut report = event();
    report["type"] = json!("reports.upload");
    report["subject"] = json!("categories/hidden/reports/hidden");
    api.world.publish(&report).await;
    let path = format!("/api/v1/events/{}/explain", report["id"].as_str().unwrap());
    let explained =
        fanfare_testkit::wait::eventually("the event is stored", super::SOON, async || {
            let answer = bob.get(&path).await;
            (answer.status == 200).then(|| answer.json())
        })
        .await;
    assert_eq!(explained[0]["webhook"], bobs);
    assert_eq!(
        (&explained[0]["verdict"], &explained[0]["scopes"]),
        (&json!("no-access"), &json!([]))
    );
    assert!(!explained.to_string().contains("hidden"), "{explained}");
    assert!(root.read(&path).await.to_string().contains("hidden"));
}
