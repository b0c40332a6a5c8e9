//! A small AMQP client for tests: publish one message, look into a queue, empty it.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

/// A connection with one channel in confirm mode.
pub struct Amqp {
    connection: Connection,
    channel: Channel,
}

/// A message taken from a queue.
#[derive(Clone, Debug)]
pub struct Message {
    /// The key it was last published with.
    pub routing_key: String,
    pub headers: FieldTable,
    pub properties: BasicProperties,
    pub body: Bytes,
}

impl Message {
    /// The header `name` as text, numbers included.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        match self.headers.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            value => value.as_long_long_int().map(|number| number.to_string()),
        }
    }
}

impl Amqp {
    /// Connects to a virtual host.
    pub async fn connect(url: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .context("connecting to the broker")?;
        let channel = connection.create_channel().await.context("opening a channel")?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel })
    }

    /// The connection, for operations that this type does not have.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The channel, for operations that this type does not have. An error on the channel closes it.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Publishes a persistent message and waits until the broker has confirmed it.
    /// An error if no queue takes it.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<()> {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString(LongString::from(*value)));
        }
        let properties = BasicProperties::default()
            .with_content_type(content_type.into())
            .with_delivery_mode(2)
            .with_headers(table);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirmation = self
            .channel
            .basic_publish(exchange.into(), routing_key.into(), options, body, properties)
            .await
            .context("publishing")?
            .await
            .context("waiting for the broker's confirm")?;
        ensure!(confirmation.is_ack(), "the broker refused the message");
        ensure!(confirmation.take_message().is_none(), "no queue takes the message {routing_key}");
        Ok(())
    }

    pub async fn declare(&self, queue: &str) -> Result<()> {
        let (options, arguments) = (QueueDeclareOptions::default(), FieldTable::default());
        let declaring = self.channel.queue_declare(queue.into(), options, arguments);
        declaring.await.with_context(|| format!("declaring the queue {queue}"))?;
        Ok(())
    }

    /// Binds `queue` to `exchange` with a pattern of routing keys.
    pub async fn bind(&self, queue: &str, exchange: &str, pattern: &str) -> Result<()> {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let (to, from, keys) = (queue.into(), exchange.into(), pattern.into());
        let binding = self.channel.queue_bind(to, from, keys, options, arguments);
        binding.await.with_context(|| format!("binding the queue {queue} to {exchange}"))
    }

    /// Declares a durable topic exchange with text arguments.
    pub async fn declare_exchange(&self, exchange: &str, arguments: &[(&str, &str)]) -> Result<()> {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), AMQPValue::LongString(LongString::from(*value)));
        }
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let topic = ExchangeKind::Topic;
        let declaring = self.channel.exchange_declare(exchange.into(), topic, options, table);
        declaring.await.with_context(|| format!("declaring the exchange {exchange}"))
    }

    /// Deletes a queue and its messages.
    pub async fn delete(&self, queue: &str) -> Result<()> {
        let deleting = self.channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        deleting.await.with_context(|| format!("deleting the queue {queue}"))?;
        Ok(())
    }

    /// The number of ready messages in `queue`.
    pub async fn queue_len(&self, queue: &str) -> Result<u32> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared = self
            .channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .with_context(|| format!("looking at the queue {queue}"))?;
        Ok(declared.message_count())
    }

    /// Takes all messages that are ready in `queue` and requeues them, as a consumer does that
    /// dies; returns their number.
    pub async fn give_back(&self, queue: &str) -> Result<usize> {
        let mut taken = Vec::new();
        while let Some(got) = self
            .channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await
            .with_context(|| format!("taking from the queue {queue}"))?
        {
            taken.push(got.delivery.acker);
        }
        for acker in &taken {
            acker.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
        }
        Ok(taken.len())
    }

    /// Reads all messages that are ready in `queue`, and requeues them.
    pub async fn look(&self, queue: &str) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        let mut ackers = Vec::new();
        while let Some(got) = self
            .channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await
            .with_context(|| format!("taking from the queue {queue}"))?
        {
            ackers.push(got.delivery.acker);
            messages.push(Message {
                routing_key: got.delivery.routing_key.to_string(),
                headers: got.delivery.properties.headers().clone().unwrap_or_default(),
                properties: got.delivery.properties,
                body: got.delivery.data.into(),
            });
        }
        for acker in &ackers {
            acker.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
        }
        Ok(messages)
    }

    /// Takes all messages that are ready in `queue`.
    pub async fn drain(&self, queue: &str) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        while let Some(message) = self.take(queue).await? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// Takes the messages of a queue as one of its consumers, and does nothing with them, until the
    /// connection ends.
    pub async fn lose(&self, queue: &str) -> Result<()> {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut messages = self
            .channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await
            .with_context(|| format!("consuming the queue {queue}"))?;
        while messages.next().await.is_some() {}
        Ok(())
    }

    /// Takes the first message that is ready in `queue`.
    pub async fn take(&self, queue: &str) -> Result<Option<Message>> {
        let got = self
            .channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await
            .with_context(|| format!("taking from the queue {queue}"))?;
        let Some(got) = got else { return Ok(None) };
        got.delivery.acker.ack(BasicAckOptions::default()).await?;
        Ok(Some(Message {
            routing_key: got.delivery.routing_key.to_string(),
            headers: got.delivery.properties.headers().clone().unwrap_or_default(),
            properties: got.delivery.properties,
            body: got.delivery.data.into(),
        }))
    }
}
