//! A worker uses a cached webhook only while the database confirms that it is current.

use std::time::Duration;

use fanfare_testkit::wait::pass;

use fanfare_testkit::pgproxy::Marker;
use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::json;

use crate::world::{SOON, World, event};

/// The time after which every POST must respect a change.
const SEEN: Duration = Duration::from_secs(2);

/// An installation that retries failed attempts every second for the whole test.
async fn world() -> World {
    World::new().await.with("FANFARE_RETRY_ATTEMPTS", "1000")
}

fn move_to(world: &World, webhook: &str, url: &str) {
    world.sql(&format!("update webhooks set uri = '{url}' where id = '{webhook}'"));
}

#[tokio::test]
async fn pause_is_seen_while_the_listening_connection_is_silent() {
    let world = world().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let _router = world.start("router").await;
    let (proxy, _worker) = world.start_proxied("worker").await;
    world.publish(&event()).await;
    receiver.wait_for(3, SOON).await;

    proxy.freeze_listeners();
    world.fanfare(&["webhooks", "pause", &webhook]).await;
    pass(SEEN).await;
    let so_far = receiver.count();
    let dropped = world.deliveries(&webhook, "dropped", 1).await;
    assert_eq!(dropped[0]["reason"], "webhook-paused");
    assert_eq!(receiver.count(), so_far);
}

#[tokio::test]
async fn new_address_is_used_while_the_listening_connection_is_silent() {
    let world = world().await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    let webhook = world.webhook(&old.url("/hook")).await;
    let _router = world.start("router").await;
    let (proxy, worker) = world.start_proxied("worker").await;
    world.publish(&event()).await;
    old.wait_for(1, SOON).await;

    proxy.freeze_listeners();
    move_to(&world, &webhook, &new.url("/hook"));
    pass(SEEN).await;
    world.publish(&event()).await;
    new.wait_for(1, SOON).await;
    worker.wait_for_line("no notifications of changes to webhooks are received", SOON).await;

    proxy.thaw_listeners();
    worker.wait_for_line("notifications of changes to webhooks are received again", SOON).await;
    move_to(&world, &webhook, &old.url("/hook"));
    pass(SEEN).await;
    world.publish(&event()).await;
    old.wait_for(2, SOON).await;
    assert_eq!(new.count(), 1);
}

#[tokio::test]
async fn new_address_is_used_behind_a_pooler_without_notifications() {
    let world = world().await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    let webhook = world.webhook(&old.url("/hook")).await;
    let _router = world.start("router").await;
    let (proxy, url) = world.proxied_database("worker");
    proxy.drop_notifications();
    let worker = world.spawn_with_envs("worker", &[("FANFARE_DATABASE_URL", &url)]);
    worker.wait_for_line("no notifications of changes to webhooks are received", SOON).await;
    world.publish(&event()).await;
    old.wait_for(1, SOON).await;

    move_to(&world, &webhook, &new.url("/hook"));
    pass(SEEN).await;
    world.publish(&event()).await;
    new.wait_for(1, SOON).await;
    assert_eq!(old.count(), 1);
}

/// The worker reads the webhook, and then waits for something else before it sends.
#[tokio::test]
async fn change_is_seen_by_an_attempt_that_waited_after_its_read() {
    let world = world().await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    old.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&old.url("/hook")).await;
    let _router = world.start("router").await;
    let (proxy, _worker) = world.start_proxied("worker").await;
    // A retry reads its events twice: large notifications are read just before they are sent.
    let mut held = proxy.hold_after(Marker::statement("planned_events"), 1);
    let mut event = event();
    event["data"]["Padding"] = json!("x".repeat(20_000));
    world.publish(&event).await;
    held.reached().await;
    assert_eq!(old.count(), 1);

    move_to(&world, &webhook, &new.url("/hook"));
    pass(SEEN).await;
    held.release();
    new.wait_for(1, SOON).await;
    assert_eq!(old.count(), 1);
}
