//! Consuming: messages are received one by one or in batches, and each is settled exactly once.

use crate::error::BrokerError;
use crate::message::Message;
use crate::received::Received;
use crate::topology::Queue;
use crate::wire::envelope::left_out;
use crate::wire::room::{Arrivals, Returns, Share};
use futures_util::future::{join, join_all};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel, Connection};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// A batch is full when its bodies have this many bytes together. A hundred of the largest events at
/// once would use several times that much memory.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// The messages of one queue. The broker delivers at most `prefetch` unsettled ones at a time.
pub struct Consumer {
    stream: lapin::Consumer,
    channel: Arc<Taken>,
    queue: Queue,
    /// The batch under way. It is kept here so that a dropped call of [`Consumer::next_batch`] loses no
    /// message.
    batch: Vec<Incoming>,
    /// Messages whose bodies did not fit into the memory.
    returns: Returns,
    ended: bool,
}

/// A message that was received from a queue.
#[derive(Debug)]
pub struct Incoming {
    /// The message.
    pub message: Message,
    /// The exchange that it was published to last; empty for a queue's own.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// A description, for a person, of the AMQP properties or the routing key that can't be decoded. The
    /// message has the rest, and the original bytes in a header.
    pub unreadable: Option<String>,
    /// Whether it was delivered before, to any consumer.
    pub redelivered: bool,
    /// How often it was requeued.
    pub delivery_count: u64,
    /// The right and the duty to settle it.
    pub settle: Settle,
}

/// The duty to settle a message, once. A message whose `Settle` is dropped stays with this consumer
/// until its last `Settle` is gone; then it returns to the queue.
#[must_use = "the broker redelivers an unsettled message only when its consumer is gone"]
pub struct Settle {
    acker: Acker,
    tag: u64,
    queue: Queue,
    /// Keeps the channel open: a closed one could not settle.
    channel: Arc<Taken>,
    /// The memory that a large body uses, until the message is settled.
    _share: Option<Share>,
}

/// A consumer's channel, and the tags of its unsettled messages.
struct Taken {
    channel: Channel,
    /// The consumer's own connection. It closes when nothing needs it any longer.
    _connection: Arc<Connection>,
    /// Messages that have arrived so far.
    arrived: Arc<AtomicU64>,
    /// Large messages that came in by that connection.
    arrivals: Arrivals,
    unsettled: Mutex<BTreeSet<u64>>,
}

