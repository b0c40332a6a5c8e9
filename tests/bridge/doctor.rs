//! What `fanfare doctor`, the metrics and the log say of a bridge.

use std::collections::HashMap;
use std::time::Duration;

use fanfare_testkit::report_server::{Dialect, Kind};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};

use super::Bridged;
use crate::metrics::{Watched, listening};
use crate::world::{SOON, World};

impl Bridged {
    /// What `fanfare doctor` finds, by the names of the checks.
    async fn doctor(&self, changed: &[(&str, &str)]) -> HashMap<String, (bool, String)> {
        let output = self.world.run_with_envs(&["doctor", "--json"], changed).await;
        let checks: Vec<Value> = serde_json::from_str(&output.stdout).unwrap();
        let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
        checks
            .iter()
            .map(|it| (text(it, "check"), (it["ok"] == true, text(it, "detail"))))
            .collect()
    }

    async fn doctor_says(&self, changed: &[(&str, &str)], check: &str, words: &str) {
        let found = self.doctor(changed).await;
        let (is_ok, detail) = &found[check];
        assert!(!is_ok && detail.contains(words), "{check}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_what_is_wrong_with_the_report_server_and_what_to_do() {
    let bridged = Bridged::new(Dialect::Net).await;
    let (server, world) = (&bridged.server, &bridged.world);
    let _router = world.start("router").await;
    bridged.doctor_says(&[], "bridge's webhook", "start `fanfare bridge`").await;
    bridged.doctor_says(&[], "bridge's address", "FANFARE_BRIDGE_URL").await;
    let bridge = bridged.start().await;
    let found = bridged.doctor(&[]).await;
    let of_bridge = ["report server", "bridge's webhook", "notifications", "bridge's address"];
    assert!(of_bridge.iter().all(|check| found[*check].0), "{found:?}");

    let wrong = [("FANFARE_BRIDGE_PASSWORD", "wr0ng-password")];
    bridged.doctor_says(&wrong, "report server", "check FANFARE_BRIDGE_USER").await;
    let ben = server.add_user("Ben");
    let of_ben = [("FANFARE_BRIDGE_USER", "Ben"), ("FANFARE_BRIDGE_PASSWORD", "pa55word-of-Ben")];
    bridged.doctor_says(&of_ben, "report server", "member of System Administrator").await;
    server.enable_user(&ben, false);
    bridged.doctor_says(&of_ben, "report server", "local user that is enabled").await;
    let other = [("FANFARE_BRIDGE_SERVER", "http://127.0.0.1:1")];
    bridged.doctor_says(&other, "report server", "does not answer").await;
    server.switch(|it| it.html = 1);
    bridged.doctor_says(&[], "report server", "that asks people to sign in").await;
    server.switch(|it| it.html = 0);
    let second = server.add_role("SYSTEM ADMINISTRATOR", &[]);
    bridged.doctor_says(&[], "report server", "two roles have the name").await;
    server.remove_role(&second);
    drop(bridge);
    server.edit_webhooks(&json!({ "Filters": ["reports"] }));
    bridged.doctor_says(&[], "bridge's webhook", "for some events only").await;
    server.pause_webhooks();
    bridged.doctor_says(&[], "bridge's webhook", "paused at the report server").await;
    server.switch(|it| it.has_webhooks = false);
    bridged.doctor_says(&[], "bridge's webhook", "its base URL is empty").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_server_that_posts_nothing_is_noticed() {
    let bridged = Bridged::new(Dialect::Framework).await;
    let server = &bridged.server;
    server.switch(|it| it.no_base_url = true);
    let _router = bridged.world.start("router").await;
    let bridge = bridged.start().await;
    eventually("the log names the base URL", SOON, async || {
        server.create(Kind::Reports, Some("sales"));
        let lines = bridge.lines();
        let is_named =
            |line: &String| line.contains("check its base URL (Configuration > Webhooks)");
        if lines.iter().any(is_named) { Ok(()) } else { Err(lines) }
    })
    .await;
    // In doctor, a change counts only when its notification can't come any more.
    server.age(Duration::from_hours(1));
    server.edit_webhooks(&json!({ "Properties": { "FanfareSince": "2020-01-01T00:00:00Z" } }));
    bridged.doctor_says(&[], "notifications", "no error shows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_a_bridge_show_its_journal_its_readings_and_its_webhook() {
    let (world, mut broker) = World::new().await.with_broker_proxy();
    let world = listening(world).with("FANFARE_BRIDGE_JOURNAL", "1");
    let bridged = Bridged::of(Dialect::Framework, world).await;
    let server = &bridged.server;
    let _router = bridged.world.start("router").await;
    let bridge = Watched::spawn(&bridged.world, "bridge").await;
    bridge.is_ready().await;
    bridged.registered().await;
    bridge
        .exports(&[("bridge_webhook_registered", 1.0), ("bridge_journal_limit_bytes", 1_048_576.0)])
        .await;
    server.create(Kind::Reports, Some("sales"));
    bridge
        .exports(&[
            ("bridge_posts_total{result=\"accepted\"}", 1.0),
            ("bridge_events_published_total", 1.0),
            ("bridge_journal_posts", 0.0),
            ("bridge_oldest_post_timestamp_seconds", 0.0),
        ])
        .await;
    broker.cut().await;
    server.switch(|it| it.errors = 1);
    server.create(Kind::Reports, Some("sales"));
    bridge.exports(&[("bridge_journal_posts", 1.0)]).await;
    // It can still take POSTs, so it is ready.
    bridge.is_ready().await;
    let large =
        format!("{{\"Id\":\"x\",\"Notifications\":[],\"Filler\":\"{}\"}}", "x".repeat(1_048_576));
    assert_eq!(server.post_to_webhooks(&large), [503]);
    bridge.is_not_ready("the journal is full").await;
    bridge.exports(&[("bridge_posts_total{result=\"journal-full\"}", 1.0)]).await;
    server.switch(|it| it.errors = 0);
    broker.resume();
    server.create(Kind::Reports, Some("sales"));
    bridge.is_ready().await;
    bridge.exports(&[("bridge_journal_posts", 0.0), ("bridge_events_published_total", 3.0)]).await;
}
