//! Finds policies of the broker that act on Fanfare's queues, by their effect on a test queue.
//!
//! AMQP does not show policies, and no argument of a queue protects it from one, because the lower
//! limit applies. So a queue is declared whose name such a policy would match too, and its messages
//! are watched. This finds policies that act within seconds or on a few messages. It does not find
//! a `message-ttl` of a day.

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

/// How long a message is watched. RabbitMQ checks every five seconds for queues that have expired.
const WATCH: Duration = Duration::from_secs(6);
/// The time between two checks of the queue.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How often a message is requeued. RabbitMQ's own default limit is 20 from version 4 on.
const RETURNS: u32 = 24;
/// The number of messages that are published to the queue.
const MESSAGES: u32 = 1000;
/// The time-out of the whole test: a broker that is short of memory accepts no messages.
const LONGEST: Duration = Duration::from_secs(30);
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which the broker itself deletes a queue that was left behind.
const LEFT_BEHIND_MS: i64 = 60_000;

/// A key of a policy that loses messages or shortens their delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarmfulPolicy {
    /// `message-ttl`: messages expire.
    MessageTtl,
    /// `expires`: queues without a consumer are deleted with their messages.
    Expires,
    /// `delivery-limit`: messages that were returned a few times are dropped.
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

/// Tests the effect of policies on a queue with a name like Fanfare's. This takes some seconds.
///
/// # Errors
///
/// [`BrokerError::Forbidden`] for a user that may not declare queues; otherwise the connection's.
pub async fn harmful_policies(config: &Config) -> Result<Vec<HarmfulPolicy>, BrokerError> {
    let connection = connect_any(config, "policies").await?.connection;
    let queue = format!("fanfare.doctor.{}", Uuid::new_v4().simple());
    let opened = async |doing: &str| {
        connection.create_channel().await.map_err(|error| BrokerError::of(doing, &error))
    };
    let test = TestQueue { channel: opened("opening a channel").await?, name: queue };
    let found = timeout(LONGEST, test.find()).await;
    let delete = async {
        // The effect of a policy may have closed the channel.
        let channel = opened("opening a channel").await?;
        let name = test.name.as_str().into();
        let deleted = channel.queue_delete(name, QueueDeleteOptions::default()).await;
        deleted.map_err(|error| BrokerError::of("deleting a test queue", &error))
    };
    // If this fails, the broker deletes the queue when it expires.
    let _ = timeout(DELETE_TIMEOUT, delete).await;
    let _ = timeout(DELETE_TIMEOUT, connection.close(200, "OK".into())).await;
    found.unwrap_or_else(|_| {
        let source = Some(format!("no answer within {} s", LONGEST.as_secs()).into());
        Err(BrokerError::Lost { doing: "trying a test queue".to_owned(), source })
    })
}

/// The test queue, and the channel for its messages.
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
        // Otherwise the broker's own default would look like a policy.
        let limit = AMQPValue::LongLongInt(i64::from(i32::MAX));
        arguments.insert("x-delivery-limit".into(), limit);
        let failed = |error: &lapin::Error| BrokerError::of("declaring a test queue", error);
        let (name, durable) = (self.name.as_str().into(), QueueDeclareOptions::durable());
        let declared = self.channel.queue_declare(name, durable, arguments).await;
        declared.map_err(|error| failed(&error))?;
        let confirms = self.channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|error| failed(&error))
    }

    /// Publishes messages to the queue; returns whether it accepted all of them.
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

    /// Whether a message stays in the queue while it is watched.
    async fn watch(&self) -> Result<bool, BrokerError> {
        let until = Instant::now() + WATCH;
        while Instant::now() < until {
            if self.length().await? == 0 {
                return Ok(false);
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
        Ok(true)
    }

    /// Whether a message stays in the queue although it is requeued many times.
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
        let found = found.map_err(|error| BrokerError::of("checking a test queue", &error))?;
        Ok(found.message_count())
    }
}
