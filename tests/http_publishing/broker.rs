//! Without the broker's confirm no event is accepted, and what was accepted is not lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use futures_util::future::join_all;
use serde_json::json;

use super::{Publishing, accepted, problem};
use crate::api::client::Answer;
use crate::outages::{event_numbered, numbers};
use crate::world::{SOON, World, event};

const EVENTS: usize = 200;

/// The detail of an answer that says that the broker has not confirmed.
#[track_caller]
fn unconfirmed(answer: &Answer) -> String {
    let problem = problem(answer, 503);
    assert_eq!(problem["type"], "/problems/not-confirmed");
    assert!(answer.header("retry-after").is_some());
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn event_is_not_accepted_while_no_queue_takes_it() {
    let publishing = Publishing::start().await;
    let detail = unconfirmed(&publishing.event(&event()).await);
    assert!(detail.contains("no router has declared its queues yet"), "{detail}");
    let mut router = publishing.world.start("router").await;
    eventually("events are accepted", SOON, async || {
        let answer = publishing.event(&event()).await;
        if answer.status == 202 { Ok(()) } else { Err(answer) }
    })
    .await;
    router.terminate();
    router.wait_exit(SOON).await;
    publishing.world.limit_queues("^fanfare.events$", 1);
    eventually("the queue is full", SOON, async || {
        let answer = publishing.event(&event()).await;
        if answer.status == 503 && unconfirmed(&answer).contains("does not take the message") {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
    publishing.world.amqp().await.delete("fanfare.events").await.unwrap();
    let detail = unconfirmed(&publishing.event(&event()).await);
    assert!(detail.contains("no queue takes events"), "{detail}");
}

#[tokio::test]
async fn unreachable_servers_are_said_to_be_unavailable() {
    let (world, mut broker) = World::new().await.with_broker_proxy();
    let (world, mut database) = world.with_database_proxy();
    let publishing = Publishing::on(world).await;
    let _router = publishing.world.start("router").await;
    accepted(&publishing.event(&event()).await, 1);
    broker.cut().await;
    for _ in 0..3 {
        unconfirmed(&publishing.event(&event()).await);
    }
    broker.resume();
    eventually("events are accepted again", SOON, async || {
        let answer = publishing.event(&event()).await;
        if answer.status == 202 { Ok(()) } else { Err(answer) }
    })
    .await;
    // A broker that hangs does not hold requests for ever.
    broker.freeze();
    let detail = unconfirmed(&publishing.event(&event()).await);
    assert!(detail.contains("may have arrived or not"), "{detail}");
    broker.resume();
    // Tokens can't be checked without the database.
    database.cut().await;
    let answer = publishing.event(&event()).await;
    assert_eq!(problem(&answer, 503)["type"], "/problems/unavailable");
    assert!(answer.header("retry-after").is_some());
}

/// Publishes an event until it is accepted, and returns how many requests were not.
async fn persist(publishing: &Publishing, number: usize) -> usize {
    let refused = AtomicUsize::new(0);
    eventually(&format!("event {number} is accepted"), SOON * 3, async || {
        let answer = publishing.event(&event_numbered(number)).await;
        if answer.status == 202 {
            return Ok(());
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        refused.fetch_add(1, Ordering::Relaxed);
        Err(answer)
    })
    .await;
    refused.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_killed_among_requests_loses_nothing_that_was_accepted() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    servers.create_vhost("fanfare").unwrap();
    let world = World::on(&servers.database_url("fanfare"), &servers.amqp_url("fanfare")).await;
    let publishing = Publishing::on(world).await;
    let world = &publishing.world;
    let receiver = Receiver::start().await;
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);

    let done = AtomicUsize::new(0);
    let publish = |number: usize| {
        let (publishing, done) = (&publishing, &done);
        async move {
            let refused = persist(publishing, number).await;
            done.fetch_add(1, Ordering::Relaxed);
            refused
        }
    };
    // Twenty clients, each of which sends one event after the other.
    let client = |first: usize| async move {
        let mut refused = 0;
        for number in (first..EVENTS).step_by(20) {
            refused += publish(number).await;
        }
        refused
    };
    let kill = async {
        eventually("requests are accepted", SOON, async || done.load(Ordering::Relaxed) >= 40)
            .await;
        tokio::task::block_in_place(|| servers.kill_broker()).unwrap();
        tokio::task::block_in_place(|| servers.start_broker()).unwrap();
    };
    let (refused, ()) = tokio::join!(join_all((0..20).map(client)), kill);
    assert!(refused.iter().sum::<usize>() > 0, "no request met the outage");
    eventually("every event has arrived", SOON * 2, async || {
        let arrived: BTreeSet<u64> = numbers(&receiver).into_iter().collect();
        if arrived.len() == EVENTS { Ok(()) } else { Err(arrived.len()) }
    })
    .await;
    world.deliveries_settle(&webhook).await;
    assert_eq!(receiver.count(), EVENTS);
    let attempts =
        world.json(&["deliveries", "list", "--webhook", &webhook, "--limit", "500"]).await;
    assert!(attempts.as_array().unwrap().iter().all(|it| it["attempts"] == json!(1)));
}
