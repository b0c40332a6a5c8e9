//! A webhook is paused only for answers of its current address.

use std::time::Duration;

use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::{Value, json};

use crate::world::{SOON, World, event};

/// The owner moves the webhook during an attempt at the old address, which then answers 410, or
/// fails again.
#[tokio::test]
async fn answer_of_an_old_address_does_not_pause_the_new_one() {
    let world = World::new().await.with("FANFARE_PAUSE_FAILING_AFTER", "1s");
    let receiver = Receiver::start().await;
    receiver.answer_with(|request, _| match request.path.as_str() {
        "/gone" => Reply::status(410).after(Duration::from_secs(3)),
        "/fails" => Reply::status(500).after(Duration::from_secs(3)),
        _ => Reply::status(200),
    });
    let gone = world.webhook(&receiver.url("/gone")).await;
    let fails = world.webhook_of("anna", &receiver.url("/fails"), &[]).await;
    // The webhook has failed for a while.
    let failing = "update webhooks set failing_since = now() - interval '10 minutes'";
    world.sql(&format!("{failing} where id = '{fails}'"));
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    let moves = |webhook: &str| {
        let to = receiver.url("/new");
        world.sql(&format!("update webhooks set uri = '{to}' where id = '{webhook}'"));
    };
    // The first attempts, and then the retry of the failed one.
    receiver.wait_for(2, SOON).await;
    moves(&gone);
    receiver.wait_for(3, SOON).await;
    moves(&fails);
    let delivered = world.deliveries(&gone, "delivered", 1).await;
    let shown = world.json(&["deliveries", "show", delivered[0]["id"].as_str().unwrap()]).await;
    assert_eq!(shown["attemptLog"][0]["outcome"], "gone");
    world.deliveries(&fails, "delivered", 1).await;
    for webhook in [gone, fails] {
        let shown = world.json(&["webhooks", "show", &webhook]).await;
        let paused = (&shown["IsPaused"], &shown["PausedReason"]);
        assert_eq!(paused, (&json!(false), &Value::Null), "{webhook}");
    }
}

/// The webhook failed, and then nothing was sent to it for days. One more failure does not mean
/// that it has failed for days.
#[tokio::test]
async fn failure_after_a_long_idle_time_does_not_pause() {
    let world = World::new()
        .await
        .with("FANFARE_PAUSE_FAILING_AFTER", "24h")
        .with("FANFARE_RETRY_ATTEMPTS", "3");
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    world.deliveries(&webhook, "dead", 1).await;
    // The failure was two days ago.
    world.sql("update events set received_at = received_at - interval '2 days'");
    world.sql("update event_keys set received_at = received_at - interval '2 days'");
    world.sql(
        "update attempts set at = at - interval '2 days', since = since - interval '2 days',
                             received_at = received_at - interval '2 days'",
    );
    world.sql("update webhooks set failing_since = failing_since - interval '2 days'");
    world.publish(&event()).await;
    world.deliveries(&webhook, "dead", 2).await;
    let shown = world.json(&["webhooks", "show", &webhook]).await;
    assert_eq!(shown["IsPaused"], json!(false), "{shown}");
    let since = "select failing_since > now() - interval '1 hour' from webhooks";
    assert_eq!(world.sql(since), "t");
    // After that much time of failures, without an idle time, the webhook is paused.
    world.sql(
        "update attempts set at = at - interval '25 hours' where at > now() - interval '1 day'",
    );
    world.sql(
        "insert into attempts (batch, webhook, entry, attempt, tries, since, state, at, outcome, revision,
                               received_at)
         select gen_random_uuid(), webhook, 1, 1, 1, now() - n * interval '30 minutes', 'dead',
                now() - n * interval '30 minutes', 'status', 0, now() - n * interval '30 minutes'
         from (select distinct webhook from attempts) w, generate_series(1, 50) n",
    );
    world.sql("update webhooks set failing_since = now() - interval '25 hours'");
    world.publish(&event()).await;
    fanfare_testkit::wait::eventually("the webhook is paused", SOON, async || {
        let shown = world.json(&["webhooks", "show", &webhook]).await;
        if shown["PausedReason"] == "failing" { Ok(()) } else { Err(shown) }
    })
    .await;
}
