//! The proxy before PostgreSQL: each fault hits its statement, and no other.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use fanfare_testkit::pgproxy::{Fault, Marker, PgProxy};
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::shared;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// Long enough for an answer of a server that is asked; a frozen connection is given this time to
/// fail.
const MOMENT: Duration = Duration::from_millis(300);

const ADD: &str = "-- add\ninsert into numbers values ($1)";

struct World {
    sandbox: Sandbox,
    proxy: PgProxy,
}

impl World {
    async fn new() -> Self {
        let sandbox = Sandbox::new().await;
        sandbox.sql("create table numbers (n int)").unwrap();
        let proxy = PgProxy::start(shared::endpoints().database_addr().unwrap());
        Self { sandbox, proxy }
    }

    async fn connect(&self) -> Client {
        let url = self.proxy.url(&self.sandbox.database_url);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn numbers(&self) -> String {
        let all = "select coalesce(string_agg(n::text, ' ' order by n), '') from numbers";
        self.sandbox.sql(all).unwrap()
    }
}

#[tokio::test]
async fn statements_pass_and_are_counted_by_their_names() {
    let world = World::new().await;
    let client = world.connect().await;
    let add = client.prepare(ADD).await.unwrap();
    client.execute(&add, &[&1]).await.unwrap();
    client.execute(&add, &[&2]).await.unwrap();
    client.batch_execute("-- clean thoroughly\ndelete from numbers").await.unwrap();
    let rows = client.query("select repeat('x', 1000) from generate_series(1, 5000)", &[]).await;
    assert_eq!(rows.unwrap().len(), 5_000);

    let seen = world.proxy.seen();
    let count = |name: &str| seen.get(&Marker::statement(name)).copied();
    assert_eq!((count("add"), count("clean")), (Some(2), Some(1)));
    assert_eq!(count("select repeat('x', 1000) from generate_series(1, 5000)"), Some(1));
}

#[tokio::test]
async fn lost_answer_ends_the_connection_after_the_statement_took_effect() {
    let world = World::new().await;
    let client = world.connect().await;
    let injected = world.proxy.inject_times(Marker::statement("add"), 1, 1, Fault::LoseAnswer);
    client.execute(ADD, &[&1]).await.unwrap();
    client.execute("-- other\ninsert into numbers values (0)", &[]).await.unwrap();
    assert_eq!(injected.hits(), 0);

    client.execute(ADD, &[&2]).await.unwrap_err();
    assert_eq!(injected.hits(), 1);
    assert_eq!(world.numbers(), "0 1 2");
    world.connect().await.execute(ADD, &[&3]).await.unwrap();
    assert_eq!(world.numbers(), "0 1 2 3");
}

#[tokio::test]
async fn close_before_keeps_the_statement_from_the_server() {
    let world = World::new().await;
    let client = world.connect().await;
    let mut injected = world.proxy.inject(Marker::statement("add"), Fault::CloseBefore);
    client.execute(ADD, &[&1]).await.unwrap_err();
    injected.hit().await;
    world.connect().await.execute(ADD, &[&2]).await.unwrap();
    assert_eq!(world.numbers(), "2");
}

#[tokio::test]
async fn delay_holds_back_the_answer_of_what_took_effect() {
    let world = World::new().await;
    let client = world.connect().await;
    let mut injected = world.proxy.inject(Marker::statement("add"), Fault::Delay(MOMENT));
    let began = Instant::now();
    let execute = async { client.execute(ADD, &[&1]).await.map(|_| began.elapsed()) };
    let (took, numbers) = tokio::join!(execute, async {
        injected.hit().await;
        world.numbers()
    });
    assert_eq!(numbers, "1");
    assert!(took.unwrap() >= MOMENT);
}

#[tokio::test]
async fn held_answer_comes_when_it_is_released() {
    let world = World::new().await;
    let client = world.connect().await;
    let mut held = world.proxy.hold(Marker::statement("add"));
    let adding = tokio::spawn(async move { client.execute(ADD, &[&1]).await });
    held.reached().await;
    assert_eq!(world.numbers(), "1");
    assert!(!adding.is_finished());
    held.release();
    assert_eq!(adding.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn commit_is_known_by_the_statements_of_its_transaction() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let injected = world.proxy.inject(Marker::commit_of("add"), Fault::LoseAnswer);
    let transaction = client.transaction().await.unwrap();
    transaction.execute("-- other\nselect 1", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute(ADD, &[&1]).await.unwrap();
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("-- other\nselect 1", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(injected.hits(), 0);

    let transaction = client.transaction().await.unwrap();
    transaction.execute(ADD, &[&2]).await.unwrap();
    transaction.commit().await.unwrap_err();
    assert_eq!((injected.hits(), world.numbers().as_str()), (1, "2"));
    assert_eq!(world.proxy.seen().get(&Marker::commit_of("other")), Some(&2));
}

#[tokio::test]
async fn fault_inside_a_transaction_undoes_it() {
    let world = World::new().await;
    let mut client = world.connect().await;
    world.proxy.inject(Marker::statement("add"), Fault::LoseAnswer);
    let transaction = client.transaction().await.unwrap();
    transaction.execute(ADD, &[&1]).await.unwrap_err();
    drop(transaction);
    assert_eq!(world.numbers(), "");
}

#[tokio::test]
async fn faults_hit_each_time_until_they_are_cleared() {
    let world = World::new().await;
    let injected = world.proxy.inject_always(Marker::statement("add"), Fault::LoseAnswer);
    for number in [1, 2] {
        world.connect().await.execute(ADD, &[&number]).await.unwrap_err();
    }
    world.proxy.clear();
    world.connect().await.execute(ADD, &[&3]).await.unwrap();
    assert_eq!((injected.hits(), world.numbers().as_str()), (2, "1 2 3"));
}

#[tokio::test]
async fn frozen_listeners_hear_nothing_until_they_are_thawed() {
    let world = World::new().await;
    let (listening, other) = (world.connect().await, world.connect().await);
    listening.batch_execute("listen changes").await.unwrap();

    world.proxy.freeze_listeners();
    let asking = listening.simple_query("-- ping\nselect 1");
    tokio::pin!(asking);
    assert!(timeout(MOMENT, &mut asking).await.is_err());
    assert!(!listening.is_closed());
    other.simple_query("-- ping\nselect 1").await.unwrap();
    world.connect().await.simple_query("-- ping\nselect 1").await.unwrap();

    world.proxy.thaw_listeners();
    asking.await.unwrap();
}

#[tokio::test]
async fn dropped_notifications_leave_answers_alone() {
    let world = World::new().await;
    let url = world.proxy.url(&world.sandbox.database_url);
    let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let (sender, mut notified) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                sender.send(notification.payload().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("listen changes").await.unwrap();
    client.batch_execute("notify changes, 'one'").await.unwrap();
    assert_eq!(notified.recv().await.unwrap(), "one");
    world.proxy.drop_notifications();
    client.batch_execute("notify changes, 'two'").await.unwrap();
    client.batch_execute("notify changes, 'three'").await.unwrap();
    assert!(notified.try_recv().is_err());
}
