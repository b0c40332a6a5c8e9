//! Making the broker agree with the table, and looking whether it does.

use super::{Binding, EVENTS_EXCHANGE, Fault, NOTICES_EXCHANGE, QueueRow, table};
use crate::error::BrokerError;
use fanfare_core::shard::ShardCount;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

/// How long the broker may take to declare one thing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the broker agree with the table. What is already there as it should be stays as it is.
///
/// A queue of `without`, or one that can't be declared now, is left out with its bindings, so that a
/// broken one does not stop the use of the others; those that failed are returned.
///
/// # Errors
///
/// [`BrokerError::Different`] when something exists with other arguments; otherwise what broke.
pub(crate) async fn declare(
    connection: &Connection,
    delivery_queues: ShardCount,
    without: &BTreeSet<String>,
) -> Result<Vec<(String, BrokerError)>, BrokerError> {
    let table = table(delivery_queues);
    use_events_exchange(connection).await?;
    let mut channel = open(connection).await?;
    // One after the other: a refusal closes the channel, and must not be drowned by the errors of
    // others that then find it closed.
    for exchange in table.exchanges.iter().filter(|it| *it != EVENTS_EXCHANGE) {
        declare_exchange(&channel, exchange).await?;
    }
    let mut failed: Vec<(String, BrokerError)> = Vec::new();
    for row in table.queues.iter().filter(|row| !without.contains(&row.name)) {
        match declare_or_use(connection, &mut channel, row).await {
            Ok(()) => {}
            Err(error @ (BrokerError::Missing { .. } | BrokerError::Lost { .. })) => {
                failed.push((row.name.clone(), error));
                if !connection.status().connected() {
                    return Ok(failed);
                }
                channel = open(connection).await?;
            }
            Err(error) => return Err(error),
        }
    }
    let is_left_out =
        |queue: &str| without.contains(queue) || failed.iter().any(|it| it.0 == queue);
    for binding in table.bindings.iter().filter(|binding| !is_left_out(&binding.queue)) {
        bind(&channel, binding).await?;
    }
    Ok(failed)
}

/// Makes the report server's exchange if it is not there, and uses it as it is found otherwise: its
/// arguments and flags are the report server's. Only one of another type, which would route by other
/// rules, and one that is not durable, which would lose its bindings, are of no use.
///
/// # Errors
///
/// [`BrokerError::ExchangeUnusable`]; otherwise what broke.
async fn use_events_exchange(connection: &Connection) -> Result<(), BrokerError> {
    // A passive declaration needs no permission, but shows only whether the exchange exists.
    let is_missing = match passive_exchange(&open(connection).await?, EVENTS_EXCHANGE).await {
        Ok(()) => false,
        Err(BrokerError::Missing { .. }) => true,
        Err(error) => return Err(error),
    };
    match declare_exchange(&open(connection).await?, EVENTS_EXCHANGE).await {
        Err(BrokerError::Different { argument, difference, .. }) => {
            if matches!(argument.as_str(), "type" | "durable") {
                let exchange = EVENTS_EXCHANGE.to_owned();
                return Err(BrokerError::ExchangeUnusable {
                    exchange,
                    property: argument,
                    difference,
                });
            }
            Ok(())
        }
        // It is there, and its type is the report server's word.
        Err(BrokerError::Forbidden { .. }) if !is_missing => Ok(()),
        declared => declared,
    }
}

/// Makes one queue and its bindings.
///
/// # Errors
///
/// As for [`declare`].
pub(crate) async fn declare_one(
    channel: &Channel,
    row: &QueueRow,
    delivery_queues: ShardCount,
) -> Result<(), BrokerError> {
    declare_queue(channel, row).await?;
    let table = table(delivery_queues);
    for binding in table.bindings.iter().filter(|binding| binding.queue == row.name) {
        bind(channel, binding).await?;
    }
    Ok(())
}

/// Looks that what every process needs is there: the exchanges, which routers make first. Whatever
/// its arguments: looking needs no permission, comparing does. A queue that is missing or broken
/// stops only those that need it, when they do.
///
/// # Errors
///
/// [`BrokerError::Missing`] names the first that is not there; otherwise what broke.
pub(crate) async fn expect(connection: &Connection) -> Result<(), BrokerError> {
    let channel = open(connection).await?;
    // Routers alone need the exchange of notices, and an earlier version's routers do not make it.
    let table = table(ShardCount::ONE);
    for exchange in table.exchanges.iter().filter(|it| *it != NOTICES_EXCHANGE) {
        passive_exchange(&channel, exchange).await?;
    }
    Ok(())
}

