//! Published events, deliveries, and dead letters.

use fanfare_broker::dead_letters::reject;
use fanfare_broker::{Message, Queue};
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_testkit::sandbox::Sandbox;
use serde_json::json;
use uuid::Uuid;

use crate::servers::{CliWithServers, keys};

#[tokio::test]
async fn events_are_published_unchanged() {
    let servers = CliWithServers::new().await;
    let event = |id: u32| format!(r#"{{"id":"{id}","type":"reports.upload"}}"#);
    let file = |text: &str| servers.cli.file("events", text).display().to_string();
    let lines = file(&format!("{}\n{}\n42\n", event(1), event(2)));
    assert_eq!(servers.ok(&["publish", &lines]), "published 3 events\n");
    assert_eq!(servers.depth(Queue::Events).await, 3);
    let array = file(&format!("[{},{}]", event(3), event(4)));
    assert_eq!(servers.ok(&["publish", "--batch", &array]), "published 2 events in one message\n");
    assert_eq!(servers.depth(Queue::Events).await, 4);
    assert_eq!(servers.ok(&["publish", &array]), "published 2 events\n");

    let broken = file(&format!("{}\nnot json\n", event(5)));
    let ended = servers.run(&["publish", &broken]);
    assert!(ended.failed_with(1).contains("line 2 is not JSON"), "{ended:?}");
    assert!(servers.run(&["publish", &file("")]).failed_with(1).contains("holds no event"));
    assert_eq!(servers.depth(Queue::Events).await, 6);
}

#[tokio::test]
async fn dead_events_are_listed_replayed_and_discarded() {
    let servers = CliWithServers::migrated().await;
    let session = servers.session().await;
    let died = [("e1", "unknown-filter"), ("e2", "bad-data"), ("e3", "bad-data")];
    for ((id, reason), second) in died.into_iter().zip(1_800_000_000..) {
        let message = Message::new(format!(r#"{{"id":"{id}"}}"#), "application/cloudevents+json");
        let at = chrono::DateTime::from_timestamp(second, 0).unwrap();
        let letter = reject(&message, "reports.upload", reason, "no", at);
        session.publisher().publish(&Queue::EventsDead.into(), letter).await.unwrap();
    }
    let all = servers.json(&["dead-letters", "list"]);
    assert_eq!(
        keys(&all[0]),
        [
            "id",
            "queue",
            "reason",
            "detail",
            "webhook",
            "owner",
            "event",
            "attempts",
            "lastStatus",
            "deadAt",
            "type",
            "host",
            "outcome",
            "error",
            "cause"
        ]
    );
    let events: Vec<&str> =
        all.as_array().unwrap().iter().map(|one| one["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["e1", "e2", "e3"]);
    let bad = servers.json(&["dead-letters", "list", "--queue", "events", "--reason", "bad-data"]);
    assert_eq!(bad.as_array().unwrap().len(), 2);
    assert_eq!(servers.json(&["dead-letters", "list", "--queue", "deliveries"]), json!([]));
    let id = all[0]["id"].as_str().unwrap();
    assert_eq!(servers.json(&["dead-letters", "show", id])["body"], r#"{"id":"e1"}"#);

    let all_of = ["dead-letters", "replay", "--reason", "bad-data", "--dry-run"];
    assert_eq!(servers.ok(&all_of), "would replay 2\n");
    assert_eq!(servers.depth(Queue::EventsDead).await, 3);
    assert_eq!(servers.ok(&all_of[..4]), "replayed 2\n");
    assert_eq!(servers.depth(Queue::Events).await, 2);
    let ended = servers.run(&["dead-letters", "discard", id, "unknown"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(1), "discarded 1\n"));
    assert!(ended.stderr.contains("no such dead letter: unknown"), "{}", ended.stderr);
    assert_eq!(servers.json(&["dead-letters", "list"]), json!([]));
    assert_eq!(servers.ok(&["dead-letters", "discard", "--all"]), "discarded 0\n");
    assert!(servers.run(&["dead-letters", "discard"]).failed_with(2).contains("--all"));
}

/// Registers a webhook.
fn webhook(servers: &CliWithServers) -> WebhookId {
    let add = ["webhooks", "add", "--owner", "anna", "--url", "http://x.example/", "--no-verify"];
    servers.json(&add)["Id"].as_str().unwrap().parse().unwrap()
}

/// Writes a dead delivery with one failed attempt into the ledger.
fn seed_dead(sandbox: &Sandbox, webhook: WebhookId) -> (BatchKey, DeliveryId) {
    let batch = BatchKey(Uuid::now_v7());
    sandbox
        .sql(&format!(
            "insert into events (key, batch, position, source, event_id, event_type, subject,
                                 decided_revision, notification, webhooks)
             values ('{batch}', '{batch}', 0, 's', 'e-{batch}', 'tasks.execute', 'tasks/t', 1,
                     '{{}}', array['{webhook}'::uuid]);
             insert into event_keys (week, key, batch, received_at)
             select date_trunc('week', received_at, 'UTC'), key, batch, received_at
             from events where key = '{batch}';
             insert into attempts (batch, webhook, entry, attempt, tries, since, state, reason, at,
                                   duration_ms, outcome, status, response_body, revision, received_at)
             select batch, '{webhook}', 1, 12, 12, received_at, 'dead', 'exhausted', received_at,
                    5, 'status', 500, 'oops', 1, received_at
             from events where key = '{batch}'"
        ))
        .unwrap();
    (batch, DeliveryId::of(batch, webhook))
}

/// The dead letter of a delivery that died by its first row.
fn dead_letter(batch: BatchKey, webhook: WebhookId) -> Message {
    let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let body = Message::new("{}", "application/json");
    let mut letter = reject(&body, "", "exhausted", "given up", at);
    letter
        .headers
        .set("x-fanfare-dead-letter-id", format!("{}-1", DeliveryId::of(batch, webhook)))
        .set("x-fanfare-batch", batch.to_string())
        .set("x-fanfare-webhook", webhook.to_string())
        .set("x-fanfare-owner", "anna")
        .set("x-fanfare-event", "e1")
        .set("x-fanfare-attempts", 12)
        .set("x-fanfare-last-status", 500);
    letter
}

#[tokio::test]
async fn deliveries_are_listed_shown_and_retried() {
    let servers = CliWithServers::migrated().await;
    let webhook = webhook(&servers);
    let (_, id) = seed_dead(&servers.sandbox, webhook);
    let (id, webhook) = (id.to_string(), webhook.to_string());
    let listed = servers.json(&["deliveries", "list", "--webhook", &webhook, "--state", "dead"]);
    assert_eq!(
        keys(&listed[0]),
        [
            "id",
            "webhook",
            "owner",
            "url",
            "events",
            "types",
            "state",
            "attempts",
            "lastStatus",
            "reason",
            "createdAt",
            "finishedAt",
            "nextAttemptAt",
        ]
    );
    assert_eq!((&listed[0]["id"], &listed[0]["lastStatus"]), (&json!(id), &json!(500)));
    assert_eq!(servers.json(&["deliveries", "list", "--state", "delivered"]), json!([]));
    assert_eq!(servers.json(&["deliveries", "list", "--event", "none"]), json!([]));
    let shown = servers.json(&["deliveries", "show", &id]);
    assert_eq!(
        keys(&shown["attemptLog"][0]),
        [
            "attempt",
            "at",
            "durationMs",
            "status",
            "outcome",
            "error",
            "responseBody",
            "timings",
            "responseHeaders",
        ]
    );
    assert!(servers.ok(&["deliveries", "show", &id]).contains("oops"));
    assert_eq!(servers.ok(&["deliveries", "retry", &id]), "retrying 1\n");
    assert_eq!(servers.depth(Queue::Retries).await, 1);
    assert_eq!(servers.json(&["deliveries", "show", &id])["state"], "pending");
    let again = servers.run(&["deliveries", "retry", &id]);
    assert!(again.stderr.contains("an attempt is due now"), "{again:?}");
    let unknown = "0".repeat(32);
    assert!(servers.run(&["deliveries", "retry", &unknown]).failed_with(1).contains("no delivery"));
    assert!(
        servers.run(&["deliveries", "list", "--state", "lost"]).failed_with(2).contains("dropped")
    );
}

#[tokio::test]
async fn dead_delivery_is_replayed_unless_it_is_unknown() {
    let servers = CliWithServers::migrated().await;
    let session = servers.session().await;
    let webhook = webhook(&servers);
    let (batch, id) = seed_dead(&servers.sandbox, webhook);
    let unknown = BatchKey(Uuid::now_v7());
    for batch in [batch, unknown] {
        let letter = dead_letter(batch, webhook);
        session.publisher().publish(&Queue::DeliveriesDead.into(), letter).await.unwrap();
    }
    let listed = servers.json(&["dead-letters", "list", "--webhook", &webhook.to_string()]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["queue"], "deliveries");
    let event = format!("e-{batch}");
    assert_eq!((&listed[0]["owner"], &listed[0]["event"]), (&json!("anna"), &json!(event)));
    assert_eq!((&listed[0]["attempts"], &listed[0]["lastStatus"]), (&json!(12), &json!(500)));
    let replayed = servers.run(&["dead-letters", "replay", "--all"]);
    assert_eq!((replayed.code(), replayed.stdout.as_str()), (Some(0), "replayed 1\n"));
    assert!(replayed.stderr.contains("does not know the delivery"), "{}", replayed.stderr);
    assert_eq!(servers.depth(Queue::Retries).await, 1);
    assert_eq!(servers.depth(Queue::DeliveriesDead).await, 1);
    let shown = servers.json(&["deliveries", "show", &id.to_string()]);
    assert_eq!(shown["state"], "pending");
}

/// An attempt would only drop them, and a dropped delivery can't be replayed any more.
#[tokio::test]
async fn dead_deliveries_of_a_paused_or_deleted_webhook_stay_dead() {
    let servers = CliWithServers::migrated().await;
    let session = servers.session().await;
    let (paused, deleted, other) = (webhook(&servers), webhook(&servers), webhook(&servers));
    let mut dead = Vec::new();
    for webhook in [paused, deleted, other] {
        let (batch, id) = seed_dead(&servers.sandbox, webhook);
        let letter = dead_letter(batch, webhook);
        session.publisher().publish(&Queue::DeliveriesDead.into(), letter).await.unwrap();
        dead.push(id.to_string());
    }
    let (paused, deleted) = (paused.to_string(), deleted.to_string());
    servers.ok(&["webhooks", "pause", &paused]);
    servers.ok(&["webhooks", "delete", &deleted]);
    let state = |id: &str| servers.json(&["deliveries", "show", id])["state"].clone();

    let ended = servers.run(&["deliveries", "retry", &dead[0], &dead[1]]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(1), "retrying 0\n"), "{ended:?}");
    let advice = format!("`fanfare webhooks resume {paused}`");
    assert!(ended.stderr.contains(&dead[0]) && ended.stderr.contains(&advice), "{ended:?}");
    assert!(ended.stderr.contains(&format!("webhook {deleted} is deleted")), "{ended:?}");
    assert_eq!((state(&dead[0]), state(&dead[1])), (json!("dead"), json!("dead")));

    let listed = servers.json(&["dead-letters", "list", "--webhook", &paused]);
    let letter = listed[0]["id"].as_str().unwrap();
    let ended = servers.run(&["dead-letters", "replay", letter]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(1), "replayed 0\n"), "{ended:?}");
    assert!(ended.stderr.contains(letter) && ended.stderr.contains(&advice), "{ended:?}");
    let counted = servers.run(&["dead-letters", "replay", "--all", "--dry-run"]);
    assert_eq!(
        (counted.code(), counted.stdout.as_str()),
        (Some(0), "would replay 1\n"),
        "{counted:?}"
    );
    let ended = servers.run(&["dead-letters", "replay", "--all"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "replayed 1\n"), "{ended:?}");
    for stderr in [&counted.stderr, &ended.stderr] {
        assert!(stderr.contains("kept 1: the webhook is paused"), "{stderr}");
        assert!(stderr.contains("kept 1: the webhook is deleted"), "{stderr}");
    }
    assert_eq!(servers.depth(Queue::DeliveriesDead).await, 2);
    assert_eq!(dead.iter().map(|id| state(id)).collect::<Vec<_>>(), ["dead", "dead", "pending"]);

    servers.ok(&["webhooks", "resume", &paused]);
    assert_eq!(servers.ok(&["dead-letters", "replay", letter]), "replayed 1\n");
    assert_eq!(state(&dead[0]), "pending");
}
