//! The console's connection to the broker: for what a person asks to be done again.

use std::error::Error;

use fanfare_broker::{Config, Session, job, supervise};
use fanfare_core::chain::chain;
use fanfare_core::job::Due;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The broker, while it is there.
pub(crate) struct Broker {
    config: Config,
    session: watch::Sender<Option<Session>>,
}

impl Broker {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, session: watch::Sender::new(None) }
    }

    /// Keeps a session until `stop` is cancelled, over any outage.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let on_state = |state| tracing::debug!(?state, "how it stands with the broker");
        supervise(&self.config, stop, on_state, |session| self.keep(session, stop)).await;
    }

    async fn keep(
        &self,
        session: Session,
        stop: &CancellationToken,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let lost = session.lost();
        self.session.send_replace(Some(session));
        let stopped = stop.run_until_cancelled(lost).await.is_none();
        self.session.send_replace(None);
        if stopped { Ok(()) } else { Err("the connection to the broker was lost".into()) }
    }

    /// The session; `None` while the broker is away.
    pub(crate) fn session(&self) -> Option<Session> {
        self.session.borrow().clone()
    }

    /// Hands attempts that the ledger knows of to the workers. When the broker does not take them,
    /// a router finds them in the ledger within minutes.
    pub(crate) async fn hand_over(&self, dues: &[Due]) {
        if dues.is_empty() {
            return;
        }
        let Some(session) = self.session() else {
            tracing::warn!(attempts = dues.len(), "the broker is away; a router makes up for it");
            return;
        };
        let messages = dues.iter().copied().map(job::due).collect::<Result<Vec<_>, _>>();
        let published = match messages {
            Ok(messages) => session.publisher().publish_all(messages).await,
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            let error = chain(&error);
            tracing::warn!(error, "the broker did not get all jobs; a router makes up for it");
        }
    }
}
