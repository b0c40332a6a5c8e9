//! The connection to the broker, for attempts that a person requests.
//!
//! It connects on first use and keeps the connection, because most consoles never need one.

use std::time::{Duration, Instant};

use fanfare_broker::{BrokerError, Config, Depth, Queue, Session, job};
use fanfare_core::chain::chain;
use fanfare_core::job::AttemptRef;
use futures_util::FutureExt as _;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The pause after a failed connection, during which every request fails at once. Without it,
/// requests would queue up behind each other's connection attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// The longest time to wait for the depths of queues.
const DEPTHS_TIME: Duration = Duration::from_secs(2);

/// How much waits in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// The queue's name in the broker.
    pub name: &'static str,
    /// The messages that wait in it.
    pub ready: u32,
    /// Its consumers in all processes.
    pub consumers: u32,
}

/// A connection to the broker that is opened on demand.
pub struct Publisher {
    config: Option<Config>,
    state: Mutex<State>,
}

enum State {
    NotConnected,
    Connected(Session),
    /// The broker could not be reached at that time.
    Unavailable(Instant),
}

impl Publisher {
    /// Makes a publisher that publishes nothing, for commands that need no broker. Routers find the
    /// deliveries in the ledger.
    #[must_use]
    pub fn none() -> Self {
        Self { config: None, state: Mutex::new(State::NotConnected) }
    }

    /// Makes a publisher that connects on first use.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config: Some(config), state: Mutex::new(State::NotConnected) }
    }

    /// Makes a publisher that uses an open session, and reconnects if that session is lost.
    #[must_use]
    pub fn connected(config: Config, session: Session) -> Self {
        Self { config: Some(config), state: Mutex::new(State::Connected(session)) }
    }

    /// Returns a session, or `None` while the broker can't be reached.
    pub async fn session(&self) -> Option<Session> {
        let config = self.config.as_ref()?;
        let mut state = self.state.lock().await;
        match &*state {
            State::Connected(session) if session.lost().now_or_never().is_none() => {
                return Some(session.clone());
            }
            State::Unavailable(since) if since.elapsed() < PAUSE => return None,
            _ => {}
        }
        match Session::open(config).await {
            Ok(session) => {
                *state = State::Connected(session.clone());
                Some(session)
            }
            Err(error) => {
                log_unreachable(config, &error);
                *state = State::Unavailable(Instant::now());
                None
            }
        }
    }

    /// The depths of all queues; `None` while the broker can't be reached or does not answer. The queues of
    /// deliveries count as one.
    pub async fn depths(&self) -> Option<Vec<QueueDepth>> {
        let shards = self.config.as_ref()?.delivery_queues();
        let read = async {
            let session = self.session().await?;
            let mut depths: Vec<QueueDepth> = Vec::new();
            for queue in Queue::all(shards) {
                let depth = session.depth(queue).await.ok()?;
                let name = match queue {
                    Queue::Deliveries(_) => Queue::DELIVERIES.name(),
                    other => other.name(),
                };
                let known = depths.iter_mut().find(|known| known.name == name);
                if let Some(known) = known {
                    known.ready += depth.ready;
                    known.consumers += depth.consumers;
                } else {
                    let Depth { ready, consumers } = depth;
                    depths.push(QueueDepth { name, ready, consumers });
                }
            }
            Some(depths)
        };
        timeout(DEPTHS_TIME, read).await.ok().flatten()
    }

    /// Enqueues attempts that are in the ledger, and returns whether the broker has confirmed all
    /// of them. If it has not, a router finds the attempts in the ledger within minutes and
    /// publishes them.
    pub async fn enqueue(&self, dues: &[AttemptRef]) -> bool {
        if dues.is_empty() {
            return true;
        }
        let attempts = dues.len();
        let Some(session) = self.session().await else {
            tracing::warn!(attempts, "jobs were not published; a router will publish them");
            return false;
        };
        let messages = dues.iter().copied().map(job::due).collect::<Result<Vec<_>, _>>();
        let published = match messages {
            Ok(messages) => session.publisher().publish_all(messages).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &published {
            let error = chain(error);
            tracing::warn!(attempts, error, "jobs may be missing; a router will publish them");
        }
        published.is_ok()
    }
}

fn log_unreachable(config: &Config, error: &BrokerError) {
    let broker = config.broker();
    tracing::warn!(broker, error = chain(error), "the broker can't be reached");
}
