//! The delay ladder on a real broker: everything comes back, in time and in its place.

use crate::support::{PATIENCE, body, next, open, text};
use fanfare_broker::{BackTo, Delay, Destination, Queue};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const PER_DELAY: u64 = 20;

/// How late a message may be on a machine that runs all the tests at once.
const LATE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn messages_of_many_delays_come_back_in_time() {
    let (_sandbox, session) = open().await;
    let mut consumer = session.consumer(Queue::Retries, 100).await.unwrap();
    // One and two hops; the longest first, so that a queue that kept order would show.
    let delays = [8, 6, 4, 3, 2, 1].map(|seconds| Delay::at_least(Duration::from_secs(seconds)));
    let mut sent = BTreeSet::new();
    let mut messages = Vec::new();
    for delay in delays {
        for n in 0..PER_DELAY {
            let name = format!("{} {n}", delay.duration().as_secs());
            let back_to = BackTo::Retries;
            messages.push((Destination::Later { delay, back_to }, text(&name)));
            sent.insert(name);
        }
    }
    let began = Instant::now();
    session.publisher().publish_all(messages).await.unwrap();
    let published = began.elapsed();

    let mut order = Vec::new();
    while !sent.is_empty() {
        let incoming = next(&mut consumer).await;
        let waited = began.elapsed();
        let name = body(&incoming).to_owned();
        let seconds = name.split(' ').next().unwrap().parse().unwrap();
        let due = Duration::from_secs(seconds);
        assert!(waited >= due, "{name} came after {waited:?}");
        assert!(waited <= due + published + LATE, "{name} came after {waited:?}");
        assert!(sent.remove(&name), "{name} came twice");
        order.push(seconds);
        incoming.settle.ack().await.unwrap();
    }
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn a_message_can_go_down_the_same_level_again_and_again() {
    let (_sandbox, session) = open().await;
    let mut consumer = session.consumer(Queue::Events, 1).await.unwrap();
    let delay = Delay::at_least(Duration::from_secs(1));
    let later = Destination::Later { delay, back_to: BackTo::Events };
    session.publisher().publish(&later, text("again")).await.unwrap();
    for _ in 0..3 {
        let incoming = next(&mut consumer).await;
        assert_eq!(body(&incoming), "again");
        // With its headers as they came: without stripping, the broker would see a cycle.
        session.publisher().publish(&later, incoming.message).await.unwrap();
        incoming.settle.ack().await.unwrap();
    }
    timeout(PATIENCE, consumer.cancel()).await.unwrap().unwrap();
}
