//! Publishing: a message counts as published when the broker has confirmed it and a queue has it.

use crate::error::{BrokerError, PublishError, cause};
use crate::letter::fit::{fit, instead};
use crate::message::{Destination, Message, Properties, TRANSIENT};
use crate::spans;
use crate::topology::Queue;
use crate::wire::AROUND;
use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use std::borrow::Cow;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The most publishes at the same time, each on a channel of its own. A quorum queue confirms in a few
/// milliseconds, so this allows some thousands of single messages a second.
const CHANNELS: usize = 32;

/// The most messages of one [`Publisher::publish_all`] that wait for their confirm at the same time.
const IN_FLIGHT: usize = 256;

/// The time-out of a publish. Under load, confirms take seconds at most.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes of a header frame in addition to the properties: the frame's envelope, and class, weight
/// and size.
const AROUND_PROPERTIES: usize = AROUND + 12;

/// AMQP's delivery mode of a message that is written to disk.
const PERSISTENT: u8 = 2;

/// Publishes with confirms. Clones share the same channels, and any number of tasks may use them.
///
/// When the broker is short of memory or disk it stops reading, and publishes wait until it reads
/// again.
#[derive(Clone)]
pub struct Publisher {
    pool: Arc<Pool>,
}

impl Publisher {
    /// Publishes one message and waits until the broker has confirmed it.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; only after `Unknown` may the message be in a queue all the same.
    pub async fn publish(
        &self,
        destination: &Destination,
        message: Message,
    ) -> Result<(), PublishError> {
        self.publish_all(vec![(destination.clone(), message)]).await
    }

    /// Publishes many messages, without waiting for one confirm before the next message, and waits
    /// until the broker has confirmed all of them.
    ///
    /// # Errors
    ///
    /// The first failure. Some of the other messages may be in their queues: publish all messages again
    /// with the same identities.
    pub async fn publish_all(
        &self,
        messages: Vec<(Destination, Message)>,
    ) -> Result<(), PublishError> {
        let span = spans::publish(&messages);
        let sent = self.send_all(messages).await;
        sent.inspect_err(|error| spans::fail(&span, error))
    }

    async fn send_all(&self, messages: Vec<(Destination, Message)>) -> Result<(), PublishError> {
        let messages = messages.into_iter().map(|message| self.sendable(message));
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        let lease = self.pool.lease().await?;
        let channel = lease.channel();
        // Collected first: the compiler cannot see that a stream over borrowing closures is `Send`.
        let sends: Vec<_> = messages
            .iter()
            .cloned()
            .map(|(destination, message)| send(channel, destination, message))
            .collect();
        // A channel whose confirm is outstanding is not used again.
        let sending = stream::iter(sends).buffer_unordered(IN_FLIGHT).try_collect::<()>();
        let sent = self.in_time(sending).await?;
        let is_closed = lease.end(sent.is_ok());
        match sent {
            // The broker refused one of them by closing the channel.
            Err(PublishError::Unknown { .. }) if is_closed && self.is_connected() => {
                for (destination, message) in messages {
                    self.publish_alone(destination, message).await?;
                }
                Ok(())
            }
            sent => sent,
        }
    }

    /// Publishes many messages as [`publish_all`](Self::publish_all) does, and returns the result of
    /// each, in their order. A failure of one message does not stop the others.
    ///
    /// It is not certain which of several messages was unroutable: use it for messages with the same
    /// destination.
    pub async fn publish_each(
        &self,
        messages: Vec<(Destination, Message)>,
    ) -> Vec<Result<(), PublishError>> {
        let span = spans::publish(&messages);
        let sent = self.send_each(messages).await;
        if let Some(error) = sent.iter().find_map(|sent| sent.as_ref().err()) {
            spans::fail(&span, error);
        }
        sent
    }

    async fn send_each(
        &self,
        messages: Vec<(Destination, Message)>,
    ) -> Vec<Result<(), PublishError>> {
        let lease = match self.pool.lease().await {
            Ok(lease) => lease,
            Err(error) => {
                let reason = error.to_string();
                return messages.iter().map(|_| Err(unknown(reason.clone().into()))).collect();
            }
        };
        let channel = lease.channel();
        let messages: Vec<_> = messages.into_iter().map(|it| self.sendable(it)).collect();
        let sends: Vec<_> = messages
            .iter()
            .map(|message| {
                let message = message.as_ref().ok().cloned();
                async move {
                    match message {
                        Some((destination, message)) => send(channel, destination, message).await,
                        None => Ok(()),
                    }
                }
            })
            .collect();
        let sending = stream::iter(sends).buffered(IN_FLIGHT).collect::<Vec<_>>();
        let Ok(sent) = self.in_time(sending).await else {
            // It is not known which of them were confirmed. The channel is closed with its lease.
            let seconds = CONFIRM_TIMEOUT.as_secs();
            return messages.iter().map(|_| Err(PublishError::NoConfirm { seconds })).collect();
        };
        let is_unknown =
            |sent: &Result<(), PublishError>| matches!(sent, Err(PublishError::Unknown { .. }));
        let is_closed = lease.end(!sent.iter().any(spoils_channel));
        let is_refusal = is_closed && self.is_connected();
        let mut results = Vec::with_capacity(messages.len());
        for (message, sent) in messages.into_iter().zip(sent) {
            results.push(match message {
                Err(error) => Err(error),
                // The broker refused one of them by closing the channel.
                Ok((destination, message)) if is_refusal && is_unknown(&sent) => {
                    self.publish_alone(destination, message).await
                }
                Ok(_) => sent,
            });
        }
        results
    }

