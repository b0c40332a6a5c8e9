//! Addresses that webhooks may not reach.

use fanfare_testkit::receiver::Receiver;

use crate::world::{World, event};

#[tokio::test]
async fn private_address_is_not_contacted_and_the_attempt_says_why() {
    let world =
        World::new().await.with("FANFARE_ALLOW_TARGETS", "").with("FANFARE_RETRY_ATTEMPTS", "1");
    let receiver = Receiver::start().await;
    let port = receiver.addr().port();
    let urls = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[::ffff:10.0.0.1]/".to_owned(),
    ];
    let mut webhooks = Vec::new();
    for url in &urls {
        webhooks.push(world.webhook(url).await);
    }
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    for (webhook, url) in webhooks.iter().zip(&urls) {
        let delivery = world.deliveries(webhook, "dead", 1).await[0].clone();
        let shown = world.json(&["deliveries", "show", delivery["id"].as_str().unwrap()]).await;
        let attempt = &shown["attemptLog"][0];
        assert_eq!(attempt["outcome"], "blocked-target", "{url}");
        assert!(attempt["error"].as_str().is_some_and(|error| !error.is_empty()), "{url}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn allowed_private_address_is_contacted() {
    let world = World::new().await.with("FANFARE_ALLOW_TARGETS", "127.0.0.1/32");
    let receiver = Receiver::start().await;
    let port = receiver.addr().port();
    let allowed = world.webhook(&format!("http://127.0.0.1:{port}/")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    world.publish(&event()).await;
    world.deliveries(&allowed, "delivered", 1).await;
}
