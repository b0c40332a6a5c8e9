//! A session: what a process has with the broker from one connect to the next failure.
//!
//! Nothing in it recovers. When the connection breaks, every consumer ends with an error, every
//! publish and acknowledgement fails, and [`Session::lost`] resolves; then the whole session is
//! given up and [`supervise`](crate::supervise()) opens another.

use crate::config::{CONNECT_TIMEOUT_S, Config};
use crate::consumer::Consumer;
use crate::error::BrokerError;
use crate::publisher::Publisher;
use crate::topology::{self, Fault, Queue};
use futures_util::{Stream, StreamExt};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ConnectionStatus, Event};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A graceful close is worth this long; a blocked broker would let it wait for ever.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A live connection with the topology declared. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    /// Consuming has a connection of its own: a broker that is short of memory stops reading from
    /// connections that publish, and acknowledgements, which would relieve it, must still arrive.
    consuming: Connection,
    publisher: Publisher,
    lost: CancellationToken,
    blocked: watch::Receiver<bool>,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait to be taken; those that are taken and unsettled are not counted.
    pub ready: u32,
    /// Consumers of the queue, in all processes.
    pub consumers: u32,
}

/// How often declaring is tried again, and after which pause. RabbitMQ 3.10 answers that a quorum
/// queue's node is down, or fails inside, while another process is just making the same queue.
const DECLARE_AGAIN: u32 = 10;
const DECLARE_PAUSE: Duration = Duration::from_millis(300);

impl Session {
    /// Connects and declares the topology.
    ///
    /// # Errors
    ///
    /// [`BrokerError`] tells whether the broker was not there, did not let this user in, or has a
    /// queue that differs.
    pub async fn open(config: &Config) -> Result<Self, BrokerError> {
        let mut left = DECLARE_AGAIN;
        loop {
            let session = Self::look(config).await?;
            let channel = session.channel().await?;
            match topology::declare(&channel).await {
                Ok(()) => return Ok(session),
                Err(error @ (BrokerError::Missing { .. } | BrokerError::Lost { .. }))
                    if left > 0 =>
                {
                    tracing::debug!(%error, "declaring again");
                    left -= 1;
                    session.close().await;
                    tokio::time::sleep(DECLARE_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Connects without declaring anything: for a look at a broker as it is.
    ///
    /// # Errors
    ///
    /// As [`Session::open`], except for what declaring would find.
    pub async fn look(config: &Config) -> Result<Self, BrokerError> {
        let consuming = connect(config, "consume").await?;
        let publishing = connect(config, "publish").await?;
        let lost = CancellationToken::new();
        let (blocked_tx, blocked) = watch::channel(false);
        watch_over(&consuming, lost.clone(), None);
        watch_over(&publishing, lost.clone(), Some(blocked_tx));
        let publisher = Publisher::new(publishing);
        let name = config.name().to_owned();
        Ok(Self { inner: Arc::new(Inner { name, consuming, publisher, lost, blocked }) })
    }

    /// The publisher of this session.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.inner.publisher.clone()
    }

    /// Begins to take messages from a queue, with at most `prefetch` unsettled ones (at least one).
    ///
    /// # Errors
    ///
    /// What the broker answered, such as [`BrokerError::Missing`].
    pub async fn consumer(&self, queue: Queue, prefetch: u16) -> Result<Consumer, BrokerError> {
        Consumer::open(self.channel().await?, queue, prefetch, &self.inner.name).await
    }

    /// How much a queue holds now.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Missing`] when there is no such queue.
    pub async fn depth(&self, queue: Queue) -> Result<Depth, BrokerError> {
        let options = QueueDeclareOptions::durable().passive();
        let channel = self.channel().await?;
        let found = channel
            .queue_declare(queue.name().into(), options, FieldTable::default())
            .await
            .map_err(|error| BrokerError::of(format!("looking at queue {queue}"), &error))?;
        Ok(Depth { ready: found.message_count(), consumers: found.consumer_count() })
    }

    /// Compares the broker's exchanges and queues with the table; changes nothing.
    ///
    /// # Errors
    ///
    /// The connection's; everything else is in the list.
    pub async fn check_topology(&self) -> Result<Vec<Fault>, BrokerError> {
        topology::check(&self.inner.consuming).await
    }

    /// Resolves when the connection is gone, by whatever cause.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.inner.lost.clone().cancelled_owned()
    }

    /// Whether the broker has stopped taking messages because it is short of memory or disk; and
    /// its changes.
    #[must_use]
    pub fn blocked(&self) -> watch::Receiver<bool> {
        self.inner.blocked.clone()
    }

    /// Closes the connections: the broker takes back what was not settled.
    pub async fn close(&self) {
        let publishing = self.inner.publisher.connection();
        let close = async {
            // An error means that it was closed already.
            let _ = publishing.close(200, "OK".into()).await;
            let _ = self.inner.consuming.close(200, "OK".into()).await;
        };
        let _ = timeout(CLOSE_TIMEOUT, close).await;
        self.inner.lost.cancel();
    }

    /// A channel beside those of consumers and publishers.
    pub(crate) async fn channel(&self) -> Result<Channel, BrokerError> {
        self.inner
            .consuming
            .create_channel()
            .await
            .map_err(|error| BrokerError::of("opening a channel", &error))
    }
}

/// Asks whether anything answers at the broker's address at all.
///
/// An attempt to connect to a peer that accepts and then says nothing cannot be taken back: the
/// library's thread waits on. So after one such attempt this asks first, with a greeting that a
/// broker answers and a TLS endpoint refuses; either is a sign of life.
///
/// # Errors
///
/// [`BrokerError::NoAnswer`] or [`BrokerError::Unreachable`].
pub(crate) async fn probe(config: &Config) -> Result<(), BrokerError> {
    let authority = &config.uri().authority;
    let greet = async {
        let mut stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read(&mut [0; 1]).await
    };
    match timeout(Duration::from_secs(CONNECT_TIMEOUT_S), greet).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(BrokerError::Unreachable {
            broker: config.broker().to_owned(),
            source: error.into(),
        }),
        Err(_) => Err(no_answer(config)),
    }
}

async fn connect(config: &Config, purpose: &str) -> Result<Connection, BrokerError> {
    let name = format!("{} ({purpose})", config.name());
    // Automatic recovery stays off: it hides failures.
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect_uri(config.uri().clone(), properties);
    match timeout(Duration::from_secs(CONNECT_TIMEOUT_S), connecting).await {
        Ok(connected) => connected
            .map_err(|error| BrokerError::connecting(config.broker(), config.user(), &error)),
        Err(_) => Err(no_answer(config)),
    }
}

fn no_answer(config: &Config) -> BrokerError {
    BrokerError::NoAnswer { broker: config.broker().to_owned(), seconds: CONNECT_TIMEOUT_S }
}

/// Follows a connection until its end in a task of its own, which ends with it.
fn watch_over(
    connection: &Connection,
    lost: CancellationToken,
    blocked: Option<watch::Sender<bool>>,
) {
    let events = connection.events_listener();
    let status = connection.status().clone();
    tokio::spawn(async move {
        follow(events, &status, &lost, blocked).await;
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