    /// Waits for confirms, with a time-out because a broken queue sends none. While the broker blocks
    /// all publishers, there is no time-out.
    async fn in_time<T>(&self, sending: impl Future<Output = T>) -> Result<T, PublishError> {
        let mut sending = pin!(sending);
        loop {
            match timeout(CONFIRM_TIMEOUT, &mut sending).await {
                Ok(sent) => return Ok(sent),
                Err(_) if self.pool.connection.status().blocked() => {}
                Err(_) => {
                    return Err(PublishError::NoConfirm { seconds: CONFIRM_TIMEOUT.as_secs() });
                }
            }
        }
    }

    /// Whether the connection is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.pool.connection.status().connected()
    }

    /// Publishes one of several messages alone, to find the one that the broker refuses. That message is
    /// replaced by a dead letter without the parts that may have caused the refusal.
    async fn publish_alone(
        &self,
        destination: Destination,
        message: Message,
    ) -> Result<(), PublishError> {
        let why = match self.send_alone(destination.clone(), message.clone()).await {
            Err(PublishError::Unsendable { reason }) => reason,
            sent => return sent,
        };
        let Some((to, letter)) = instead(&destination, &message, &why) else {
            return Err(PublishError::Unsendable { reason: why });
        };
        tracing::warn!(reason = why, "the broker refused a message; it becomes a dead letter");
        self.send_alone(to, letter).await
    }

    /// Publishes one message on a channel that only this call uses.
    async fn send_alone(
        &self,
        destination: Destination,
        message: Message,
    ) -> Result<(), PublishError> {
        let lease = self.pool.lease().await?;
        let sent = self.in_time(send(lease.channel(), destination, message)).await?;
        let is_closed = lease.end(sent.is_ok());
        match sent {
            Err(PublishError::Unknown { source }) if is_closed && self.is_connected() => {
                Err(PublishError::Unsendable { reason: source.to_string() })
            }
            sent => sent,
        }
    }

    /// The message in a form that fits into a frame: a dead letter without its largest headers, and a
    /// dead letter in place of an event that can't be delayed.
    fn sendable(
        &self,
        (destination, message): (Destination, Message),
    ) -> Result<(Destination, Message), PublishError> {
        let limit = self.pool.frame_max as usize - AROUND_PROPERTIES;
        let size = message.properties_size();
        if size <= limit {
            return Ok((destination, message));
        }
        let is_letter = |to: &Destination| {
            matches!(to, Destination::Queue(Queue::EventsDead | Queue::DeliveriesDead))
        };
        if is_letter(&destination) {
            return Ok((destination, fit(message, limit)));
        }
        let reason = format!("its properties take {size} bytes, more than {limit}");
        match instead(&destination, &message, &reason) {
            Some((to, letter)) => Ok((to, fit(letter, limit))),
            None => Err(PublishError::Unsendable { reason }),
        }
    }

    /// `frame_max` is the largest frame that was agreed on with the broker, in bytes.
    pub(crate) fn new(connection: Connection, frame_max: u32) -> Self {
        let (permits, idle) = (Semaphore::new(CHANNELS), Mutex::default());
        let pool = Pool { connection, frame_max, permits, idle };
        Self { pool: Arc::new(pool) }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.pool.connection
    }
}

/// Confirm channels, each leased to one publish at a time.
///
/// The protocol library attaches a returned message to the next confirm of its channel. On a shared
/// channel, an unroutable message would count as published, and a published one as unroutable. So each
/// call has a channel of its own, and a channel goes back only when nothing on it is outstanding.
struct Pool {
    connection: Connection,
    frame_max: u32,
    permits: Semaphore,
    idle: Mutex<Vec<Channel>>,
}