/// Compares the broker with the table; changes nothing. Bindings cannot be seen through AMQP; they
/// are declared whenever a session opens.
///
/// # Errors
///
/// The connection's; what is missing or different is in the list.
pub(crate) async fn check(
    connection: &Connection,
    delivery_queues: ShardCount,
) -> Result<Vec<Fault>, BrokerError> {
    let table = table(delivery_queues);
    let mut faults = Vec::new();
    for exchange in &table.exchanges {
        let channel = open(connection).await?;
        let found = match passive_exchange(&channel, exchange).await {
            Ok(()) if exchange == EVENTS_EXCHANGE => use_events_exchange(connection).await,
            // Asked again without `passive`, the broker compares the type; it exists, so this makes
            // nothing.
            Ok(()) => comparable(declare_exchange(&channel, exchange).await),
            missing => missing,
        };
        note(&mut faults, format!("exchange {exchange}"), found)?;
    }
    for row in &table.queues {
        let mut channel = open(connection).await?;
        let found = match passive_queue(&channel, row).await {
            Ok(()) => comparable(declare_or_use(connection, &mut channel, row).await),
            missing => missing,
        };
        note(&mut faults, format!("queue {}", row.name), found)?;
    }
    Ok(faults)
}

/// To a user that may not declare, what is there is as it should be: it can't compare.
fn comparable(found: Result<(), BrokerError>) -> Result<(), BrokerError> {
    match found {
        Err(BrokerError::Forbidden { .. }) => Ok(()),
        compared => compared,
    }
}

async fn declare_exchange(channel: &Channel, exchange: &str) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default())
        .await
        .map_err(|error| BrokerError::of(format!("declaring exchange {exchange}"), &error))
}

/// Declares a queue, or uses one just as an earlier version made it. The broker names one difference
/// of perhaps several, so that it is asked about the others.
async fn declare_or_use(
    connection: &Connection,
    channel: &mut Channel,
    row: &QueueRow,
) -> Result<(), BrokerError> {
    match declare_queue(channel, row).await {
        Err(error) if row.may_be_of_earlier_version(&error) => {
            // The answer has closed the channel.
            *channel = open(connection).await?;
            declare_with(channel, row, row.earlier_arguments()).await
        }
        declared => declared,
    }
}

async fn declare_queue(channel: &Channel, row: &QueueRow) -> Result<(), BrokerError> {
    declare_with(channel, row, row.arguments()).await
}

async fn declare_with(
    channel: &Channel,
    row: &QueueRow,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    let (name, options) = (row.name.as_str().into(), QueueDeclareOptions::durable());
    let doing = format!("declaring queue {}", row.name);
    match timeout(ANSWER_TIMEOUT, channel.queue_declare(name, options, arguments)).await {
        Ok(declared) => declared.map(drop).map_err(|error| BrokerError::of(doing, &error)),
        Err(_) => Err(BrokerError::Lost { doing, source: Some("no answer in time".into()) }),
    }
}

async fn bind(channel: &Channel, binding: &Binding) -> Result<(), BrokerError> {
    let Binding { exchange, pattern, queue } = binding;
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    let (from, key) = (exchange.as_str().into(), pattern.as_str().into());
    channel
        .queue_bind(queue.as_str().into(), from, key, options, none)
        .await
        .map_err(|error| BrokerError::of(format!("binding queue {queue} to {exchange}"), &error))
}

async fn passive_exchange(channel: &Channel, exchange: &str) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    channel
        .exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default())
        .await
        .map_err(|error| BrokerError::of(format!("looking at exchange {exchange}"), &error))
}

async fn passive_queue(channel: &Channel, row: &QueueRow) -> Result<(), BrokerError> {
    let options = QueueDeclareOptions::durable().passive();
    channel
        .queue_declare(row.name.as_str().into(), options, FieldTable::default())
        .await
        .map(drop)
        .map_err(|error| BrokerError::of(format!("looking at queue {}", row.name), &error))
}

/// A channel for one question: a "no" closes it.
async fn open(connection: &Connection) -> Result<Channel, BrokerError> {
    connection.create_channel().await.map_err(|error| BrokerError::of("opening a channel", &error))
}

fn note(
    faults: &mut Vec<Fault>,
    what: String,
    found: Result<(), BrokerError>,
) -> Result<(), BrokerError> {
    let problem = match found {
        Ok(()) => return Ok(()),
        Err(BrokerError::Missing { .. }) => {
            "missing; a router creates it; if it goes missing again, a policy with `expires` deletes \
             it (`rabbitmqctl list_policies`)"
                .to_owned()
        }
        Err(error @ (BrokerError::Different { .. } | BrokerError::ExchangeUnusable { .. })) => {
            error.to_string()
        }
        Err(error) => return Err(error),
    };
    faults.push(Fault { what, problem });
    Ok(())
}
