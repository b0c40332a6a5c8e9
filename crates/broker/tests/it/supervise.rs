//! The supervising loop through broken connections.

use crate::support::{PATIENCE, config, next, publish, through_proxy};
use fanfare_broker::{BrokerError, Queue, Session, State, supervise};
use fanfare_testkit::sandbox::Sandbox;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Takes and acknowledges events until it is stopped, and says what it took.
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
async fn work_goes_on_after_the_connection_was_cut() {
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
    assert_eq!(timeout(PATIENCE, taken.recv()).await.unwrap().unwrap(), "before");
    proxy.cut().await;
    publish(&direct, Queue::Events, &["after"]).await;
    proxy.resume();
    // "before" may come again: the cut may have taken its acknowledgement.
    while timeout(PATIENCE, taken.recv()).await.unwrap().unwrap() != "after" {}

    stop.cancel();
    timeout(PATIENCE, supervised).await.unwrap().unwrap();
    let states = states.lock().unwrap();
    assert_eq!(states[..4], [State::Connecting, State::Connected, State::Down, State::Connecting]);
    assert_eq!(states.last(), Some(&State::Connected));
}

#[tokio::test]
async fn it_waits_for_a_broker_that_is_away() {
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
    // It is still trying when the broker comes.
    assert!(timeout(Duration::from_millis(700), sessions.recv()).await.is_err());
    proxy.resume();
    timeout(PATIENCE, sessions.recv()).await.unwrap().unwrap();
    // A body that ends well ends it.
    timeout(PATIENCE, supervised).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_given_up_and_asked_again() {
    let sandbox = Sandbox::new().await;
    let (mut proxy, url) = through_proxy(&sandbox);
    proxy.freeze();
    let (told, mut states) = mpsc::unbounded_channel();
    let config = config(&url);
    let supervised = tokio::spawn(async move {
        let stop = CancellationToken::new();
        let on_state = |state| told.send(state).unwrap();
        let body = async |_| Ok::<_, BrokerError>(());
        supervise(&config, &stop, on_state, body).await;
    });
    while timeout(PATIENCE, states.recv()).await.unwrap().unwrap() != State::Down {}
    proxy.resume();
    while timeout(PATIENCE, states.recv()).await.unwrap().unwrap() != State::Connected {}
    timeout(PATIENCE, supervised).await.unwrap().unwrap();
}

#[tokio::test]
async fn sessions_that_die_at_once_do_not_spin() {
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
    // Half of 0.2, 0.4 and 0.8 seconds is the least that jitter leaves.
    for (pair, least) in starts.windows(2).zip([100, 200, 400]) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(least));
    }
}

#[tokio::test]
async fn stop_ends_the_waiting() {
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
