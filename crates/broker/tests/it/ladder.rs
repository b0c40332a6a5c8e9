//! The delay ladder on a real broker: every message returns on time and to its queue.

use crate::support::{TIMEOUT, body, next, open, text};
use fanfare_broker::{BackTo, Delay, Destination, Queue};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const PER_DELAY: u64 = 20;

/// The delay that is allowed on a machine that runs all tests at once.
const LATE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn messages_with_many_delays_return_on_time() {
    let (_sandbox, session) = open().await;
    let mut consumer = session.consumer(Queue::Retries, 100).await.unwrap();
    // One and two hops, the longest first: a queue that kept their order would be noticed.
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
        assert!(waited >= due, "{name} returned after {waited:?}");
        assert!(waited <= due + published + LATE, "{name} returned after {waited:?}");
        assert!(sent.remove(&name), "{name} returned twice");
        order.push(seconds);
        incoming.settle.ack().await.unwrap();
    }
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn message_can_use_the_same_delay_level_repeatedly() {
    let (_sandbox, session) = open().await;
    let mut consumer = session.consumer(Queue::Events, 1).await.unwrap();
    let delay = Delay::at_least(Duration::from_secs(1));
    let later = Destination::Later { delay, back_to: BackTo::Events };
    session.publisher().publish(&later, text("again")).await.unwrap();
    for _ in 0..3 {
        let incoming = next(&mut consumer).await;
        assert_eq!(body(&incoming), "again");
        // The message keeps its headers. If they were not stripped, the broker would see a cycle.
        session.publisher().publish(&later, incoming.message).await.unwrap();
        incoming.settle.ack().await.unwrap();
    }
    timeout(TIMEOUT, consumer.cancel()).await.unwrap().unwrap();
}
