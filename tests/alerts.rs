//! The shipped alerts and dashboard, tested with a real Prometheus and real processes.

mod dashboard;
mod files;
mod monitoring;

use std::time::Duration;

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::receiver::{Receiver, Reply};
use serde_json::json;

use crate::world::{SOON, World, event, publish_on};
use monitoring::{Monitoring, Target};

#[tokio::test(flavor = "multi_thread")]
async fn each_outage_raises_its_alert_and_shows_on_its_panel() {
    const BACKLOG: u32 = 150;
    let (world, mut database) = World::new().await.with_database_proxy();
    let (world, mut broker) = world.with_broker_proxy();
    let world = world.with("FANFARE_METRICS_LISTEN", "127.0.0.1:0");
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/hook")).await;
    let router = Target::start(&world, "router").await;
    let mut worker = Target::start(&world, "worker").await;
    let monitoring = Monitoring::of(&[&router, &worker]);
    monitoring.raises(&[]).await;
    world.publish(&event()).await;
    receiver.wait_for(1, SOON).await;

    let reach = "Can they reach the broker and the database?";
    for up in ["broker", "broker takes messages", "database"] {
        monitoring.shows(reach, up, |value| value >= 1.0).await;
    }
    broker.cut().await;
    monitoring.raises(&["FanfareBrokerAway"]).await;
    monitoring.shows(reach, "broker", |value| value < 1.0).await;
    broker.resume();
    monitoring.raises(&[]).await;

    database.cut().await;
    monitoring.raises(&["FanfareDatabaseAway"]).await;
    monitoring.shows(reach, "database", |value| value < 1.0).await;
    database.resume();
    monitoring.raises(&[]).await;
    monitoring.shows("Are notifications arriving?", "delivered", |value| value > 0.0).await;
    // Every query returns data by now, so each label that it selects exists.
    monitoring.answers_every_question().await;

    worker.process.kill9();
    monitoring.raises(&["FanfareNoWorker", "FanfareProcessDown"]).await;
    let running = "Are routers and workers running?";
    monitoring.shows(running, "workers", |value| value < 1.0).await;
    monitoring.shows(running, "routers", |value| value >= 1.0).await;

    let looking = world.amqp().await;
    let publishing = Amqp::connect(&world.report_server_url()).await.unwrap();
    // Events that arrive in quick succession share a job.
    while looking.queue_len("fanfare.deliveries").await.unwrap() < BACKLOG {
        publish_on(&publishing, &event()).await;
    }
    monitoring.raises(&["FanfareNoWorker", "FanfareProcessDown", "FanfareQueueGrows"]).await;
    monitoring
        .shows("What waits in the queues?", "fanfare.deliveries", |value| {
            value >= f64::from(BACKLOG)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_receivers_and_dead_letters_raise_their_alerts_and_show_on_their_panels() {
    let world = World::new()
        .await
        .with("FANFARE_METRICS_LISTEN", "127.0.0.1:0")
        .with("FANFARE_TIMEOUT", "2s")
        // The alert is about the long waits after several failures in a row. With any jitter this
        // wait is between 64 and 128 s, so the retries are in one known queue.
        .with("FANFARE_RETRY_FIRST", "96s")
        .with("FANFARE_RETRY_MAX_DELAY", "12h");
    let hanging = Receiver::start().await;
    hanging.answer_with(|_, _| Reply::status(200).after(SOON));
    world.webhook(&hanging.url("/hook")).await;
    let router = Target::start(&world, "router").await;
    let worker = Target::start(&world, "worker").await;
    let monitoring = Monitoring::of(&[&router, &worker]);
    monitoring.raises(&[]).await;

    for _ in 0..5 {
        world.publish(&event()).await;
    }
    let failing = ["FanfareMostAttemptsFail", "FanfareReceiverFails", "FanfareReceiverHangs"];
    monitoring.raises(&failing).await;
    monitoring.shows("Is a receiver hanging?", "open", |value| value >= 1.0).await;
    monitoring
        .shows("Is a receiver failing again and again?", "retries", |value| value > 0.0)
        .await;
    monitoring.shows("What do receivers answer?", "timeout none", |value| value > 0.0).await;
    monitoring.shows("How many retries wait, and how long?", "64 s", |value| value > 0.0).await;

    let mut unknown = event();
    unknown["type"] = json!("dashboards.edit");
    world.publish(&unknown).await;
    let [most, fails, hangs] = failing;
    monitoring.raises(&["FanfareDeadLetters", most, fails, hangs]).await;
    let dead = "fanfare.events.dead: unknown-filter";
    monitoring.shows("What became a dead letter, and why?", dead, |value| value > 0.0).await;
    let waiting = "How many dead letters wait for a decision?";
    monitoring.shows(waiting, "fanfare.events.dead", |value| value >= 1.0).await;
}

/// The interval at which Prometheus scrapes and evaluates rules in these tests.
const EVERY: Duration = Duration::from_millis(500);
