//! Shared parts of the tests: sessions on a sandbox, and helpers for common steps.

use fanfare_broker::{Config, Consumer, Incoming, Message, Queue, Session};
use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::wait::eventually;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// Longer than any step of these tests takes, even on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn config(amqp_url: &str) -> Config {
    Config::new(amqp_url, "broker-test").unwrap()
}

/// A sandbox and a session on it. Keep the sandbox: its virtual host is deleted with it.
pub(crate) async fn open() -> (Sandbox, Session) {
    let sandbox = Sandbox::new().await;
    let session = Session::open(&config(&sandbox.amqp_url)).await.unwrap();
    (sandbox, session)
}

/// A proxy before the sandbox's broker, and the URL of the broker through it.
pub(crate) fn through_proxy(sandbox: &Sandbox) -> (Proxy, String) {
    let mut url = Url::parse(&sandbox.amqp_url).unwrap();
    let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let proxy = Proxy::start(target.parse().unwrap());
    url.set_port(Some(proxy.addr().port())).unwrap();
    (proxy, url.to_string())
}

pub(crate) fn text(body: &str) -> Message {
    Message::new(body.to_owned(), "text/plain")
}

pub(crate) fn body(incoming: &Incoming) -> &str {
    std::str::from_utf8(&incoming.message.body).unwrap()
}

pub(crate) async fn publish(session: &Session, queue: Queue, bodies: &[&str]) {
    let messages = bodies.iter().map(|body| (queue.into(), text(body))).collect();
    session.publisher().publish_all(messages).await.unwrap();
}

pub(crate) async fn next(consumer: &mut Consumer) -> Incoming {
    timeout(TIMEOUT, consumer.next()).await.unwrap().unwrap().unwrap()
}

pub(crate) async fn wait_for_depth(session: &Session, queue: Queue, expected: u32) {
    eventually("the queue's depth", TIMEOUT, async || {
        let ready = session.depth(queue).await.unwrap().ready;
        if ready == expected { Ok(()) } else { Err(ready) }
    })
    .await;
}
