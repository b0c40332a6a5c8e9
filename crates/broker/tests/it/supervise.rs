//! The supervisor across broken connections.

use crate::support::{TIMEOUT, config, next, publish, through_proxy};
use fanfare_broker::{BrokerError, Queue, Session, State, supervise};
use fanfare_testkit::sandbox::Sandbox;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Consumes and acknowledges events until it is stopped, and sends their bodies to the test.
async fn work(
    session: Session,
    stop: CancellationToken,
    took: mpsc::UnboundedSender<String>,
) -> Result<(), BrokerError> {
    let mut consumer = session.consumer(Queue::Events, 10).await?;
    while let Some(taken) = stop.run_until_cancelled(consumer.next()).await {
        let Some(incoming) = taken.transpose()? else {
            break;
        };
        took.send(crate::support::body(&incoming).to_owned()).unwrap();
        incoming.settle.ack().await?;
    }
    consumer.cancel().await
}

#[tokio::test]
async fn work_continues_after_the_connection_was_cut() {
    let sandbox = Sandbox::new().await;
    let (mut proxy, url) = through_proxy(&sandbox);
    let direct = Session::open(&config(&sandbox.amqp_url)).await.unwrap();
    let stop = CancellationToken::new();
    let (took, mut taken) = mpsc::unbounded_channel();
    let states = Arc::new(Mutex::new(Vec::new()));

    let (config, stopping, seen) = (config(&url), stop.clone(), Arc::clone(&states));
    let supervised = tokio::spawn(async move {
        let on_state = |state| seen.lock().unwrap().push(state);
        supervise(&config, &stopping, on_state, |session| {
            work(session, stopping.clone(), took.clone())
        })
        .await;
    });

    publish(&direct, Queue::Events, &["before"]).await;
    assert_eq!(timeout(TIMEOUT, taken.recv()).await.unwrap().unwrap(), "before");
    proxy.cut().await;
    publish(&direct, Queue::Events, &["after"]).await;
    proxy.resume();
    // "before" may be redelivered: its acknowledgement may have been lost.
    while timeout(TIMEOUT, taken.recv()).await.unwrap().unwrap() != "after" {}

    stop.cancel();
    timeout(TIMEOUT, supervised).await.unwrap().unwrap();
    let states = states.lock().unwrap();
    assert_eq!(states[..4], [State::Connecting, State::Connected, State::Down, State::Connecting]);
    assert_eq!(states.last(), Some(&State::Connected));
}

#[tokio::test]
async fn supervisor_waits_while_the_broker_is_unreachable() {
    let sandbox = Sandbox::new().await;
    let (mut proxy, url) = through_proxy(&sandbox);
    proxy.cut().await;
    let (connected, mut sessions) = mpsc::unbounded_channel();
    let config = config(&url);
    let supervised = tokio::spawn(async move {
        let stop = CancellationToken::new();
        supervise(
            &config,
            &stop,
            |_| {},
            |session| {
                let connected = connected.clone();
                async move {
                    publish(&session, Queue::Events, &["here"]).await;
                    let taken = next(&mut session.consumer(Queue::Events, 1).await?).await;
                    connected.send(()).unwrap();
                    taken.settle.ack().await
                }
            },
        )
        .await;
    });
    // It is still trying when the broker becomes reachable.
    assert!(timeout(Duration::from_millis(700), sessions.recv()).await.is_err());
    proxy.resume();
    timeout(TIMEOUT, sessions.recv()).await.unwrap().unwrap();
    // The supervisor ends when its body returns `Ok`.
    timeout(TIMEOUT, supervised).await.unwrap().unwrap();
}

#[tokio::test]
async fn silent_peer_times_out_and_is_tried_again() {
    let sandbox = Sandbox::new().await;
    let (mut proxy, url) = through_proxy(&sandbox);
    proxy.freeze();
    let (report, mut states) = mpsc::unbounded_channel();
    let config = config(&url);
    let supervised = tokio::spawn(async move {
        let stop = CancellationToken::new();
        let on_state = |state| report.send(state).unwrap();
        let body = async |_| Ok::<_, BrokerError>(());
        supervise(&config, &stop, on_state, body).await;
    });
    while timeout(TIMEOUT, states.recv()).await.unwrap().unwrap() != State::Down {}
    proxy.resume();
    while timeout(TIMEOUT, states.recv()).await.unwrap().unwrap() != State::Connected {}
    timeout(TIMEOUT, supervised).await.unwrap().unwrap();
}

#[tokio::test]
async fn sessions_that_end_at_once_are_restarted_with_a_delay() {
    let sandbox = Sandbox::new().await;
    let stop = CancellationToken::new();
    let mut starts = Vec::new();
    supervise(
        &config(&sandbox.amqp_url),
        &stop,
        |_| {},
        |_| {
            starts.push(Instant::now());
            let is_enough = starts.len() == 4;
            async move {
                if is_enough {
                    Ok(())
                } else {
                    Err(std::io::Error::other("dies at once"))
                }
            }
        },
    )
    .await;
    // Jitter leaves at least half of 0.2, 0.4 and 0.8 seconds.
    for (pair, least) in starts.windows(2).zip([100, 200, 400]) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(least));
    }
}

#[tokio::test]
async fn stop_ends_the_wait() {
    let sandbox = Sandbox::new().await;
    let (mut proxy, url) = through_proxy(&sandbox);
    proxy.cut().await;
    let stop = CancellationToken::new();
    let (config, stopping) = (config(&url), stop.clone());
    let supervised = tokio::spawn(async move {
        let body = async |_| Err(std::io::Error::other("never called"));
        supervise(&config, &stopping, |_| {}, body).await;
    });
    stop.cancel();
    timeout(Duration::from_secs(5), supervised).await.unwrap().unwrap();
}
