//! The duration of the phases of a POST, and the headers that are recorded with it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_core::answer::Trace;
use fanfare_outbound::{Client, Config};

use crate::server::{Reply, Server, answer};
use crate::{LOOPBACK, client, config};

/// Posts, and returns the timing and the whole duration in milliseconds.
async fn traced(client: &Client, url: &str) -> (Option<Trace>, u128) {
    let began = Instant::now();
    let (_, trace) = client.post_traced(&url.parse::<url::Url>().unwrap(), &[], Bytes::new()).await;
    (trace.map(|trace| *trace), began.elapsed().as_millis())
}

fn sum(trace: &Trace) -> u128 {
    let parts = [trace.dns_ms, trace.connect_ms, trace.tls_ms, trace.first_byte_ms];
    parts.into_iter().flatten().map(u128::from).sum()
}

#[tokio::test]
async fn a_success_has_a_timing_over_a_new_connection_and_none_over_an_open_one() {
    let server = Server::start([Reply::Bytes(answer("200 OK", "x-it: so\r\n", "thanks"))]).await;
    let client = client(LOOPBACK);
    let url = format!("http://localhost:{}/", server.port);
    let (trace, whole) = traced(&client, &url).await;
    let trace = trace.unwrap();
    assert!(trace.dns_ms.is_some() && trace.connect_ms.is_some(), "{trace:?}");
    assert!(trace.tls_ms.is_none() && trace.first_byte_ms.is_some(), "{trace:?}");
    assert!(sum(&trace) <= whole, "{trace:?} in {whole}");
    assert!(trace.headers.contains(&("x-it".to_owned(), "so".to_owned())), "{trace:?}");
    assert_eq!((trace.reused(), server.connections()), (Some(false), 1));

    let (trace, _) = traced(&client, &url).await;
    assert_eq!((trace, server.connections()), (None, 1));
}

#[tokio::test]
async fn a_failure_over_an_open_connection_has_its_headers() {
    let fine = Reply::Bytes(answer("200 OK", "", ""));
    let busy = Reply::Bytes(answer("503 Busy", "X-Why: caf\u{e9}\r\nx-why: more\r\n", ""));
    let server = Server::start([fine, busy]).await;
    let client = client(LOOPBACK);
    traced(&client, &server.url("/")).await;
    let trace = traced(&client, &server.url("/")).await.0.unwrap();
    assert_eq!((trace.reused(), server.connections()), (Some(true), 1));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expect =
        [header("x-why", "caf\u{e9}"), header("x-why", "more"), header("content-length", "0")];
    assert_eq!(trace.headers, expect);
}

#[tokio::test]
async fn a_handshake_that_never_ends_has_the_time_of_the_failure() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let connect_timeout = Duration::from_millis(300);
    let client = Client::new(Config { connect_timeout, ..config(LOOPBACK) }).unwrap();
    let url = format!("https://localhost:{}/", silent.local_addr().unwrap().port());
    let (trace, whole) = traced(&client, &url).await;
    let trace = trace.unwrap();
    assert!(trace.tls_ms.is_some_and(|ms| ms > 150), "{trace:?}");
    assert!(trace.dns_ms.is_some() && trace.connect_ms.is_some(), "{trace:?}");
    assert!(trace.first_byte_ms.is_none() && sum(&trace) <= whole, "{trace:?} in {whole}");
}

#[tokio::test]
async fn a_success_with_a_slow_body_has_a_timing() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
    let fine = Reply::Bytes(answer("200 OK", "", ""));
    let server = Server::start([fine, Reply::Trickle(head)]).await;
    let client = client(LOOPBACK);
    traced(&client, &server.url("/")).await;
    let (trace, whole) = traced(&client, &server.url("/")).await;
    let trace = trace.unwrap();
    assert_eq!(trace.reused(), Some(true));
    assert!(sum(&trace) + 1000 < whole, "{trace:?} in {whole}");
}