struct Lease<'a> {
    channel: Channel,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    async fn lease(&self) -> Result<Lease<'_>, PublishError> {
        let permit = self.permits.acquire().await.map_err(|error| unknown(error.into()))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let channel = match idle {
            Some(channel) => channel,
            None => self.open().await.map_err(|error| unknown(cause(&error)))?,
        };
        Ok(Lease { channel, pool: self, _permit: permit })
    }

    async fn open(&self) -> Result<Channel, lapin::Error> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }
}

impl Lease<'_> {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Gives back a clean channel. Any other channel is closed with this lease, and so is the channel of
    /// a publish that is dropped before its end. Returns whether the channel is closed.
    fn end(self, clean: bool) -> bool {
        let is_open = self.channel.status().connected();
        if clean && is_open {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(self.channel);
        }
        !is_open
    }
}

/// Whether a channel may not be used again after this result. RabbitMQ 3.10 goes on refusing messages
/// on a channel on which a full queue has refused one, even when the queue's limit is lifted.
fn spoils_channel(sent: &Result<(), PublishError>) -> bool {
    matches!(sent, Err(PublishError::Unknown { .. } | PublishError::Refused { .. }))
}

async fn send(
    channel: &Channel,
    destination: Destination,
    message: Message,
) -> Result<(), PublishError> {
    let (exchange, routing_key) = destination.address();
    let properties = properties(&message)?;
    let confirm = channel
        .basic_publish(
            short("exchange", &exchange)?,
            short("routing key", &routing_key)?,
            BasicPublishOptions { mandatory: true, immediate: false },
            &message.body,
            properties,
        )
        .await
        .map_err(|error| unknown(cause(&error)))?;
    match confirm.await.map_err(|error| unknown(cause(&error)))? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            let destination = describe(returned.exchange.as_str(), returned.routing_key.as_str());
            Err(PublishError::Unroutable { destination })
        }
        Confirmation::Nack(None) => {
            Err(PublishError::Refused { destination: describe(&exchange, &routing_key) })
        }
        Confirmation::NotRequested => Err(unknown("the channel does not confirm".into())),
    }
}

/// Sets a property that is a short text.
type With = fn(BasicProperties, ShortString) -> BasicProperties;

/// The properties with which a message is published.
///
/// # Errors
///
/// [`PublishError::Unsendable`]: a text is too long for the protocol.
pub(crate) fn properties(message: &Message) -> Result<BasicProperties, PublishError> {
    let Properties {
        content_encoding,
        kind,
        correlation_id,
        reply_to,
        app_id,
        cluster_id,
        timestamp,
        priority,
        delivery_mode,
    } = &message.properties;
    // The broker knows no other mode, and all of Fanfare's queues keep messages on disk anyway.
    let delivery_mode = delivery_mode.filter(|mode| *mode == TRANSIENT).unwrap_or(PERSISTENT);
    let mut properties = BasicProperties::default()
        .with_delivery_mode(delivery_mode)
        .with_headers(message.headers.to_publish());
    let texts: [(&str, &Option<String>, With); 8] = [
        ("content type", &message.content_type, BasicProperties::with_content_type),
        ("message id", &message.message_id, BasicProperties::with_message_id),
        ("content encoding", content_encoding, BasicProperties::with_content_encoding),
        ("type", kind, BasicProperties::with_type),
        ("correlation id", correlation_id, BasicProperties::with_correlation_id),
        ("reply-to", reply_to, BasicProperties::with_reply_to),
        ("app id", app_id, BasicProperties::with_app_id),
        ("cluster id", cluster_id, BasicProperties::with_cluster_id),
    ];
    for (what, text, with) in texts {
        if let Some(text) = text {
            properties = with(properties, short(what, text)?);
        }
    }
    if let Some(timestamp) = timestamp {
        properties = properties.with_timestamp(*timestamp);
    }
    if let Some(priority) = priority {
        properties = properties.with_priority(*priority);
    }
    Ok(properties)
}

/// The protocol's short texts have at most 255 bytes.
fn short(what: &str, text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text).map_err(|_| PublishError::Unsendable {
        reason: format!("its {what} has {} bytes, more than 255", text.len()),
    })
}

fn describe(exchange: &str, routing_key: &str) -> String {
    let text: Cow<'_, str> = match exchange {
        "" => format!("queue {routing_key}").into(),
        _ => format!("exchange {exchange} with routing key {routing_key}").into(),
    };
    text.into_owned()
}

fn unknown(source: crate::error::Cause) -> PublishError {
    PublishError::Unknown { source }
}

impl PublishError {
    /// Whether the session's connection is the cause, so that another session may succeed.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

impl BrokerError {
    /// Whether the connection is gone, so that another session may succeed.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::ConsumerGone { .. } => true,
            Self::Publish(error) => error.is_lost(),
            _ => false,
        }
    }
}
