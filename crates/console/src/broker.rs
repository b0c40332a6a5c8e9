//! The console's way to the broker, for what a person asks to be done again.
//!
//! It connects when that is asked for the first time and keeps the connection: most consoles never
//! need one.

use std::time::{Duration, Instant};

use fanfare_broker::{BrokerError, Config, Session, job};
use fanfare_core::chain::chain;
use fanfare_core::job::Due;
use futures_util::FutureExt as _;
use tokio::sync::Mutex;

/// How long nobody tries again after the broker could not be reached, so that requests don't queue
/// up behind each other's tries.
const PAUSE: Duration = Duration::from_secs(2);

/// The broker.
pub(crate) struct Broker {
    config: Config,
    standing: Mutex<Standing>,
}

enum Standing {
    Apart,
    Connected(Session),
    /// It could not be reached at that time.
    Away(Instant),
}

impl Broker {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, standing: Mutex::new(Standing::Apart) }
    }

    /// A session; `None` while the broker is away.
    pub(crate) async fn session(&self) -> Option<Session> {
        let mut standing = self.standing.lock().await;
        match &*standing {
            Standing::Connected(session) if session.lost().now_or_never().is_none() => {
                return Some(session.clone());
            }
            Standing::Away(since) if since.elapsed() < PAUSE => return None,
            _ => {}
        }
        match Session::open(&self.config).await {
            Ok(session) => {
                *standing = Standing::Connected(session.clone());
                Some(session)
            }
            Err(error) => {
                self.tell(&error);
                *standing = Standing::Away(Instant::now());
                None
            }
        }
    }

    fn tell(&self, error: &BrokerError) {
        let broker = self.config.broker();
        tracing::warn!(broker, error = chain(error), "the broker can't be reached");
    }

    /// Hands attempts that the ledger knows of to the workers. When the broker does not take them,
    /// a router finds them in the ledger within minutes.
    pub(crate) async fn hand_over(&self, dues: &[Due]) {
        if dues.is_empty() {
            return;
        }
        let attempts = dues.len();
        let Some(session) = self.session().await else {
            tracing::warn!(attempts, "jobs were not handed over; a router makes up for it");
            return;
        };
        let messages = dues.iter().copied().map(job::due).collect::<Result<Vec<_>, _>>();
        let published = match messages {
            Ok(messages) => session.publisher().publish_all(messages).await,
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            let error = chain(&error);
            tracing::warn!(attempts, error, "jobs may be missing; a router makes up for it");
        }
    }
}
