//! A session: a process's connection to the broker, from one connect to the next failure.
//!
//! A session never recovers. When the connection breaks, every consumer ends with an error, every
//! publish and acknowledgement fails, and [`Session::lost`] resolves. Then the whole session is given
//! up, and [`supervise`](crate::supervise()) opens another one.

use crate::config::Config;
use crate::connect::{Connected, connect_any};
use crate::consumer::Consumer;
use crate::error::BrokerError;
use crate::ladder::{LEVELS, level_name};
use crate::probe;
use crate::publisher::Publisher;
use crate::queue_connection::{QueueConnections, Watched, watch};
use crate::topology::{self, Fault, Queue};
use crate::wire::room::Arrivals;
use fanfare_core::chain::chain;
use futures_util::{Stream, StreamExt};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionStatus, Event};
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The time-out of a graceful close. A blocked broker never answers one.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A live connection with the topology declared. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    /// The connection for declaring and inspecting. It is separate because a broker that is short of
    /// memory stops reading from connections that publish.
    consuming: Connection,
    /// The large messages that were received on that connection.
    arrivals: Arrivals,
    /// Each consumer has a connection of its own too.
    queues: QueueConnections,
    publisher: Publisher,
    lost: CancellationToken,
    blocked: watch::Receiver<bool>,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The messages that wait in the queue. Messages that are delivered and unsettled are not counted.
    pub ready: u32,
    /// Consumers of the queue, in all processes.
    pub consumers: u32,
}

/// How often declaring is tried again, and after which pause. RabbitMQ 3.10 answers that a quorum
/// queue's node is down, or fails inside, while another process is just making the same queue. A
/// queue that still fails then is not used until it is repaired.
const DECLARE_AGAIN: u32 = 10;
const DECLARE_PAUSE: Duration = Duration::from_millis(300);

/// How long a queue may take until a consumer is let in. One that elects a leader takes a second or
/// two; a broken one may not answer at all.
const CONSUME_TIMEOUT: Duration = Duration::from_secs(10);

