//! Users list, show and retry their own deliveries.

use std::time::Duration;

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::{Api, NOBODY_S, ids, refused, wrong};
use crate::world::{SOON, event};

#[tokio::test]
async fn users_see_their_deliveries_as_commands_show_them() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let annas = api.world.webhook_of("Anna", &receiver.url("/anna"), &[]).await;
    let bobs = api.world.webhook_of("bob", &receiver.url("/bob"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    for _ in 0..2 {
        api.delivered(&[&annas, &bobs]).await;
    }
    let event = api.delivered(&[&annas, &bobs]).await;
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);

    let all = api.world.json(&["deliveries", "list"]).await;
    assert_eq!(root.read("/api/v1/deliveries").await, json!({ "items": all, "next": null }));
    let own = api.world.json(&["deliveries", "list", "--owner", "anna"]).await;
    assert_eq!(own.as_array().unwrap().len(), 3);
    assert_eq!(anna.read("/api/v1/deliveries").await["items"], own);
    assert_eq!(anna.read("/api/v1/deliveries?owner=ANNA").await["items"], own);
    assert_eq!(root.read("/api/v1/deliveries?owner=anna").await["items"], own);

    let event_id = event["id"].as_str().unwrap();
    let of_event = anna.read(&format!("/api/v1/deliveries?event={event_id}")).await;
    assert_eq!(of_event["items"].as_array().unwrap(), &own.as_array().unwrap()[..1]);
    let none = json!({ "items": [], "next": null });
    assert_eq!(anna.read(&format!("/api/v1/deliveries?webhook={bobs}")).await, none);
    assert_eq!(anna.read(&format!("/api/v1/deliveries?webhook={NOBODY_S}")).await, none);
    assert_eq!(anna.read("/api/v1/deliveries?state=dead").await, none);
    assert_eq!(anna.read("/api/v1/deliveries?state=pending").await, none);
    assert_eq!(anna.read("/api/v1/deliveries?state=delivered").await["items"], own);
    let middle = own[1]["createdAt"].as_str().unwrap();
    let until = anna.read(&format!("/api/v1/deliveries?until={middle}")).await;
    let since = anna.read(&format!("/api/v1/deliveries?since={middle}")).await;
    assert_eq!(ids(&until).len() + ids(&since).len(), 3);
    assert_eq!(until["items"][0], own[2]);

    let id = own[0]["id"].as_str().unwrap();
    let shown = api.world.json(&["deliveries", "show", id]).await;
    assert_eq!(anna.read(&format!("/api/v1/deliveries/{id}")).await, shown);
    assert_eq!(shown["attemptLog"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn requests_for_others_deliveries_and_invalid_requests_are_refused() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let bobs = api.world.webhook_of("bob", &receiver.url("/bob"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    api.delivered(&[&bobs]).await;
    let anna = api.sign_in("anna").await;
    let all = api.world.json(&["deliveries", "list"]).await;
    let bobs = all[0]["id"].as_str().unwrap();
    for id in [bobs, NOBODY_S, "no-id"] {
        refused(&anna.get(&format!("/api/v1/deliveries/{id}")).await, 404, "not-found");
        let retry = format!("/api/v1/deliveries/{id}/retry");
        refused(&anna.send("POST", &retry, "").await, 404, "not-found");
    }
    assert_eq!(receiver.count(), 1);
    refused(&anna.get("/api/v1/deliveries?owner=bob").await, 403, "forbidden");
    let all_wrong = "/api/v1/deliveries?webhook=x&state=lost&since=yesterday&until=1&limit=0\
                     &cursor=x&page=2&owner=%07";
    let problem = refused(&anna.get(all_wrong).await, 400, "invalid-request");
    let names = ["page", "webhook", "state", "since", "until", "limit", "cursor", "owner"];
    assert_eq!(wrong(&problem), names);

    let unknown = super::User { address: api.address, token: "x".to_owned() };
    for path in ["deliveries", "events", "dead-letters", "statistics"] {
        let answer = unknown.get(&format!("/api/v1/{path}")).await;
        refused(&answer, 401, "unauthorized");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{challenge}");
    }
    refused(&anna.get("/api/v1/nothing").await, 404, "not-found");
    let answer = anna.send("DELETE", "/api/v1/deliveries", "").await;
    refused(&answer, 405, "method-not-allowed");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
}

#[tokio::test]
async fn delivery_is_attempted_again_on_request() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    api.delivered(&[&webhook]).await;
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);
    let id = anna.read("/api/v1/deliveries").await["items"][0]["id"].as_str().unwrap().to_owned();
    let retry = format!("/api/v1/deliveries/{id}/retry");
    for (user, attempts) in [(&anna, 2), (&root, 3)] {
        user.send("POST", &retry, "").await.is(202, Some(&json!({ "id": id, "begun": true })));
        let requests = receiver.wait_for(attempts, SOON).await;
        let body: Value = serde_json::from_slice(&requests[attempts - 1].body).unwrap();
        assert_eq!((&body["Id"], &body["Attempt"]), (&json!(id), &json!(attempts)));
        api.world.deliveries(&webhook, "delivered", 1).await;
    }
    api.world.fanfare(&["webhooks", "pause", &webhook]).await;
    refused(&anna.send("POST", &retry, "").await, 409, "webhook-paused");
    api.world.fanfare(&["webhooks", "delete", &webhook]).await;
    refused(&anna.send("POST", &retry, "").await, 409, "webhook-deleted");
    // Its deliveries can still be read.
    assert_eq!(ids(&anna.read("/api/v1/deliveries").await), [id]);
}

#[tokio::test]
async fn failed_deliveries_are_resent_together_and_counted_by_the_hour() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let other = api.world.webhook_of("anna", &receiver.url("/other"), &["--paused"]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    for _ in 0..3 {
        api.world.publish(&crate::world::event()).await;
    }
    api.world.deliveries(&webhook, "dead", 3).await;
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let dead = anna.read("/api/v1/deliveries?state=dead&limit=2").await;
    assert_eq!(ids(&dead).len(), 2);
    let rest = dead["next"].as_str().unwrap();
    let rest = anna.read(&format!("/api/v1/deliveries?state=dead&limit=2&cursor={rest}")).await;
    assert_eq!((ids(&rest).len(), &rest["next"]), (1, &Value::Null));

    let path = format!("/api/v1/webhooks/{webhook}/retry-failed");
    let counted = json!({ "count": 3, "dryRun": true, "more": false });
    let nothing = json!({ "count": 0, "dryRun": true, "more": false });
    anna.send("POST", &format!("{path}?dryRun=true"), "").await.is(200, Some(&counted));
    let later = format!("{path}?dryRun=true&since=2100-01-01T00:00:00Z");
    anna.send("POST", &later, "").await.is(200, Some(&nothing));
    let problem = anna.send("POST", &format!("{path}?dryRun=perhaps&since=x"), "").await;
    assert_eq!(wrong(&refused(&problem, 400, "invalid-request")), ["dryRun", "since"]);
    refused(&bob.send("POST", &path, "").await, 404, "not-found");
    let paused = format!("/api/v1/webhooks/{other}/retry-failed");
    refused(&anna.send("POST", &paused, "").await, 409, "webhook-paused");
    receiver.answer_with(|_, _| Reply::status(200));
    refused(&anna.get(&path).await, 404, "not-found");
    let answer = anna.send("POST", &path, "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let begun = answer.json();
    let resend = &begun["resend"];
    assert_eq!(begun, json!({ "count": 3, "dryRun": false, "more": false, "resend": resend }));
    api.world.deliveries(&webhook, "delivered", 3).await;
    refused(&bob.get(&path).await, 404, "not-found");
    refused(&bob.send("DELETE", &path, "").await, 404, "not-found");
    // Routers count the outcomes every moment.
    let done = eventually("the resend is done and counted", SOON, async || {
        let shown = anna.read(&path).await;
        let is_counted = shown["ended"] == "done" && shown["delivered"] == 3;
        if is_counted { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!((&done["id"], &done["askedBy"]), (resend, &json!("anna")));
    assert_eq!((&done["total"], &done["begun"], &done["open"]), (&json!(3), &json!(3), &json!(0)));
    // A resend that has ended can't be cancelled.
    anna.send("DELETE", &path, "").await.is(200, Some(&done));
    anna.send("POST", &format!("{path}?dryRun=true"), "").await.is(200, Some(&nothing));
    statistics(&api, &webhook, &other).await;
}

/// Three deliveries of four failed attempts and a fifth that succeeded.
async fn statistics(api: &Api, webhook: &str, other: &str) {
    let (anna, bob) = (api.sign_in("anna").await, api.sign_in("bob").await);
    let (root, path) = (api.sign_in("root").await, "/api/v1/statistics");
    let of_webhook = anna.read(&format!("{path}?webhook={webhook}&hours=2")).await;
    assert_eq!(of_webhook["attempts"], 15);
    assert_eq!(of_webhook["delivered"], 3);
    assert_eq!(of_webhook["successRate"], 0.2);
    assert_eq!(of_webhook["last"]["outcome"], "delivered");
    assert_eq!(of_webhook["last"]["status"], 200);
    assert_eq!(of_webhook["last"]["webhook"], webhook);
    let hours = of_webhook["hours"].as_array().unwrap();
    assert_eq!(hours.len(), 2);
    let count = |outcome: &str| -> i64 {
        hours.iter().filter_map(|hour| hour["outcomes"][outcome].as_i64()).sum()
    };
    assert_eq!((count("delivered"), count("status")), (3, 12));
    // Without a webhook, the statistics cover everything that the user may see, and nothing else.
    for user in [&anna, &root] {
        let all = user.read(&format!("{path}?hours=2")).await;
        assert_eq!((&all["attempts"], &all["last"]), (&json!(15), &of_webhook["last"]));
    }
    assert_eq!(
        root.read(&format!("{path}?owner=anna")).await["hours"].as_array().unwrap().len(),
        24
    );
    for empty in [
        bob.read(path).await,
        root.read(&format!("{path}?owner=bob")).await,
        anna.read(&format!("{path}?webhook={other}")).await,
    ] {
        assert_eq!((&empty["attempts"], &empty["successRate"]), (&json!(0), &Value::Null));
        assert_eq!(empty["last"], Value::Null);
    }
    refused(&bob.get(&format!("{path}?webhook={webhook}")).await, 404, "not-found");
    refused(&anna.get(&format!("{path}?owner=bob")).await, 403, "forbidden");
    let problem = refused(&anna.get(&format!("{path}?hours=745")).await, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["hours"]);
}

#[tokio::test]
async fn pending_delivery_is_listed_and_shown() {
    let api = Api::start().await;
    let webhook = api.world.webhook_of("anna", "http://127.0.0.1:9/", &[]).await;
    let _router = api.world.start("router").await;
    api.world.publish(&crate::world::event()).await;
    let anna = api.sign_in("anna").await;
    for query in ["", "?state=pending", &format!("?webhook={webhook}&state=pending")] {
        let path = format!("/api/v1/deliveries{query}");
        let id = eventually("it is pending", SOON, async || {
            let page = anna.read(&path).await;
            (page["items"][0]["state"] == "pending").then(|| ids(&page).remove(0))
        })
        .await;
        let shown = anna.read(&format!("/api/v1/deliveries/{id}")).await;
        assert_eq!((&shown["attempts"], &shown["attemptLog"]), (&json!(0), &json!([])));
        let retry = format!("/api/v1/deliveries/{id}/retry");
        let soon = json!({ "id": id, "begun": false });
        anna.send("POST", &retry, "").await.is(202, Some(&soon));
    }
}

/// Two concurrent POSTs could both arrive, and the ledger would keep the outcome of one.
#[tokio::test]
async fn send_again_during_an_attempt_is_refused_until_it_has_ended() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, count| match count {
        0 => Reply::status(500),
        _ => Reply::status(200).after(Duration::from_secs(4)),
    });
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    api.world.publish(&event()).await;
    receiver.wait_for(2, SOON).await;
    let anna = api.sign_in("anna").await;
    let id = ids(&anna.read("/api/v1/deliveries").await).remove(0);
    let retry = format!("/api/v1/deliveries/{id}/retry");
    let problem = refused(&anna.send("POST", &retry, "").await, 409, "attempt-under-way");
    let detail = "An attempt is in progress; wait until it has ended.";
    assert_eq!(problem["detail"], json!(detail), "{problem}");
    let words = "an attempt is being made now; wait until it has ended";
    let command = api.world.run(&["deliveries", "retry", &id], None).await;
    assert_eq!(command.status.code(), Some(1));
    assert!(command.stderr.contains(words), "{}", command.stderr);
    let delivered = api.world.deliveries(&webhook, "delivered", 1).await;
    assert_eq!((receiver.count(), &delivered[0]["attempts"]), (2, &json!(2)));
    // Now it is sent again, and the attempt numbers continue.
    let answer = anna.send("POST", &retry, "").await;
    assert_eq!((answer.status, &answer.json()["begun"]), (202, &json!(true)));
    let requests = receiver.wait_for(3, SOON).await;
    let body: Value = serde_json::from_slice(&requests[2].body).unwrap();
    assert_eq!((&body["Id"], &body["Attempt"]), (&json!(id), &json!(3)));
}
