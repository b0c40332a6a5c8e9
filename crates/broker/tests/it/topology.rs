//! The topology: its table, its declaration, and the comparison with a broker that differs.

use crate::support::{body, config, next, open, publish, text};
use fanfare_broker::topology::render;
use fanfare_broker::{BrokerError, Destination, Queue, Session};
use fanfare_core::shard::ShardCount;
use fanfare_testkit::sandbox::Sandbox;
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

async fn channel(sandbox: &Sandbox) -> Channel {
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&sandbox.amqp_url, properties).await.unwrap();
    connection.create_channel().await.unwrap()
}

/// The document that has the table between two marker lines.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/topology.md");
const BEGIN: &str = "```text\n";
const END: &str = "```\n";

#[test]
fn the_document_has_the_table() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    let expected = render(ShardCount::ONE);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            listed, expected,
            "docs/reference/topology.md is not what the table says; run `UPDATE_DOCS=1 cargo test \
             -p fanfare-broker the_document_has_the_table` and review the changes"
        );
    }
}

#[tokio::test]
async fn repeated_declaration_changes_nothing() {
    let (sandbox, session) = open().await;
    let again = Session::open(&config(&sandbox.amqp_url)).await.unwrap();
    assert_eq!(session.check_topology().await.unwrap(), []);
    assert_eq!(again.check_topology().await.unwrap(), []);
}

#[tokio::test]
async fn processes_that_start_together_can_all_declare() {
    let sandbox = Sandbox::new().await;
    let config = config(&sandbox.amqp_url);
    let sessions = futures_util::future::try_join_all((0..4).map(|_| Session::open(&config)));
    assert_eq!(sessions.await.unwrap().len(), 4);
}

#[tokio::test]
async fn check_lists_missing_parts_and_declares_nothing() {
    let sandbox = Sandbox::new().await;
    let session = Session::look(&config(&sandbox.amqp_url)).await.unwrap();
    for _ in 0..2 {
        let faults = session.check_topology().await.unwrap();
        assert_eq!(faults.len(), 21 + 26);
        assert!(faults.iter().all(|fault| fault.problem.starts_with("missing")));
    }
}

#[tokio::test]
async fn queue_with_other_arguments_is_named_with_a_remedy() {
    let (sandbox, session) = open().await;
    let channel = channel(&sandbox).await;
    let name = "fanfare.events";
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    let classic = QueueDeclareOptions::durable();
    channel.queue_declare(name.into(), classic, FieldTable::default()).await.unwrap();

    let faults = session.check_topology().await.unwrap();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].what, "queue fanfare.events");

    let refused = Session::open(&config(&sandbox.amqp_url)).await.map(drop).unwrap_err();
    assert!(matches!(refused, BrokerError::Different { .. }), "{refused:?}");
    let message = refused.to_string();
    assert!(message.contains("queue fanfare.events") && message.contains("delete it"), "{message}");
}

#[tokio::test]
async fn dead_letter_queues_of_an_earlier_version_stay_in_use() {
    let (sandbox, session) = open().await;
    let channel = channel(&sandbox).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(i64::from(i32::MAX)));
    for name in ["fanfare.events.dead", "fanfare.deliveries.dead"] {
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
        let options = QueueDeclareOptions::durable();
        channel.queue_declare(name.into(), options, arguments.clone()).await.unwrap();
    }
    publish(&session, Queue::EventsDead, &["kept"]).await;
    let later = Session::open(&config(&sandbox.amqp_url)).await.unwrap();
    assert_eq!(later.check_topology().await.unwrap(), []);
    assert_eq!(later.depth(Queue::EventsDead).await.unwrap().ready, 1);
}

#[tokio::test]
async fn classic_dead_letter_queue_is_not_mistaken_for_an_earlier_versions() {
    let (sandbox, session) = open().await;
    let channel = channel(&sandbox).await;
    let name = "fanfare.events.dead";
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    let options = QueueDeclareOptions::durable();
    channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
    let faults = session.check_topology().await.unwrap();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].what, "queue fanfare.events.dead");
    let refused = Session::open(&config(&sandbox.amqp_url)).await.map(drop).unwrap_err();
    let is_it =
        matches!(&refused, BrokerError::Different { argument, .. } if argument == "x-queue-type");
    assert!(is_it, "{refused:?}");
}

const EVENTS: &str = "reportserver.events";

/// Declares the report server's exchange before Fanfare does.
async fn events_exchange(
    sandbox: &Sandbox,
    kind: ExchangeKind,
    options: ExchangeDeclareOptions,
    arguments: &[(&str, &str)],
) {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    let channel = channel(sandbox).await;
    channel.exchange_declare(EVENTS.into(), kind, options, table).await.unwrap();
}

