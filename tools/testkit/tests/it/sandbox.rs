//! Sandboxes: they are usable and separate, on servers that processes share, and removed
//! afterwards.

use std::time::Duration;

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::process::run;
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::shared;
use fanfare_testkit::wait::eventually;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

#[tokio::test]
async fn has_a_database_of_its_own() {
    let (one, other) = tokio::join!(Sandbox::new(), Sandbox::new());
    one.sql("CREATE TABLE here (n int)").unwrap();
    one.sql("INSERT INTO here VALUES (7), (8)").unwrap();
    assert_eq!(one.sql("SELECT n, n + 1 FROM here ORDER BY n").unwrap(), "7|8\n8|9");
    assert!(other.sql("SELECT n FROM here").is_err());
}

#[tokio::test]
async fn has_a_virtual_host_of_its_own() {
    let (one, other) = tokio::join!(Sandbox::new(), Sandbox::new());
    let amqp = Amqp::connect(&one.amqp_url).await.unwrap();
    declare(&amqp, "here").await;
    amqp.publish("", "here", "text/plain", &[("x-note", "loud")], b"hello").await.unwrap();
    assert_eq!(amqp.queue_len("here").await.unwrap(), 1);

    let messages = amqp.drain("here").await.unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].body, "hello");
    assert_eq!(messages[0].header("x-note").as_deref(), Some("loud"));
    assert_eq!(amqp.queue_len("here").await.unwrap(), 0);
    assert!(amqp.publish("", "nowhere", "text/plain", &[], b"lost").await.is_err());

    let amqp = Amqp::connect(&other.amqp_url).await.unwrap();
    assert!(amqp.queue_len("here").await.is_err());
}

#[tokio::test]
async fn leaves_nothing() {
    let sandbox = Sandbox::new().await;
    let amqp = Amqp::connect(&sandbox.amqp_url).await.unwrap();
    declare(&amqp, "here").await;
    let (url, name) = (sandbox.amqp_url.clone(), sandbox.sql("SELECT current_database()").unwrap());
    drop(sandbox);

    let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(shared::endpoints().sql("postgres", &query).unwrap(), "0");
    assert!(Amqp::connect(&url).await.is_err());
    eventually("the open connection ends", Duration::from_secs(10), async || {
        !amqp.connection().status().connected()
    })
    .await;
}

#[tokio::test]
async fn finds_the_same_servers_in_every_process() {
    let this_test = std::env::current_exe().unwrap();
    let arguments = ["--exact", "sandbox::tells_the_address_of_the_servers", "--nocapture"];
    let address = async || {
        let output = run(&this_test, &arguments, [], None).await.unwrap().success().unwrap();
        let (_, rest) = output.split_once("servers at ").unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    let addresses = tokio::join!(address(), address());
    assert_eq!(addresses.0, addresses.1);
    assert_eq!(addresses.0, shared::endpoints().amqp_url("name"));
}

/// Also the program that the test above runs twice.
#[test]
fn tells_the_address_of_the_servers() {
    let url = shared::endpoints().amqp_url("name");
    println!("servers at {url}");
    assert!(url.ends_with("/name"));
}

async fn declare(amqp: &Amqp, queue: &str) {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    amqp.channel().queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
}
