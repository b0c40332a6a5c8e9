//! Broken queues: their effect on others, their detection, and their repair.

use crate::support::{TIMEOUT, config, next, open, publish};
use fanfare_broker::{
    BackTo, Condition, Config, Delay, Destination, Message, PublishError, Queue, Session,
    keep_consuming, probe, repair,
};
use fanfare_testkit::Break;
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::wait::eventually;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const BOTH: [Break; 2] = [Break::Dead, Break::Silent];

fn break_queue(sandbox: &Sandbox, queue: &str, how: Break) {
    let (servers, vhost) = sandbox.on_servers();
    servers.break_queue(vhost, queue, how).unwrap();
}

/// The queues that don't answer.
async fn broken(config: &Config) -> Vec<(String, bool)> {
    let found = probe(config).await.unwrap().into_iter();
    found
        .filter(|probe| probe.condition != Condition::Answers)
        .map(|probe| (probe.queue, probe.repairable))
        .collect()
}

#[tokio::test]
async fn broken_queue_refuses_its_consumer_and_affects_no_other() {
    for how in BOTH {
        let (sandbox, session) = open().await;
        break_queue(&sandbox, "fanfare.retries", how);
        assert!(session.consumer(Queue::Retries, 1).await.is_err(), "{how:?}");
        assert!(!session.is_lost());
        publish(&session, Queue::DELIVERIES, &["1"]).await;
        let mut consumer = session.consumer(Queue::DELIVERIES, 1).await.unwrap();
        next(&mut consumer).await.settle.ack().await.unwrap();
        // A process that starts now can work, too.
        Session::open(&config(&sandbox.amqp_url)).await.unwrap();
    }
}

#[tokio::test]
async fn consumer_ends_with_an_error_when_its_queue_breaks() {
    for how in BOTH {
        let (sandbox, session) = open().await;
        let mut consumer = session.consumer(Queue::Retries, 1).await.unwrap();
        break_queue(&sandbox, "fanfare.retries", how);
        let ended = timeout(Duration::from_mins(2), consumer.next()).await.unwrap();
        assert!(matches!(ended, Some(Err(_))), "{how:?}");
        assert!(!session.is_lost());
    }
}

#[tokio::test]
async fn idle_consumer_stays_open() {
    let (_sandbox, session) = open().await;
    let mut consumer = session.consumer(Queue::Retries, 1).await.unwrap();
    let idle = timeout(Duration::from_secs(25), consumer.next()).await;
    assert!(idle.is_err(), "{:?}", idle.map(|it| it.map(|it| it.map(drop))));
    publish(&session, Queue::Retries, &["1"]).await;
    next(&mut consumer).await.settle.ack().await.unwrap();
}

#[tokio::test]
async fn probe_finds_broken_queues_and_repairs_those_of_jobs() {
    for how in BOTH {
        let (sandbox, session) = open().await;
        let config = config(&sandbox.amqp_url);
        assert_eq!(broken(&config).await, []);
        publish(&session, Queue::Retries, &["held"]).await;
        for queue in ["fanfare.events.dead", "fanfare.retries", "fanfare.delay.01"] {
            break_queue(&sandbox, queue, how);
        }
        let expected = [
            ("fanfare.events.dead".to_owned(), false),
            ("fanfare.retries".to_owned(), true),
            ("fanfare.delay.01".to_owned(), true),
        ];
        assert_eq!(broken(&config).await, expected, "{how:?}");

        for (queue, repairable) in &expected {
            assert_eq!(repair(&config, queue).await.unwrap(), *repairable, "{how:?} {queue}");
        }
        assert_eq!(broken(&config).await, expected[..1], "{how:?}");
        assert!(!repair(&config, "fanfare.retries").await.unwrap());

        // The bindings are restored: messages pass the ladder through both queues again.
        let delay = Delay::at_least(Duration::from_secs(2));
        let later = Destination::Later { delay, back_to: BackTo::Retries };
        session.publisher().publish(&later, Message::new("1", "text/plain")).await.unwrap();
        let mut consumer = session.consumer(Queue::Retries, 1).await.unwrap();
        assert_eq!(next(&mut consumer).await.message.body, "1");
    }
}

#[tokio::test]
async fn missing_queue_is_declared_again_for_its_consumer() {
    let (sandbox, session) = open().await;
    let config = config(&sandbox.amqp_url);
    let stop = CancellationToken::new();
    let (took, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let (working, stopping) = (session.clone(), stop.clone());
    let supervised = tokio::spawn(async move {
        keep_consuming(&working, Queue::Retries, &stopping, async || {
            let mut consumer = working.consumer(Queue::Retries, 1).await?;
            while let Some(incoming) = consumer.next().await {
                took.send(incoming?).unwrap();
            }
            Ok::<_, fanfare_broker::BrokerError>(())
        })
        .await;
    });
    eventually("the queue is consumed", TIMEOUT, async || {
        let depth = session.depth(Queue::Retries).await.map_err(|error| error.to_string())?;
        if depth.consumers == 1 { Ok(()) } else { Err(format!("{depth:?}")) }
    })
    .await;

    let direct =
        lapin::Connection::connect(&sandbox.amqp_url, lapin::ConnectionProperties::default());
    let channel = direct.await.unwrap().create_channel().await.unwrap();
    let options = lapin::options::QueueDeleteOptions::default();
    channel.queue_delete("fanfare.retries".into(), options).await.unwrap();

    eventually("the queue is consumed again", TIMEOUT, async || {
        let depth = session.depth(Queue::Retries).await.map_err(|error| error.to_string())?;
        if depth.consumers == 1 { Ok(()) } else { Err(format!("{depth:?}")) }
    })
    .await;
    let delay = Delay::at_least(Duration::from_secs(1));
    let later = Destination::Later { delay, back_to: BackTo::Retries };
    session.publisher().publish(&later, Message::new("1", "text/plain")).await.unwrap();
    let incoming = timeout(TIMEOUT, taken.recv()).await.unwrap().unwrap();
    assert_eq!(incoming.message.body, "1");
    incoming.settle.ack().await.unwrap();
    assert_eq!(
        config.queue_health().queues(),
        [],
        "another configuration shares this queue health"
    );
    stop.cancel();
    session.close().await;
    timeout(TIMEOUT, supervised).await.unwrap().unwrap();
}

#[tokio::test]
async fn each_message_gets_its_own_result_when_a_queue_is_full() {
    let (sandbox, session) = open().await;
    let (servers, vhost) = sandbox.on_servers();
    servers.limit_queues(vhost, "^fanfare.retries$", 1).unwrap();
    let to = |queue: Queue| (queue.into(), Message::new("1", "text/plain"));
    let publisher = session.publisher();
    let refused = eventually("the queue is full", TIMEOUT, async || {
        let results = publisher.publish_each(vec![to(Queue::Retries), to(Queue::DELIVERIES)]).await;
        if results[0].is_err() { Ok(results) } else { Err("the queue took a message".to_owned()) }
    })
    .await;
    assert!(matches!(refused[0], Err(PublishError::Refused { .. })), "{refused:?}");
    assert!(refused[1].is_ok(), "{refused:?}");
    servers.unlimit_queues(vhost).unwrap();
    // The broker keeps refusing a channel that it has refused once.
    eventually("the queue takes messages again", TIMEOUT, async || {
        let (destination, message) = to(Queue::Retries);
        publisher.publish(&destination, message).await.map_err(|error| error.to_string())
    })
    .await;
}
