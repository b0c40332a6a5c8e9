//! Probes whether each queue answers, and repairs queues that do not.
//!
//! A quorum queue without a living leader looks healthy from outside: it can be declared, with or
//! without `passive`, and the broker says that it is empty. Only a request that its leader must
//! answer shows the difference. `basic.get` is such a request: RabbitMQ answers it with
//! `INTERNAL_ERROR` on the connection, or not at all. It is sent to queues that seem to be empty
//! and without consumers, so it gets a message only if one arrives at that moment, and requeues it.
//!
//! If a policy sets `expires`, RabbitMQ deletes a queue without a consumer, with all of its
//! messages, unless a client requests a message now and then. So the queues in which events wait
//! always get the request.

use crate::config::Config;
use crate::connect::connect_any;
use crate::error::BrokerError;
use crate::topology::{self, Queue};
use fanfare_core::chain::chain;
use lapin::options::{BasicGetOptions, BasicNackOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use std::time::Duration;
use tokio::time::timeout;

/// How long a queue may take to answer. One that elects a leader takes a second or two.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The time-out of a deletion, which waits until the broker has given up on the queue's leader.
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

/// A queue, and whether it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The queue's name.
    pub queue: String,
    /// Whether it carries only jobs, which the ledger can provide again, so that [`repair`] may
    /// delete it.
    pub repairable: bool,
    pub condition: Condition,
}

/// The condition of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answers.
    Answers,
    /// It does not exist.
    Missing,
    /// It exists and does not answer, for this reason.
    Broken(String),
}

/// Probes every queue of the table.
///
/// # Errors
///
/// The broker can't be reached, or refuses this user.
pub async fn probe(config: &Config) -> Result<Vec<Probe>, BrokerError> {
    let mut prober = Prober::new(config);
    let mut found = Vec::new();
    for row in topology::queue_rows(config.delivery_queues()) {
        let condition = prober.condition(&row.name, row.holds_events()).await?;
        found.push(Probe { repairable: row.carries_jobs, queue: row.name, condition });
    }
    prober.close().await;
    Ok(found)
}

/// Deletes a queue of jobs that is broken and declares it again, or declares a missing one; returns
/// whether it did. The messages of the queue are lost with it; the ledger can provide them again.
///
/// # Errors
///
/// The broker's answer; [`BrokerError::Forbidden`] for a user that may not declare.
pub async fn repair(config: &Config, queue: &str) -> Result<bool, BrokerError> {
    let rows = topology::queue_rows(config.delivery_queues());
    let Some(row) = rows.into_iter().find(|row| row.name == queue) else {
        return Ok(false);
    };
    let mut prober = Prober::new(config);
    // Probed again, because another process may have repaired it in the meantime.
    let condition = prober.condition(queue, false).await?;
    let delete = match condition {
        Condition::Answers => return Ok(false),
        Condition::Missing => false,
        Condition::Broken(_) if !row.carries_jobs => return Ok(false),
        Condition::Broken(_) => true,
    };
    if delete {
        let channel = prober.channel().await?;
        let name = queue.into();
        let deleted = channel.queue_delete(name, QueueDeleteOptions::default());
        let doing = || format!("deleting queue {queue}");
        match timeout(DELETE_TIMEOUT, deleted).await {
            Ok(deleted) => deleted.map(drop).map_err(|error| BrokerError::of(doing(), &error))?,
            Err(_) => return Err(no_answer(doing())),
        }
    }
    let channel = prober.channel().await?;
    topology::declare_one(&channel, &row, config.delivery_queues()).await?;
    prober.close().await;
    Ok(true)
}

/// Whether a queue does not exist.
///
/// # Errors
///
/// The broker can't be reached, or refuses this user.
pub async fn is_missing(config: &Config, queue: Queue) -> Result<bool, BrokerError> {
    let mut prober = Prober::new(config);
    let condition = prober.condition(queue.name(), false).await?;
    prober.close().await;
    Ok(condition == Condition::Missing)
}

/// Declares a queue if it is missing; returns whether it was.
///
/// # Errors
///
/// As for [`repair`].
pub(crate) async fn restore(config: &Config, queue: &str) -> Result<bool, BrokerError> {
    let rows = topology::queue_rows(config.delivery_queues());
    let Some(row) = rows.into_iter().find(|row| row.name == queue) else {
        return Ok(false);
    };
    let mut prober = Prober::new(config);
    let is_missing = prober.condition(queue, false).await? == Condition::Missing;
    if is_missing {
        let channel = prober.channel().await?;
        topology::declare_one(&channel, &row, config.delivery_queues()).await?;
    }
    prober.close().await;
    Ok(is_missing)
}

/// The reason why a queue does not answer; `None` if it answers.
pub(crate) async fn problem_of(
    config: &Config,
    queue: &str,
) -> Result<Option<String>, BrokerError> {
    let mut prober = Prober::new(config);
    let condition = prober.condition(queue, false).await?;
    prober.close().await;
    Ok(match condition {
        Condition::Answers => None,
        Condition::Missing => Some("it does not exist".to_owned()),
        Condition::Broken(problem) => Some(problem),
    })
}

/// Probes queues over a connection that is replaced when an answer closes it.
struct Prober<'a> {
    config: &'a Config,
    connection: Option<Connection>,
}

impl<'a> Prober<'a> {
    fn new(config: &'a Config) -> Self {
        Self { config, connection: None }
    }

    /// The condition of a queue. With `touch`, a message is requested even if the probe does not
    /// need it.
    async fn condition(&mut self, queue: &str, touch: bool) -> Result<Condition, BrokerError> {
        let channel = self.channel().await?;
        let asked = timeout(ANSWER_TIMEOUT, ask(&channel, queue, touch)).await;
        let problem = match asked {
            Ok(Ok(())) => return Ok(Condition::Answers),
            Ok(Err(BrokerError::Missing { .. })) => return Ok(Condition::Missing),
            Ok(Err(error @ BrokerError::Forbidden { .. })) => return Err(error),
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        };
        // The request is still open on this connection, or it has closed the connection.
        self.close().await;
        Ok(Condition::Broken(problem))
    }

    async fn channel(&mut self) -> Result<Channel, BrokerError> {
        let usable = self.connection.take().filter(|known| known.status().connected());
        let connection = match usable {
            Some(connection) => connection,
            None => connect_any(self.config, "probe").await?.connection,
        };
        let channel = connection.create_channel().await;
        self.connection = Some(connection);
        channel.map_err(|error| BrokerError::of("opening a channel", &error))
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // An error means that it was closed already.
            let _ = timeout(ANSWER_TIMEOUT, connection.close(200, "OK".into())).await;
        }
    }
}

async fn ask(channel: &Channel, queue: &str, touch: bool) -> Result<(), BrokerError> {
    let failed = |error: &lapin::Error| BrokerError::of(format!("probing queue {queue}"), error);
    let options = QueueDeclareOptions::durable().passive();
    let found = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await
        .map_err(|error| failed(&error))?;
    // Both numbers come from the leader; without a leader they are zero.
    if touch || found.message_count() == 0 && found.consumer_count() == 0 {
        let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: false }).await;
        if let Some(message) = got.map_err(|error| failed(&error))? {
            let back = BasicNackOptions { multiple: false, requeue: true };
            message.acker.nack(back).await.map_err(|error| failed(&error))?;
        }
    }
    channel.close(200, "OK".into()).await.map_err(|error| failed(&error))
}

fn no_answer(doing: String) -> BrokerError {
    BrokerError::Lost { doing, source: Some("the queue does not answer".into()) }
}
