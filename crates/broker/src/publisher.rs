//! Publishing: a message counts as sent when the broker has confirmed it and a queue has it.

use crate::error::{BrokerError, PublishError, cause};
use crate::message::{Destination, Message};
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

/// Publishes that run side by side, each on a channel of its own. A quorum queue confirms in a few
/// milliseconds, so this is some thousands of single messages a second.
const CHANNELS: usize = 32;

/// Messages of one [`Publisher::publish_all`] that wait for their confirm at the same time.
const IN_FLIGHT: usize = 256;

/// How long a publish may take. Under load confirms take seconds, not more.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// The headers of a message must fit in one frame of 128 KiB, with the rest of its properties.
pub(crate) const LARGEST_HEADERS: usize = 100 * 1024;

/// AMQP's mark for a message that is written to disk.
const PERSISTENT: u8 = 2;

/// Publishes with confirms. Clones share the same channels; use it from as many tasks as you like.
///
/// When the broker is short of memory or disk it stops reading, and publishes wait until it goes
/// on.
#[derive(Clone)]
pub struct Publisher {
    pool: Arc<Pool>,
}

impl Publisher {
    /// Publishes one message and waits until the broker has it.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; only after `Unknown` may the message be in a queue nevertheless.
    pub async fn publish(
        &self,
        destination: &Destination,
        message: Message,
    ) -> Result<(), PublishError> {
        let lease = self.pool.lease().await?;
        let sending = send(lease.channel(), destination.clone(), message);
        // A channel whose confirm is outstanding is not used again.
        let sent = self.in_time(sending).await?;
        lease.end(!spoils_channel(&sent));
        sent
    }

    /// Publishes many messages, without waiting for one confirm before the next message, and waits
    /// until the broker has all of them.
    ///
    /// # Errors
    ///
    /// The first failure. Of the other messages some may be in their queues, some not: publish all
    /// of them again with the same identities.
    pub async fn publish_all(
        &self,
        messages: Vec<(Destination, Message)>,
    ) -> Result<(), PublishError> {
        let lease = self.pool.lease().await?;
        let channel = lease.channel();
        // Collected first: the compiler cannot see that a stream over borrowing closures is `Send`.
        let sends: Vec<_> = messages
            .into_iter()
            .map(|(destination, message)| send(channel, destination, message))
            .collect();
        let sending = stream::iter(sends).buffer_unordered(IN_FLIGHT).try_collect::<()>();
        let sent = self.in_time(sending).await?;
        lease.end(sent.is_ok());
        sent
    }

    /// Publishes many messages as [`publish_all`](Self::publish_all) does, and tells what became of
    /// each, in their order. The first failure keeps no other message from being published.
    ///
    /// Which of several messages was unroutable can't be known for certain: use it for messages that
    /// take the same way.
    pub async fn publish_each(
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
        let sends: Vec<_> = messages
            .into_iter()
            .map(|(destination, message)| send(channel, destination, message))
            .collect();
        let sent: Vec<_> = stream::iter(sends).buffered(IN_FLIGHT).collect().await;
        lease.end(!sent.iter().any(spoils_channel));
        sent
    }

    /// Waits for confirms, but not for ever: a broken queue gives none. While the broker takes no
    /// messages from anybody, that is waited for.
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

    /// Whether the connection still stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.pool.connection.status().connected()
    }

    pub(crate) fn new(connection: Connection) -> Self {
        let pool = Pool { connection, permits: Semaphore::new(CHANNELS), idle: Mutex::default() };
        Self { pool: Arc::new(pool) }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.pool.connection
    }
}

/// Confirm channels, lent to one publish at a time.
///
/// The protocol library hands a returned message to whichever confirm of its channel comes next.
/// On a channel of several callers an unroutable message would pass for sent, and a sent one for
/// unroutable. So each call has its channel for itself, and a channel goes back only when nothing
/// on it is outstanding.
struct Pool {
    connection: Connection,
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

    /// Gives a clean channel back; any other is closed with this lease, as it is when a publish is
    /// dropped half way.
    fn end(self, clean: bool) {
        if clean && self.channel.status().connected() {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(self.channel);
        }
    }
}

/// Whether a channel is not to be used again after such an end. RabbitMQ 3.10 goes on refusing what
/// comes over a channel that a full queue has refused, also when the queue's limit is lifted.
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

fn properties(message: &Message) -> Result<BasicProperties, PublishError> {
    let size = message.headers.size();
    if size > LARGEST_HEADERS {
        let reason = format!("its headers take {size} bytes, more than {LARGEST_HEADERS}");
        return Err(PublishError::Unsendable { reason });
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_headers(message.headers.to_publish());
    if let Some(content_type) = &message.content_type {
        properties = properties.with_content_type(short("content type", content_type)?);
    }
    if let Some(message_id) = &message.message_id {
        properties = properties.with_message_id(short("message id", message_id)?);
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
    /// Whether the session's connection is to blame, so that another session may succeed.
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
