//! Dead letters: administrators list, replay and discard them.

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::{Api, User, refused, wrong};
use crate::world::{SOON, event};

const LIST: &str = "/api/v1/dead-letters";
const REPLAY: &str = "/api/v1/dead-letters/replay";
const DISCARD: &str = "/api/v1/dead-letters/discard";

/// Waits until there are `count` dead letters; returns them.
async fn letters(root: &User, count: usize) -> Vec<Value> {
    eventually("the dead letters are there", SOON, async || {
        let answer = root.get(LIST).await;
        let found = if answer.status == 200 { answer.json()["items"].take() } else { Value::Null };
        let found = found.as_array().cloned().unwrap_or_default();
        if found.len() == count { Ok(found) } else { Err(answer) }
    })
    .await
}

fn result(count: u64, dry_run: bool) -> Value {
    json!({ "count": count, "dryRun": dry_run, "complete": true, "missing": [], "kept": [] })
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_discarded() {
    let api = Api::start().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = api.world.webhook_of("anna", &receiver.url("/anna"), &[]).await;
    let (_router, _worker) = (api.world.start("router").await, api.world.start("worker").await);
    let root = api.sign_in("root").await;
    for _ in 0..2 {
        let mut unknown = event();
        unknown["type"] = json!("galaxies.create");
        api.world.publish(&unknown).await;
    }
    api.world.publish(&event()).await;
    let all = letters(&root, 3).await;
    assert_eq!(api.world.json(&["dead-letters", "list"]).await, json!(all));
    let dead = root.read(&format!("{LIST}?queue=deliveries&webhook={webhook}")).await;
    assert_eq!(dead, json!({ "items": [all[2]], "complete": true }));
    let unknown = root.read(&format!("{LIST}?reason=unknown-filter&limit=1")).await;
    assert_eq!(unknown["items"], json!([all[0]]));
    assert_eq!(unknown["complete"], json!(false));
    let next = unknown["next"].as_str().unwrap();
    let rest = root.read(&format!("{LIST}?reason=unknown-filter&limit=1&cursor={next}")).await;
    assert_eq!(rest, json!({ "items": [all[1]], "complete": true }));

    let by_reason = json!({ "reason": "exhausted", "dryRun": true });
    root.post(REPLAY, &by_reason).await.is(200, Some(&result(1, true)));
    // An attempt would drop the delivery, so it stays dead until the webhook is resumed.
    api.world.fanfare(&["webhooks", "pause", &webhook]).await;
    for dry_run in [true, false] {
        let of_webhook = json!({ "webhook": webhook, "dryRun": dry_run });
        let answer = root.post(REPLAY, &of_webhook).await.json();
        assert_eq!((&answer["count"], &answer["kept"]), (&json!(0), &json!([all[2]["id"]])));
        let why = &answer["keptBecause"][0];
        assert_eq!((&why["id"], &why["code"]), (&all[2]["id"], &json!("webhook-paused")));
    }
    api.world.deliveries(&webhook, "dead", 1).await;
    api.world.fanfare(&["webhooks", "resume", &webhook]).await;
    receiver.answer_with(|_, _| Reply::status(200));
    root.post(REPLAY, &json!({ "webhook": webhook })).await.is(200, Some(&result(1, false)));
    api.world.deliveries(&webhook, "delivered", 1).await;
    // An event that is still invalid becomes a dead letter again.
    let ids = json!({ "ids": [all[0]["id"]] });
    root.post(REPLAY, &ids).await.is(200, Some(&result(1, false)));
    letters(&root, 2).await;
    root.post(DISCARD, &json!({ "all": true, "dryRun": true }))
        .await
        .is(200, Some(&result(2, true)));
    let missing = json!({ "ids": [all[1]["id"], "none"] });
    let answer = root.post(DISCARD, &missing).await.json();
    assert_eq!((&answer["count"], &answer["missing"]), (&json!(1), &json!(["none"])));
    let rest = json!({ "all": true, "queue": "events" });
    root.post(DISCARD, &rest).await.is(200, Some(&result(1, false)));
    letters(&root, 0).await;
}

#[tokio::test]
async fn dead_letters_require_an_administrator_and_a_selection() {
    let api = Api::start().await;
    let (anna, root) = (api.sign_in("anna").await, api.sign_in("root").await);
    refused(&anna.get(LIST).await, 403, "forbidden");
    for path in [REPLAY, DISCARD] {
        refused(&anna.post(path, &json!({ "all": true })).await, 403, "forbidden");
        for (body, names) in [
            (json!({}), [""].as_slice()),
            (json!({ "queue": "events" }), &[""]),
            (json!({ "everything": true }), &[""]),
            (json!({ "ids": ["a"], "all": true }), &["all"]),
            (json!({ "queue": "x", "webhook": "y", "all": true }), &["queue", "webhook"]),
        ] {
            let problem = refused(&root.post(path, &body).await, 400, "invalid-request");
            assert_eq!(wrong(&problem), names, "{body}");
        }
    }
    let problem = root.get(&format!("{LIST}?queue=x&webhook=y&limit=0&cursor=1")).await;
    let problem = refused(&problem, 400, "invalid-request");
    assert_eq!(wrong(&problem), ["queue", "webhook", "limit", "cursor"]);
}