impl Taken {
    fn unsettled(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consumer {
    /// The next message.
    ///
    /// An error is returned once, and then nothing: the consumer and its session have ended.
    pub async fn next(&mut self) -> Option<Result<Incoming, BrokerError>> {
        if !self.batch.is_empty() {
            return Some(Ok(self.batch.remove(0)));
        }
        if self.ended {
            return None;
        }
        let failure = loop {
            match self.stream.next().await {
                Some(Ok(delivery)) => {
                    if let Some(incoming) = self.incoming(delivery) {
                        return Some(Ok(incoming));
                    }
                }
                Some(Err(error)) => {
                    break BrokerError::of(format!("taking messages from {}", self.queue), &error);
                }
                // Without an error, the broker has cancelled the consumer: the queue was deleted.
                None => break BrokerError::ConsumerGone { queue: self.queue.name() },
            }
        };
        self.ended = true;
        Some(Err(failure))
    }

    /// The next messages: at least one, at most `max`, and at most 8 MiB. It waits for the first
    /// message, and then returns those that have arrived or arrive within `linger`. Dropping the call
    /// loses no message.
    ///
    /// # Errors
    ///
    /// As [`Consumer::next`], once. Messages of the unfinished batch are lost with the channel, and will
    /// be redelivered.
    pub async fn next_batch(
        &mut self,
        max: usize,
        linger: Duration,
    ) -> Option<Result<Vec<Incoming>, BrokerError>> {
        if self.batch.is_empty() {
            match self.next().await? {
                Ok(first) => self.batch.push(first),
                Err(error) => return Some(Err(error)),
            }
        }
        let until = Instant::now() + linger;
        let mut bytes: usize = self.batch.iter().map(|it| it.message.body.len()).sum();
        while self.batch.len() < max && bytes < BATCH_BYTES {
            // Messages that have arrived are received without a timer.
            let delivery = match self.stream.next().now_or_never() {
                Some(delivery) => delivery,
                // A timer takes a millisecond or two even for a wait of zero.
                None if linger.is_zero() => break,
                None => match timeout_at(until, self.stream.next()).await {
                    Ok(delivery) => delivery,
                    Err(_) => break,
                },
            };
            match delivery {
                Some(Ok(delivery)) => {
                    let incoming = self.incoming(delivery);
                    bytes += incoming.as_ref().map_or(0, |it| it.message.body.len());
                    self.batch.extend(incoming);
                }
                Some(Err(error)) => {
                    self.fail();
                    let doing = format!("taking messages from {}", self.queue);
                    return Some(Err(BrokerError::of(doing, &error)));
                }
                None => {
                    self.fail();
                    return Some(Err(BrokerError::ConsumerGone { queue: self.queue.name() }));
                }
            }
        }
        Some(Ok(std::mem::take(&mut self.batch)))
    }

    /// Stops: asks the broker for no more messages and requeues those that the caller has not received.
    /// Received messages can still be settled.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Lost`]; then the broker requeues all unsettled messages itself.
    pub async fn cancel(mut self) -> Result<(), BrokerError> {
        if self.ended {
            return Ok(());
        }
        let channel = &self.channel.channel;
        channel.basic_cancel(self.stream.tag(), BasicCancelOptions::default()).await.map_err(
            |error| BrokerError::of(format!("cancelling the consumer of {}", self.queue), &error),
        )?;
        let mut rest = std::mem::take(&mut self.batch);
        while let Some(Ok(delivery)) = self.stream.next().await {
            rest.extend(self.incoming(delivery));
        }
        let given_back = join_all(rest.into_iter().map(|incoming| incoming.settle.requeue()));
        given_back.await.into_iter().collect()
    }

    /// Counts the messages that have arrived so far.
    pub(crate) fn arrived(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.channel.arrived)
    }

    /// `connection` is the consumer's own, with the large messages that arrive over it.
    pub(crate) async fn open(
        (connection, arrivals): (Arc<Connection>, Arrivals),
        queue: Queue,
        prefetch: u16,
        name: &str,
    ) -> Result<Self, BrokerError> {
        let doing = |error: &lapin::Error| BrokerError::of(format!("consuming {queue}"), error);
        let channel = connection.create_channel().await.map_err(|error| doing(&error))?;
        // Zero would mean no limit.
        channel
            .basic_qos(prefetch.max(1), BasicQosOptions::default())
            .await
            .map_err(|error| doing(&error))?;
        let stream = channel
            .basic_consume(
                queue.name().into(),
                tag(name),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(|error| doing(&error))?;
        let returns = Returns::new(&arrivals);
        let channel = Arc::new(Taken {
            channel,
            _connection: connection,
            arrived: Arc::default(),
            arrivals,
            unsettled: Mutex::default(),
        });
        Ok(Self { stream, channel, queue, batch: Vec::new(), returns, ended: false })
    }

    /// The message of a delivery; `None` if its body did not fit into the memory, so that it must be
    /// redelivered.
    fn incoming(&mut self, delivery: lapin::message::Delivery) -> Option<Incoming> {
        let tag = delivery.delivery_tag;
        self.channel.unsettled().insert(tag);
        self.channel.arrived.fetch_add(1, Ordering::Relaxed);
        let settle = Settle {
            acker: delivery.acker,
            tag,
            queue: self.queue,
            _share: self.channel.arrivals.share(self.channel.channel.id(), tag),
            channel: Arc::clone(&self.channel),
        };
        if let Some(size) = left_out(&delivery.properties) {
            tracing::debug!(
                queue = self.queue.name(),
                size,
                "a large message has to wait for room"
            );
            self.returns.add(size, settle.requeue());
            return None;
        }
        let Received { message, delivery_count, exchange, routing_key, unreadable } =
            Received::read(
                delivery.data,
                &delivery.properties,
                &delivery.exchange,
                &delivery.routing_key,
            );
        let redelivered = delivery.redelivered;
        Some(Incoming {
            message,
            exchange,
            routing_key,
            unreadable,
            redelivered,
            delivery_count,
            settle,
        })
    }

    /// The channel is gone, and with it the right to settle the messages of the batch.
    fn fail(&mut self) {
        self.ended = true;
        self.batch.clear();
    }
}

impl Settle {
    /// The work is done: the message leaves the queue.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Lost`]: the message will be redelivered although its work is done.
    pub async fn ack(self) -> Result<(), BrokerError> {
        self.ack_with(BasicAckOptions::default()).await
    }

    async fn ack_with(&self, options: BasicAckOptions) -> Result<(), BrokerError> {
        let answer = self.acker.ack(options).await;
        self.settled("acknowledging a message of", answer)
    }

    /// Requeues the message: it returns to its queue at once, for any consumer. To try it again later,
    /// use the [delay ladder](crate::ladder).
    ///
    /// # Errors
    ///
    /// [`BrokerError::Lost`]: the message returns anyway.
    pub async fn requeue(self) -> Result<(), BrokerError> {
        let answer = self.acker.nack(BasicNackOptions { multiple: false, requeue: true }).await;
        self.settled("giving back a message of", answer)
    }

    /// Counts the tag as settled. This is done after the method is sent, because an acknowledgement of
    /// several messages must not include this one before.
    fn settled(&self, doing: &str, answer: lapin::Result<bool>) -> Result<(), BrokerError> {
        self.channel.unsettled().remove(&self.tag);
        let doing = || format!("{doing} {}", self.queue);
        match answer {
            Ok(true) => Ok(()),
            // The library reports a closed channel in this way.
            Ok(false) => Err(BrokerError::Lost { doing: doing(), source: None }),
            Err(error) => Err(BrokerError::of(doing(), &error)),
        }
    }
}

impl fmt::Debug for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settle").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Acknowledges all of them. Messages are acknowledged together, with one method and one entry in the
/// queue's log, if all earlier messages of their consumer are settled or among them.
///
/// # Errors
///
/// The first [`BrokerError::Lost`]; all were tried.
pub async fn ack_all(settles: impl IntoIterator<Item = Settle>) -> Result<(), BrokerError> {
    let mut settles: Vec<Settle> = settles.into_iter().collect();
    settles.sort_by_key(|settle| (Arc::as_ptr(&settle.channel), settle.tag));
    let consumers = settles.chunk_by(|a, b| Arc::ptr_eq(&a.channel, &b.channel));
    join_all(consumers.map(ack_of_one)).await.into_iter().collect()
}

/// As [`ack_all`], of one consumer, in the order of their tags.
async fn ack_of_one(settles: &[Settle]) -> Result<(), BrokerError> {
    let together = settles.first().map_or(0, |first| {
        let unsettled = first.channel.unsettled();
        let own: BTreeSet<u64> = settles.iter().map(|settle| settle.tag).collect();
        let others = unsettled.iter().find(|tag| !own.contains(tag)).copied();
        settles.partition_point(|settle| others.is_none_or(|least| settle.tag < least))
    });
    let (together, singly) = settles.split_at(together);
    let all_at_once = async {
        let Some((last, rest)) = together.split_last() else { return Ok(()) };
        last.ack_with(BasicAckOptions { multiple: true }).await?;
        let mut unsettled = last.channel.unsettled();
        for settle in rest {
            unsettled.remove(&settle.tag);
        }
        Ok(())
    };
    let singly = join_all(singly.iter().map(|settle| settle.ack_with(BasicAckOptions::default())));
    let (at_once, singly) = join(all_at_once, singly).await;
    at_once.and(singly.into_iter().collect())
}

/// A name that no other consumer has, in this process or another.
fn tag(name: &str) -> ShortString {
    let unique = Uuid::new_v4().simple();
    let tag = format!("{name}.{unique}");
    ShortString::try_new(tag).unwrap_or_else(|_| unique.to_string().into())
}
