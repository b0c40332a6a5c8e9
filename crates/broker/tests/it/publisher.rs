//! Confirmed publishing: a message whose result is `Ok` is in a queue.

use crate::support::{body, next, open, publish, text, through_proxy, wait_for_depth};
use fanfare_broker::topology::EVENTS_EXCHANGE;
use fanfare_broker::{Destination, Message, PublishError, Queue, Session};
use fanfare_testkit::sandbox::Sandbox;

fn to_nowhere() -> Destination {
    Destination::Exchange { exchange: "fanfare.due".to_owned(), routing_key: "unbound".to_owned() }
}

#[tokio::test]
async fn message_arrives_unchanged() {
    let (_sandbox, session) = open().await;
    let mut message = text("hello");
    message.message_id = Some("m-1".to_owned());
    message.headers.set("traceparent", "00-1-2-01").set("attempt", 3).set("ping", true);
    let to = Destination::Exchange {
        exchange: EVENTS_EXCHANGE.to_owned(),
        routing_key: "directory.user".to_owned(),
    };
    session.publisher().publish(&to, message.clone()).await.unwrap();

    for queue in [Queue::Events, Queue::Directory] {
        let incoming = next(&mut session.consumer(queue, 1).await.unwrap()).await;
        assert_eq!(incoming.message, message);
        assert_eq!(incoming.routing_key, "directory.user");
        assert!(!incoming.redelivered);
        incoming.settle.ack().await.unwrap();
    }
}

#[tokio::test]
async fn empty_and_large_bodies_arrive() {
    let (_sandbox, session) = open().await;
    let large = "x".repeat(3 << 20);
    publish(&session, Queue::DELIVERIES, &["", &large]).await;
    let mut consumer = session.consumer(Queue::DELIVERIES, 2).await.unwrap();
    assert_eq!(body(&next(&mut consumer).await), "");
    assert_eq!(body(&next(&mut consumer).await).len(), large.len());
}

#[tokio::test]
async fn only_the_unroutable_message_fails() {
    let (_sandbox, session) = open().await;
    let publisher = session.publisher();
    let good = Destination::Queue(Queue::DELIVERIES);
    let nowhere = to_nowhere();
    // Many messages at once, every other one unroutable: no answer may reach the wrong caller.
    let sends = (0..200).map(|n| {
        let (publisher, good, nowhere) = (&publisher, &good, &nowhere);
        async move {
            let is_good = n % 2 == 0;
            let to = if is_good { good } else { nowhere };
            (is_good, publisher.publish(to, text("x")).await)
        }
    });
    for (is_good, answer) in futures_util::future::join_all(sends).await {
        match answer {
            Ok(()) => assert!(is_good),
            Err(PublishError::Unroutable { .. }) => assert!(!is_good),
            Err(other) => panic!("{other:?}"),
        }
    }
    wait_for_depth(&session, Queue::DELIVERIES, 100).await;
}

#[tokio::test]
async fn unroutable_message_fails_its_batch_and_no_other() {
    let (_sandbox, session) = open().await;
    let publisher = session.publisher();
    let mut batch: Vec<(Destination, Message)> =
        (0..50).map(|_| (Queue::Events.into(), text("x"))).collect();
    batch.push((to_nowhere(), text("lost")));
    let failed = publisher.publish_all(batch).await.unwrap_err();
    assert!(matches!(failed, PublishError::Unroutable { .. }), "{failed:?}");
    publish(&session, Queue::DELIVERIES, &["after"]).await;
    wait_for_depth(&session, Queue::DELIVERIES, 1).await;
}

#[tokio::test]
async fn thousands_of_messages_are_published_in_order() {
    let (_sandbox, session) = open().await;
    let numbers: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let bodies: Vec<&str> = numbers.iter().map(String::as_str).collect();
    publish(&session, Queue::DELIVERIES, &bodies).await;
    let mut consumer = session.consumer(Queue::DELIVERIES, 2000).await.unwrap();
    for expected in numbers {
        assert_eq!(body(&next(&mut consumer).await), expected);
    }
}

#[tokio::test]
async fn message_that_cannot_be_sent_returns_an_error_and_the_session_stays_open() {
    let (_sandbox, session) = open().await;
    let publisher = session.publisher();
    let mut huge = text("x");
    huge.headers.set("huge", "x".repeat(200 << 10));
    let long_key = Destination::Exchange { exchange: String::new(), routing_key: "x".repeat(256) };
    for (to, message) in [(Queue::Events.into(), huge), (long_key, text("x"))] {
        let refused = publisher.publish(&to, message).await.unwrap_err();
        assert!(matches!(refused, PublishError::Unsendable { .. }), "{refused:?}");
    }
    publish(&session, Queue::Events, &["still fine"]).await;
}

#[tokio::test]
async fn missing_confirm_returns_unknown_fate() {
    let sandbox = Sandbox::new().await;
    let (mut proxy, url) = through_proxy(&sandbox);
    let session = Session::open(&crate::support::config(&url)).await.unwrap();
    let publisher = session.publisher();
    proxy.freeze();
    let pending =
        tokio::spawn(async move { publisher.publish(&Queue::Events.into(), text("?")).await });
    proxy.cut().await;
    let fate = pending.await.unwrap().unwrap_err();
    assert!(matches!(fate, PublishError::Unknown { .. }), "{fate:?}");
    session.lost().await;
}
