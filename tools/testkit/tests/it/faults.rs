//! Faults of servers that run: each does what it says, and ends.

use std::time::Duration;

use fanfare_testkit::amqp::Amqp;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use fanfare_testkit::{Break, Shortage};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

const QUEUE: &str = "jobs";

/// A broker that takes nothing is given this time to fail.
const MOMENT: Duration = Duration::from_secs(1);

const SOON: Duration = Duration::from_mins(1);

async fn publish(url: &str) -> bool {
    let publishing = async {
        let amqp = Amqp::connect(url).await?;
        amqp.publish("", QUEUE, "text/plain", &[], b"job").await
    };
    tokio::time::timeout(MOMENT, publishing).await.is_ok_and(|it| it.is_ok())
}

async fn declare(url: &str) {
    let amqp = Amqp::connect(url).await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    amqp.channel().queue_declare(QUEUE.into(), options, arguments).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_servers_begin_and_end() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_vhost("broken").unwrap();
    servers.create_database("broken").unwrap();
    let (endpoints, url) = (servers.endpoints(), servers.amqp_url("broken"));
    declare(&url).await;
    let takes_jobs = || eventually("a job is taken", SOON, async || publish(&url).await);

    for shortage in [Shortage::Memory, Shortage::Disk] {
        takes_jobs().await;
        endpoints.raise_alarm(shortage).unwrap();
        let what = format!("no job is taken, {shortage:?}");
        let blocked = || eventually(&what, SOON, async || !publish(&url).await);
        blocked().await;
        endpoints.clear_alarm(shortage).unwrap();
    }
    takes_jobs().await;

    endpoints.break_queue("broken", QUEUE, Break::Silent).unwrap();
    assert!(!publish(&url).await);
    endpoints.resume_queue("broken", QUEUE).unwrap();
    takes_jobs().await;

    let amqp = Amqp::connect(&url).await.unwrap();
    assert!(amqp.queue_len(QUEUE).await.unwrap() > 0);
    endpoints.purge_queue("broken", QUEUE).unwrap();
    eventually("the queue is empty", SOON, async || amqp.queue_len(QUEUE).await.unwrap() == 0)
        .await;
    endpoints.delete_queue("broken", QUEUE).unwrap();
    assert!(amqp.queue_len(QUEUE).await.is_err());

    endpoints.set_read_only(true).unwrap();
    let create = |name: &str| endpoints.sql("broken", &format!("create table {name} (a int)"));
    eventually("nothing can be written", SOON, async || create("a").is_err()).await;
    endpoints.set_read_only(false).unwrap();
    eventually("tables can be made", SOON, async || create("b").is_ok()).await;

    database_loses_its_sessions(&servers).await;
}

async fn database_loses_its_sessions(servers: &Servers) {
    let endpoints = servers.endpoints();
    let connect = async || {
        let config = tokio_postgres::NoTls;
        let (client, connection) =
            tokio_postgres::connect(&servers.database_url("broken"), config).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let client = connect().await;
    endpoints.terminate_backends("broken").unwrap();
    eventually("the session has ended", SOON, async || client.is_closed()).await;

    let (client, other) = (connect().await, connect().await);
    endpoints.kill_backend("broken").unwrap();
    let have_ended = async || client.is_closed() && other.is_closed();
    eventually("both sessions have ended", SOON, have_ended).await;
    let answers = async || endpoints.sql("broken", "select 1").is_ok();
    eventually("the database has recovered", SOON, answers).await;
}