#[tokio::test]
async fn report_servers_exchange_is_used_as_declared() {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let internal = ExchangeDeclareOptions { internal: true, ..durable };
    let auto_delete = ExchangeDeclareOptions { auto_delete: true, ..durable };
    let cases = [
        (durable, &[("alternate-exchange", "amq.fanout")][..]),
        (durable, &[("x-made-up", "by the report server")]),
        (internal, &[]),
        (auto_delete, &[]),
    ];
    for (options, arguments) in cases {
        let sandbox = Sandbox::new().await;
        events_exchange(&sandbox, ExchangeKind::Topic, options, arguments).await;
        let session = Session::open(&config(&sandbox.amqp_url)).await.unwrap();
        assert_eq!(session.check_topology().await.unwrap(), [], "{options:?} {arguments:?}");
        let mut consumer = session.consumer(Queue::Events, 1).await.unwrap();
        // An internal exchange accepts messages from other exchanges only.
        let source = if options.internal { "amq.fanout" } else { EVENTS };
        let channel = channel(&sandbox).await;
        if options.internal {
            let (to, from) = (EVENTS.into(), source.into());
            let bound = channel.exchange_bind(
                to,
                from,
                "".into(),
                ExchangeBindOptions::default(),
                FieldTable::default(),
            );
            bound.await.unwrap();
        }
        let to = Destination::Exchange {
            exchange: source.to_owned(),
            routing_key: "tasks.execute".to_owned(),
        };
        session.publisher().publish(&to, text("1")).await.unwrap();
        let taken = next(&mut consumer).await;
        assert_eq!(body(&taken), "1");
        taken.settle.ack().await.unwrap();
    }
}

#[tokio::test]
async fn unusable_exchange_is_named_without_advice_to_delete_it() {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let cases = [
        (ExchangeKind::Fanout, durable, "type"),
        (ExchangeKind::Direct, durable, "type"),
        (ExchangeKind::Topic, ExchangeDeclareOptions::default(), "durable"),
    ];
    for (kind, options, property) in cases {
        let sandbox = Sandbox::new().await;
        events_exchange(&sandbox, kind, options, &[]).await;
        let refused = Session::open(&config(&sandbox.amqp_url)).await.map(drop).unwrap_err();
        let is_it = matches!(&refused, BrokerError::ExchangeUnusable { property: found, .. } if found == property);
        assert!(is_it, "{refused:?}");
        let session = Session::look(&config(&sandbox.amqp_url)).await.unwrap();
        let faults = session.check_topology().await.unwrap();
        let fault = faults.iter().find(|fault| fault.what == format!("exchange {EVENTS}")).unwrap();
        for message in [&refused.to_string(), &fault.problem] {
            assert!(
                message.contains(EVENTS) && message.contains("durable topic exchange"),
                "{message}"
            );
            assert!(!message.contains("delete"), "{message}");
        }
    }
}

#[test]
fn raising_the_delivery_queues_adds_queues_and_changes_nothing_else() {
    let (one, four) = (render(ShardCount::ONE), render(ShardCount::new(4).unwrap()));
    let added: Vec<&str> =
        four.lines().filter(|line| !one.lines().any(|known| known == *line)).collect();
    let row = |name| format!("  {name}    1000 redeliveries, then queue fanfare.deliveries.dead");
    let expected = ["fanfare.deliveries.2", "fanfare.deliveries.3", "fanfare.deliveries.4"];
    assert_eq!(added, expected.map(row));
    assert_eq!(four.lines().count(), one.lines().count() + 3);
    assert_eq!(Queue::all(ShardCount::MOST).count(), 6 + 15);
}

#[tokio::test]
async fn new_delivery_queues_leave_existing_ones_unchanged() {
    let (sandbox, one) = open().await;
    let most = config(&sandbox.amqp_url).with_delivery_queues(ShardCount::MOST);
    // The state that a process with the higher number finds before a router has declared the
    // queues.
    let before = Session::look(&most).await.unwrap().check_topology().await.unwrap();
    assert_eq!(before.len(), 15);
    assert!(before[0].problem.starts_with("missing"), "{before:?}");
    for shard in ShardCount::ONE.beyond() {
        let missing = one.depth(Queue::Deliveries(shard)).await.unwrap_err();
        assert!(matches!(missing, BrokerError::Missing { .. }), "{missing:?}");
    }

    let session = Session::open(&most).await.unwrap();
    assert_eq!(session.check_topology().await.unwrap(), []);
    assert_eq!(one.check_topology().await.unwrap(), []);
    for queue in ShardCount::MOST.all().map(Queue::Deliveries) {
        publish(&session, queue, &[queue.name()]).await;
        let taken = next(&mut session.consumer(queue, 1).await.unwrap()).await;
        assert_eq!(taken.message.body, queue.name());
        taken.settle.ack().await.unwrap();
    }
}
