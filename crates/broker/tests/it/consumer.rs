//! Consuming and settling messages.

use crate::support::{TIMEOUT, body, config, next, open, publish, through_proxy, wait_for_depth};
use fanfare_broker::{BrokerError, Queue, Session, ack_all};
use fanfare_testkit::sandbox::Sandbox;
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use std::time::Duration;
use tokio::time::timeout;

const LINGER: Duration = Duration::from_millis(100);

#[tokio::test]
async fn batch_has_the_messages_that_are_ready_up_to_its_size() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::Events, &["1", "2", "3", "4", "5"]).await;
    let mut consumer = session.consumer(Queue::Events, 10).await.unwrap();
    let first = consumer.next_batch(3, TIMEOUT).await.unwrap().unwrap();
    assert_eq!(first.iter().map(body).collect::<Vec<_>>(), ["1", "2", "3"]);
    let second = consumer.next_batch(3, LINGER).await.unwrap().unwrap();
    assert_eq!(second.iter().map(body).collect::<Vec<_>>(), ["4", "5"]);
    ack_all(first.into_iter().chain(second).map(|incoming| incoming.settle)).await.unwrap();
    consumer.cancel().await.unwrap();
    wait_for_depth(&session, Queue::Events, 0).await;
}

#[tokio::test]
async fn dropped_batch_call_loses_no_message() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::Events, &["1", "2"]).await;
    let mut consumer = session.consumer(Queue::Events, 10).await.unwrap();
    // It has received both and waits for a third when it is dropped.
    let dropped = timeout(Duration::from_millis(500), consumer.next_batch(3, TIMEOUT)).await;
    assert!(dropped.is_err());
    let batch = consumer.next_batch(3, LINGER).await.unwrap().unwrap();
    assert_eq!(batch.iter().map(body).collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test]
async fn prefetch_limits_the_unsettled_messages() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::Events, &["1", "2", "3", "4", "5"]).await;
    let mut consumer = session.consumer(Queue::Events, 2).await.unwrap();
    let batch = consumer.next_batch(5, LINGER).await.unwrap().unwrap();
    assert_eq!(batch.len(), 2);
    wait_for_depth(&session, Queue::Events, 3).await;
}

#[tokio::test]
async fn requeued_message_is_redelivered_and_counted() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::Events, &["again"]).await;
    let mut consumer = session.consumer(Queue::Events, 1).await.unwrap();
    let first = next(&mut consumer).await;
    assert_eq!((first.redelivered, first.delivery_count), (false, 0));
    first.settle.requeue().await.unwrap();
    let second = next(&mut consumer).await;
    assert_eq!((second.redelivered, second.delivery_count), (true, 1));
    second.settle.ack().await.unwrap();
}

#[tokio::test]
async fn cancel_requeues_unread_messages_and_the_others_can_still_be_settled() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::Events, &["1", "2", "3", "4", "5"]).await;
    let mut consumer = session.consumer(Queue::Events, 10).await.unwrap();
    let taken = next(&mut consumer).await;
    consumer.cancel().await.unwrap();
    wait_for_depth(&session, Queue::Events, 4).await;
    taken.settle.ack().await.unwrap();

    let mut after = session.consumer(Queue::Events, 10).await.unwrap();
    let rest = after.next_batch(10, LINGER).await.unwrap().unwrap();
    assert_eq!(rest.iter().map(body).collect::<Vec<_>>(), ["2", "3", "4", "5"]);
}

#[tokio::test]
async fn acknowledging_several_messages_leaves_others_unsettled() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::Events, &["1", "2", "3", "4", "5", "6"]).await;
    let mut consumer = session.consumer(Queue::Events, 10).await.unwrap();
    let batch = consumer.next_batch(6, TIMEOUT).await.unwrap().unwrap();
    let (kept, done): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|incoming| matches!(body(incoming), "3" | "5"));
    ack_all(done.into_iter().map(|incoming| incoming.settle)).await.unwrap();
    let mut kept = kept.into_iter();
    // Once the lower one is settled the higher one may be acknowledged with all below it.
    kept.next().unwrap().settle.requeue().await.unwrap();
    ack_all(kept.map(|incoming| incoming.settle)).await.unwrap();
    let again = next(&mut consumer).await;
    assert_eq!(body(&again), "3");
    drop((again, consumer));
    wait_for_depth(&session, Queue::Events, 1).await;
}

#[tokio::test]
async fn unsettled_message_is_redelivered_when_its_consumer_is_gone() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::Events, &["1"]).await;
    let mut consumer = session.consumer(Queue::Events, 10).await.unwrap();
    let taken = next(&mut consumer).await;
    drop(consumer);
    drop(taken);
    wait_for_depth(&session, Queue::Events, 1).await;
}

#[tokio::test]
async fn ack_after_a_lost_connection_returns_an_error() {
    let sandbox = Sandbox::new().await;
    let (mut proxy, url) = through_proxy(&sandbox);
    let session = Session::open(&config(&url)).await.unwrap();
    publish(&session, Queue::Events, &["1"]).await;
    let mut consumer = session.consumer(Queue::Events, 1).await.unwrap();
    let taken = next(&mut consumer).await;
    proxy.cut().await;
    timeout(TIMEOUT, session.lost()).await.unwrap();

    // Either connection of the session can detect the loss; this is the consuming one.
    let ended = timeout(TIMEOUT, consumer.next()).await.unwrap().unwrap();
    assert!(ended.unwrap_err().is_lost());
    assert!(consumer.next().await.is_none());
    let refused = taken.settle.ack().await.unwrap_err();
    assert!(matches!(refused, BrokerError::Lost { .. }), "{refused:?}");

    proxy.resume();
    let session = Session::open(&config(&url)).await.unwrap();
    let again = next(&mut session.consumer(Queue::Events, 1).await.unwrap()).await;
    assert!(again.redelivered);
}

#[tokio::test]
async fn consumer_ends_with_an_error_when_its_queue_is_deleted() {
    let (sandbox, session) = open().await;
    let mut consumer = session.consumer(Queue::Retries, 1).await.unwrap();
    let properties = ConnectionProperties::default();
    let other = Connection::connect(&sandbox.amqp_url, properties).await.unwrap();
    let channel = other.create_channel().await.unwrap();
    let options = QueueDeleteOptions::default();
    channel.queue_delete("fanfare.retries".into(), options).await.unwrap();
    let ended = timeout(TIMEOUT, consumer.next()).await.unwrap().unwrap();
    assert!(matches!(ended, Err(BrokerError::ConsumerGone { .. })), "{ended:?}");
}
