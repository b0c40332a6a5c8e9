//! Which policies of the broker act on Fanfare's queues, found by what they do to a queue of this kind.
//!
//! AMQP tells nobody of policies, and no argument of a queue protects it from one: the lower limit
//! counts. So a queue is made whose name such a policy would match too, and it is looked what becomes
//! of the messages in it. What acts within seconds, or on a few messages, is found so; a
//! `message-ttl` of a day is not.

use crate::config::Config;
use crate::connect::connect_any;
use crate::error::BrokerError;
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// How long a message is watched. RabbitMQ looks for queues that have expired every five seconds.
const WATCH: Duration = Duration::from_secs(6);
/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a message is given back. RabbitMQ's own default limit is 20 from version 4 on.
const RETURNS: u32 = 24;
/// How many messages are put into the queue.
const MESSAGES: u32 = 1000;
/// How long all of it may take: a broker that is short of memory takes no messages.
const LONGEST: Duration = Duration::from_secs(30);
/// How long the broker may take to delete the queue.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);
/// A queue that is left behind goes by itself after this time.
const LEFT_BEHIND_MS: i64 = 60_000;

/// A key of a policy that loses messages, or brings them before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarmfulPolicy {
    /// `message-ttl`: messages vanish after a while.
    MessageTtl,
    /// `expires`: queues that nobody consumes vanish with their messages.
    Expires,
    /// `delivery-limit`: messages vanish that came back a few times.
    DeliveryLimit,
    /// `max-length` or `max-length-bytes`: a full queue refuses or drops messages.
    MaxLength,
}

impl HarmfulPolicy {
    /// The policy's key.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::MessageTtl => "message-ttl",
            Self::Expires => "expires",
            Self::DeliveryLimit => "delivery-limit",
            Self::MaxLength => "max-length",
        }
    }
}

/// Looks what policies do to a queue with a name like Fanfare's; takes some seconds.
///
/// # Errors
///
/// [`BrokerError::Forbidden`] for a user that may not make queues; otherwise what broke.
pub async fn harmful_policies(config: &Config) -> Result<Vec<HarmfulPolicy>, BrokerError> {
    let connection = connect_any(config, "policies").await?.connection;
    let queue = format!("fanfare.doctor.{}", Uuid::new_v4().simple());
    let opened = async |doing: &str| {
        connection.create_channel().await.map_err(|error| BrokerError::of(doing, &error))
    };
    let test = TestQueue { channel: opened("opening a channel").await?, name: queue };
    let found = timeout(LONGEST, test.find()).await;
    let delete = async {
        // What was found may have closed the channel.
        let channel = opened("opening a channel").await?;
        let name = test.name.as_str().into();
        let deleted = channel.queue_delete(name, QueueDeleteOptions::default()).await;
        deleted.map_err(|error| BrokerError::of("deleting a test queue", &error))
    };
    // One that stays goes by itself.
    let _ = timeout(DELETE_TIMEOUT, delete).await;
    let _ = timeout(DELETE_TIMEOUT, connection.close(200, "OK".into())).await;
    found.unwrap_or_else(|_| {
        let source = Some(format!("no answer within {} s", LONGEST.as_secs()).into());
        Err(BrokerError::Lost { doing: "trying a test queue".to_owned(), source })
    })
}

/// The queue, and the channel for all that is done with it.
struct TestQueue {
    channel: Channel,
    name: String,
}

impl TestQueue {
    async fn find(&self) -> Result<Vec<HarmfulPolicy>, BrokerError> {
        self.declare().await?;
        let mut found = Vec::new();
        if !self.publish(1).await? {
            return Ok(vec![HarmfulPolicy::MaxLength]);
        }
        match self.watch().await {
            Ok(true) => {}
            Ok(false) => return Ok(vec![HarmfulPolicy::MessageTtl]),
            Err(BrokerError::Missing { .. }) => return Ok(vec![HarmfulPolicy::Expires]),
            Err(error) => return Err(error),
        }
        let mut held = 1;
        if !self.comes_back().await? {
            found.push(HarmfulPolicy::DeliveryLimit);
            held = 0;
        }
        if !self.publish(MESSAGES).await? || self.length().await? < held + MESSAGES {
            found.push(HarmfulPolicy::MaxLength);
        }
        Ok(found)
    }

    async fn declare(&self) -> Result<(), BrokerError> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(LEFT_BEHIND_MS));
        // Otherwise the broker's own default would be taken for a policy.
        let limit = AMQPValue::LongLongInt(i64::from(i32::MAX));
        arguments.insert("x-delivery-limit".into(), limit);
        let failed = |error: &lapin::Error| BrokerError::of("making a test queue", error);
        let (name, durable) = (self.name.as_str().into(), QueueDeclareOptions::durable());
        let declared = self.channel.queue_declare(name, durable, arguments).await;
        declared.map_err(|error| failed(&error))?;
        let confirms = self.channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|error| failed(&error))
    }

    /// Puts messages into the queue; returns whether it took all of them.
    async fn publish(&self, count: u32) -> Result<bool, BrokerError> {
        let failed = |error: &lapin::Error| BrokerError::of("publishing to a test queue", error);
        let mut confirms = Vec::new();
        for _ in 0..count {
            let (exchange, key) = ("".into(), self.name.as_str().into());
            let (options, properties) =
                (BasicPublishOptions::default(), BasicProperties::default());
            let sent = self.channel.basic_publish(exchange, key, options, b"test", properties);
            confirms.push(sent.await.map_err(|error| failed(&error))?);
        }
        let mut all = true;
        for confirm in confirms {
            let confirmed = confirm.await.map_err(|error| failed(&error))?;
            all &= matches!(confirmed, Confirmation::Ack(_));
        }
        Ok(all)
    }

    /// Whether a message stays, as long as it is watched.
    async fn watch(&self) -> Result<bool, BrokerError> {
        let until = Instant::now() + WATCH;
        while Instant::now() < until {
            if self.length().await? == 0 {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(true)
    }

    /// Whether a message stays that is given back over and over.
    async fn comes_back(&self) -> Result<bool, BrokerError> {
        let failed = |error: &lapin::Error| BrokerError::of("asking a test queue", error);
        for _ in 0..RETURNS {
            let got = self.channel.basic_get(self.name.as_str().into(), BasicGetOptions::default());
            let Some(message) = got.await.map_err(|error| failed(&error))? else {
                return Ok(false);
            };
            let back = BasicNackOptions { multiple: false, requeue: true };
            message.acker.nack(back).await.map_err(|error| failed(&error))?;
        }
        Ok(true)
    }

    async fn length(&self) -> Result<u32, BrokerError> {
        let passive = QueueDeclareOptions::durable().passive();
        let name = self.name.as_str().into();
        let found = self.channel.queue_declare(name, passive, FieldTable::default()).await;
        let found = found.map_err(|error| BrokerError::of("looking at a test queue", &error))?;
        Ok(found.message_count())
    }
}