impl Session {
    /// Connects and declares the topology. A user that may not declare works with what one that
    /// may has declared. A queue that can't be declared, because it is broken, is left out, and so is
    /// the one that [`Config::without_declaring`] names.
    ///
    /// # Errors
    ///
    /// [`BrokerError`] says whether the broker was unreachable, refused this user, has a queue that
    /// differs, or lacks one that this user may not declare.
    pub async fn open(config: &Config) -> Result<Self, BrokerError> {
        let mut left = DECLARE_AGAIN;
        let mut without: BTreeSet<String> =
            config.undeclared().map(|queue| queue.name().to_owned()).into_iter().collect();
        loop {
            let session = Self::look(config).await?;
            let consuming = &session.inner.consuming;
            let ready = match topology::declare(consuming, config.delivery_queues(), &without).await
            {
                Err(BrokerError::Forbidden { .. }) => topology::expect(consuming).await,
                Ok(failed) if failed.is_empty() => Ok(()),
                Ok(mut failed) if left > 0 => Err(failed.swap_remove(0).1),
                Ok(failed) => {
                    for (queue, error) in failed {
                        let error = chain(&error);
                        tracing::warn!(queue, error, "a queue can't be declared; going on without");
                        without.insert(queue);
                    }
                    // The failure may have ended the connection before all was declared.
                    session.close().await;
                    continue;
                }
                Err(error) => Err(error),
            };
            match ready {
                Ok(()) => return Ok(session),
                Err(error @ (BrokerError::Missing { .. } | BrokerError::Lost { .. }))
                    if left > 0 =>
                {
                    tracing::debug!(%error, "the queues can't be declared yet; trying again");
                    left -= 1;
                    session.close().await;
                    tokio::time::sleep(DECLARE_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Connects without declaring anything, to inspect a broker without changing it.
    ///
    /// # Errors
    ///
    /// As [`Session::open`], except for what declaring would find.
    pub async fn look(config: &Config) -> Result<Self, BrokerError> {
        let consuming = connect_any(config, "look").await?;
        let publishing = connect_any(config, "publish").await?;
        let lost = CancellationToken::new();
        let (blocked_tx, blocked) = watch::channel(false);
        watch_over(config, &consuming, lost.clone(), None);
        watch_over(config, &publishing, lost.clone(), Some(blocked_tx));
        let publisher = Publisher::new(publishing.connection, publishing.frame_max);
        let Connected { connection: consuming, arrivals, .. } = consuming;
        let (config, queues) = (config.clone(), QueueConnections::default());
        let inner = Inner { config, consuming, arrivals, queues, publisher, lost, blocked };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The publisher of this session.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.inner.publisher.clone()
    }

    /// Begins to consume a queue, with at most `prefetch` unsettled messages (at least one), over a
    /// connection of its own, which ends with this session. A broken queue ends only its consumer.
    ///
    /// # Errors
    ///
    /// What the broker answered, such as [`BrokerError::Missing`].
    pub async fn consumer(&self, queue: Queue, prefetch: u16) -> Result<Consumer, BrokerError> {
        let config = &self.inner.config;
        let Connected { connection, arrivals, .. } =
            connect_any(config, &format!("consume {queue}")).await?;
        let connection = Arc::new(connection);
        self.inner.queues.add(&connection);
        if self.inner.lost.is_cancelled() {
            return Err(BrokerError::Lost { doing: format!("consuming {queue}"), source: None });
        }
        let own = (Arc::clone(&connection), arrivals);
        let opened = Consumer::open(own, queue, prefetch, config.name());
        let Ok(consumer) = timeout(CONSUME_TIMEOUT, opened).await else {
            let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "OK".into())).await;
            return Err(BrokerError::Lost {
                doing: format!("consuming {queue}"),
                source: Some(format!("no answer within {} s", CONSUME_TIMEOUT.as_secs()).into()),
            });
        };
        let consumer = consumer?;
        let watched = Watched {
            connection: Arc::downgrade(&connection),
            queue,
            arrived: consumer.arrived(),
            session_lost: self.inner.lost.clone(),
        };
        watch(config.clone(), watched);
        if config.queue_health().consumed(queue) {
            tracing::info!(queue = queue.name(), "a queue that could not be consumed is again");
        }
        Ok(consumer)
    }

    /// Declares a missing queue again, if this user may. Otherwise a router declares it.
    pub(crate) async fn restore(&self, queue: Queue) {
        match probe::restore(&self.inner.config, queue.name()).await {
            Ok(true) => {
                tracing::warn!(queue = queue.name(), "a queue was missing; it is made again");
            }
            Ok(false) | Err(BrokerError::Forbidden { .. }) => {}
            Err(error) => tracing::debug!(%error, "a queue could not be made again"),
        }
    }

    /// The large messages that were received on channels of [`Self::channel`].
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.inner.arrivals
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The present depth of a queue.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Missing`] when there is no such queue.
    pub async fn depth(&self, queue: Queue) -> Result<Depth, BrokerError> {
        self.depth_of(queue.name()).await
    }

    /// The present depth of the queue of this name.
    pub(crate) async fn depth_of(&self, queue: &str) -> Result<Depth, BrokerError> {
        depth(&self.channel().await?, queue).await
    }

    /// How many messages wait on each level of the delay ladder, from the lowest up.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Missing`] when a level's queue is not there.
    pub async fn ladder(&self) -> Result<Vec<u32>, BrokerError> {
        let channel = self.channel().await?;
        let mut levels = Vec::new();
        for level in 0..LEVELS {
            levels.push(depth(&channel, &level_name(level)).await?.ready);
        }
        Ok(levels)
    }

    /// Compares the broker's exchanges and queues with the table; changes nothing.
    ///
    /// # Errors
    ///
    /// The connection's; everything else is in the list.
    pub async fn check_topology(&self) -> Result<Vec<Fault>, BrokerError> {
        topology::check(&self.inner.consuming, self.inner.config.delivery_queues()).await
    }

    /// Resolves when the connection is gone, for any reason.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.inner.lost.clone().cancelled_owned()
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.inner.lost.is_cancelled()
    }

    /// Whether the broker blocks publishers because it is short of memory or disk. The receiver is
    /// notified of changes.
    #[must_use]
    pub fn blocked(&self) -> watch::Receiver<bool> {
        self.inner.blocked.clone()
    }

    /// Closes the connections. The broker requeues the unsettled messages.
    pub async fn close(&self) {
        let publishing = self.inner.publisher.connection();
        let close = async {
            // An error means that it was closed already.
            let _ = publishing.close(200, "OK".into()).await;
            self.inner.queues.close().await;
            let _ = self.inner.consuming.close(200, "OK".into()).await;
        };
        let _ = timeout(CLOSE_TIMEOUT, close).await;
        self.inner.lost.cancel();
    }

    /// A channel that is separate from those of consumers and publishers.
    pub(crate) async fn channel(&self) -> Result<Channel, BrokerError> {
        self.inner
            .consuming
            .create_channel()
            .await
            .map_err(|error| BrokerError::of("opening a channel", &error))
    }
}

async fn depth(channel: &Channel, queue: &str) -> Result<Depth, BrokerError> {
    let options = QueueDeclareOptions::durable().passive();
    let found = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await
        .map_err(|error| BrokerError::of(format!("looking at queue {queue}"), &error))?;
    Ok(Depth { ready: found.message_count(), consumers: found.consumer_count() })
}

/// Follows a connection until its end in a task of its own, which ends with it.
fn watch_over(
    config: &Config,
    connected: &Connected,
    lost: CancellationToken,
    blocked: Option<watch::Sender<bool>>,
) {
    let events = connected.connection.events_listener();
    let status = connected.connection.status().clone();
    let (config, host) = (config.clone(), connected.host);
    tokio::spawn(async move {
        follow(events, &status, &lost, blocked).await;
        config.hosts().leave(host);
        lost.cancel();
    });
}

async fn follow(
    events: impl Stream<Item = Event>,
    status: &ConnectionStatus,
    lost: &CancellationToken,
    blocked: Option<watch::Sender<bool>>,
) {
    let mut events = pin!(events);
    // A channel's error is reported here too; only the connection's own state counts.
    while status.connected() {
        let event = tokio::select! {
            event = events.next() => event,
            () = lost.cancelled() => return,
        };
        match (event, &blocked) {
            (None, _) => return,
            (Some(Event::ConnectionBlocked(_)), Some(blocked)) => drop(blocked.send(true)),
            (Some(Event::ConnectionUnblocked), Some(blocked)) => drop(blocked.send(false)),
            _ => {}
        }
    }
}
