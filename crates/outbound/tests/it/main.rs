//! The client against real sockets: each peer is a small server that misbehaves as the test
//! requires.
#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

mod answers;
mod authority;
mod http2;
mod idle;
mod posts;
mod roots;
mod server;
mod targets;
mod timing;
mod tls;
mod urls;
mod verification;

use std::time::Duration;

use bytes::Bytes;
use fanfare_core::answer::{Answer, Failure};
use fanfare_core::target::TargetPolicy;
use fanfare_outbound::{Client, Config};
use url::Url;

/// A client that may also reach `allow`, with limits that no test exceeds by accident.
fn client(allow: &[&str]) -> Client {
    Client::new(config(allow)).unwrap()
}

fn config(allow: &[&str]) -> Config {
    Config {
        allow: TargetPolicy::new(allow.iter().map(|net| net.parse().unwrap()).collect()),
        connect_timeout: Duration::from_secs(20),
        timeout: Duration::from_secs(20),
        user_agent: "Fanfare/test".to_owned(),
        ca_file: None,
        sends_nothing: false,
    }
}

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

async fn post(client: &Client, url: &str) -> Answer {
    let headers = [header("content-type", "application/json; charset=utf-8")];
    let url: Url = url.parse().unwrap();
    client.post(&url, &headers, Bytes::from_static(b"{\"Attempt\":1}")).await
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn failed(failure: Failure, detail: &str) -> Answer {
    Answer::Failed { failure, detail: detail.to_owned() }
}

fn response(status: u16, body: &str) -> Answer {
    Answer::Response { status, retry_after: None, exhausted: None, body: body.to_owned() }
}
