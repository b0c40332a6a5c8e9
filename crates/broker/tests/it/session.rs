//! Opening a session, and the errors when it can't be opened.

use crate::support::{config, open, publish, through_proxy, wait_for_depth};
use fanfare_broker::{BrokerError, Queue, Session};
use fanfare_testkit::sandbox::Sandbox;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;
use url::Url;

async fn refusal(url: &Url) -> BrokerError {
    Session::open(&config(url.as_str())).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn depth_counts_messages_and_consumers() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::Retries, &["1", "2"]).await;
    wait_for_depth(&session, Queue::Retries, 2).await;
    assert_eq!(session.depth(Queue::Retries).await.unwrap().consumers, 0);
    let _consumer = session.consumer(Queue::Retries, 1).await.unwrap();
    assert_eq!(session.depth(Queue::Retries).await.unwrap().consumers, 1);
}

#[tokio::test]
async fn missing_queue_returns_missing() {
    let sandbox = Sandbox::new().await;
    let session = Session::look(&config(&sandbox.amqp_url)).await.unwrap();
    let missing = session.depth(Queue::Events).await.unwrap_err();
    assert!(matches!(missing, BrokerError::Missing { .. }), "{missing:?}");
}

#[tokio::test]
async fn wrong_password_returns_an_error_that_does_not_show_it() {
    let sandbox = Sandbox::new().await;
    let mut url = Url::parse(&sandbox.amqp_url).unwrap();
    url.set_password(Some("hidden")).unwrap();
    let error = refusal(&url).await;
    assert!(matches!(error, BrokerError::LoginRefused { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hidden"));
}

#[tokio::test]
async fn unknown_virtual_host_returns_an_error_that_names_it() {
    let sandbox = Sandbox::new().await;
    let mut url = Url::parse(&sandbox.amqp_url).unwrap();
    url.set_path("/nowhere");
    let error = refusal(&url).await;
    assert!(matches!(error, BrokerError::VirtualHostRefused { .. }), "{error:?}");
    assert!(error.to_string().contains("virtual host nowhere"), "{error}");
}

#[tokio::test]
async fn unreachable_broker_returns_unreachable() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let url = Url::parse(&format!("amqp://127.0.0.1:{port}/")).unwrap();
    let error = refusal(&url).await;
    assert!(matches!(error, BrokerError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn silent_peer_is_detected_by_missing_heartbeats() {
    let sandbox = Sandbox::new().await;
    let (proxy, url) = through_proxy(&sandbox);
    let session = Session::open(&config(&format!("{url}?heartbeat=1"))).await.unwrap();
    proxy.freeze();
    tokio::time::timeout(crate::support::TIMEOUT, session.lost()).await.unwrap();
}

#[tokio::test]
async fn hosts_that_accept_and_stay_silent_are_passed_over_before_a_connection_would_time_out() {
    let sandbox = Sandbox::new().await;
    let working = Url::parse(&sandbox.amqp_url).unwrap();
    // A node that hangs accepts connections by its kernel.
    let silent: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let addresses = silent.iter().map(|it| it.local_addr().unwrap().to_string());
    let hosts: Vec<String> =
        addresses.chain([format!("127.0.0.1:{}", working.port().unwrap())]).collect();
    let of_one = format!("{}:{}", working.host_str().unwrap(), working.port().unwrap());
    let url = sandbox.amqp_url.replace(&of_one, &hosts.join(","));
    // The process begins with any of them.
    for _ in 0..3 {
        let config = config(&url);
        let opening = Session::look(&config);
        tokio::time::timeout(Duration::from_secs(10), opening).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn closed_session_is_lost_and_requeues_its_messages() {
    let (sandbox, session) = open().await;
    let other = Session::open(&config(&sandbox.amqp_url)).await.unwrap();
    publish(&session, Queue::Events, &["1"]).await;
    let mut consumer = session.consumer(Queue::Events, 1).await.unwrap();
    let taken = crate::support::next(&mut consumer).await;
    session.close().await;
    session.lost().await;
    wait_for_depth(&other, Queue::Events, 1).await;
    assert!(taken.settle.ack().await.is_err());
}
