//! Cursors of lists.

use std::collections::BTreeSet;

use fanfare_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::{Api, User, ids};
use crate::world::{event, publish_on};

/// Goes through all pages of a list, and does something after each; returns the ids in order.
async fn walk(user: &User, query: &str, mut after_each: impl AsyncFnMut()) -> Vec<String> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/deliveries?limit=7{query}{cursor}");
        let page = user.read(&path).await;
        let times = page["items"].as_array().unwrap().iter().map(|one| one["createdAt"].as_str());
        assert!(times.is_sorted_by(|newer, older| newer >= older), "{page}");
        all.extend(ids(&page));
        match &page["next"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            next => {
                assert_eq!(*next, Value::Null);
                return all;
            }
        }
        assert_eq!(ids(&page).len(), 7);
        after_each().await;
    }
}

/// A batch of three events.
fn batch() -> Value {
    json!([event(), event(), event()])
}

#[tokio::test]
async fn pages_have_each_delivery_once_while_new_ones_arrive() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let mut webhooks = Vec::new();
    for owner in ["anna", "anna", "bob"] {
        webhooks.push(api.world.webhook_of(owner, &receiver.url("/hook"), &[]).await);
    }
    let amqp = api.world.amqp().await;
    let publish = async |count: usize| {
        for _ in 0..count {
            publish_on(&amqp, &event()).await;
            let kind = "application/cloudevents-batch+json";
            let body = batch().to_string();
            let exchange = "reportserver.events";
            amqp.publish(exchange, "tasks.execute", kind, &[], body.as_bytes()).await.unwrap();
        }
    };
    let _router = api.world.start("router").await;
    publish(12).await;
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);
    // No worker runs yet. The deliveries change from pending to delivered while they are listed.
    let all = fanfare_testkit::wait::eventually("all are planned", super::SOON, async || {
        let all = ids(&root.read("/api/v1/deliveries?limit=1000").await);
        (all.len() == 2 * 12 * 3).then_some(all)
    })
    .await;
    let _worker = api.world.start("worker").await;
    let own = ids(&anna.read("/api/v1/deliveries?limit=1000").await);
    let one =
        ids(&anna.read(&format!("/api/v1/deliveries?limit=1000&webhook={}", webhooks[0])).await);
    assert_eq!((own.len(), one.len()), (2 * 12 * 2, 2 * 12));
    let of_webhook = format!("&webhook={}", webhooks[0]);
    let delivered = format!("{of_webhook}&state=delivered");
    for (user, query, expected) in
        [(&root, "", &all), (&anna, "", &own), (&anna, of_webhook.as_str(), &one)]
    {
        let walked = walk(user, query, async || publish(1).await).await;
        let distinct: BTreeSet<&String> = walked.iter().collect();
        assert_eq!(distinct.len(), walked.len(), "{query}: {walked:?}");
        let missing: Vec<_> = expected.iter().filter(|id| !distinct.contains(id)).collect();
        assert!(missing.is_empty(), "{query}: {missing:?}");
    }
    api.world.deliveries_settle(&webhooks[0]).await;
    let walked = walk(&anna, &delivered, async || ()).await;
    let list = ["deliveries", "list", "--webhook", &webhooks[0], "--limit", "1000"];
    let list = api.world.json(&list).await;
    assert_eq!(walked, ids(&json!({ "items": list })));
}
