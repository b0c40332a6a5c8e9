//! Hearing of changes to webhooks, and proof that they are heard.
//!
//! A connection on which nothing comes may be silent because nothing changes, or because it leads
//! nowhere: a host that vanished, a proxy that forgot it, a pooler of transactions, which never
//! passes notifications on. So a listener notifies itself twice a second, on a channel of its own.
//! Notifications are delivered in the order of their commits: one that arrives proves that every
//! change before it has arrived too.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanfare_core::ids::WebhookId;
use tokio_postgres::{AsyncMessage, Client, Notification, Statement};

use crate::clock::DatabaseClock;
use crate::connect::Opened;
use crate::error::StoreError;
use crate::pool::Store;
use crate::session::SocketDriver;

/// The channel of changes, which a trigger notifies with the webhook's id.
const CHANGES: &str = "fanfare_webhooks";

/// How often a listener notifies itself.
const BEAT: Duration = Duration::from_millis(500);

/// A connection that answers nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// What is sent through another connection, to see that notifications of others come through.
const CROSSING: &str = "crossing";

/// How long it may take to come through; until then it is sent again and again.
const CROSSING_TIME: Duration = Duration::from_millis(100);

const DOING: &str = "listen for changes to webhooks";

/// What a listener hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// This webhook has changed.
    Changed(WebhookId),
    /// Every change that was committed before this instant has been heard.
    AllUntil(Instant),
}

impl Store {
    /// Calls `hear` for each change to a webhook, and about twice a second with the proof that none
    /// is missing, for the changes since the first such proof. Ends only with an error: then the
    /// connection is lost, or was silent for too long.
    ///
    /// Each proof also is a sample for [`Store::clock`].
    pub async fn listen_webhooks(&self, hear: impl FnMut(Heard) + Send) -> Result<(), StoreError> {
        let Opened { client, driver, session: _ } = self.connector.open().await?;
        let listener = Listener {
            channel: format!("fanfare_heartbeat_{}", uuid::Uuid::new_v4().simple()),
            began: Instant::now(),
            crossed: AtomicBool::new(false),
        };
        tokio::select! {
            ended = listener.hear(driver, hear) => ended,
            failed = listener.beat(self, client) => failed,
        }
    }
}

/// One listening connection.
struct Listener {
    /// The channel of its heartbeats, whose payload is when each was sent: microseconds since
    /// `began`.
    channel: String,
    began: Instant,
    /// Whether a notification of another connection has come through.
    crossed: AtomicBool,
}

impl Listener {
    /// Drives the connection and passes on what is heard.
    async fn hear(
        &self,
        mut connection: SocketDriver,
        mut hear: impl FnMut(Heard) + Send,
    ) -> Result<(), StoreError> {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) =
                message.map_err(StoreError::at(DOING))?
                && let Some(heard) = self.understand(&notification)
            {
                hear(heard);
            }
        }
        Ok(())
    }

    fn understand(&self, notification: &Notification) -> Option<Heard> {
        let payload = notification.payload();
        if notification.channel() != self.channel {
            return payload.parse().ok().map(Heard::Changed);
        }
        if payload == CROSSING {
            self.crossed.store(true, Ordering::Relaxed);
        }
        // Its own notifications alone prove little: a pooler may pass on what a query of this
        // client causes, and nothing that others cause.
        let sent = payload.parse().ok().filter(|_| self.crossed.load(Ordering::Relaxed))?;
        Some(Heard::AllUntil(self.began + Duration::from_micros(sent)))
    }

    /// Listens, and sends heartbeats until one fails.
    async fn beat(&self, store: &Store, client: Client) -> Result<(), StoreError> {
        const SQL: &str = "-- heartbeat\nselect pg_notify($1, $2), clock_timestamp(), \
                           current_setting('transaction_read_only')";
        let channel = &self.channel;
        // A heartbeat need not wait for the disk.
        let listen = format!("listen {CHANGES}; listen {channel}; set synchronous_commit = off");
        client.batch_execute(&listen).await.map_err(StoreError::at(DOING))?;
        let statement = client.prepare(SQL).await.map_err(StoreError::at(DOING))?;
        loop {
            if !self.crossed.load(Ordering::Relaxed) {
                notify(store, channel).await?;
                // It has to come through while nothing is asked on this connection.
                tokio::time::sleep(CROSSING_TIME).await;
            }
            let heartbeat = self.heartbeat(store.clock(), &client, &statement);
            let heartbeat = tokio::time::timeout(SILENCE, heartbeat);
            heartbeat.await.map_err(|_| StoreError::Silent { doing: DOING })??;
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn heartbeat(
        &self,
        clock: &DatabaseClock,
        client: &Client,
        statement: &Statement,
    ) -> Result<(), StoreError> {
        let asked = Instant::now();
        let sent = asked.saturating_duration_since(self.began).as_micros().to_string();
        let row = client.query_one(statement, &[&self.channel, &sent]).await;
        let answered = Instant::now();
        let (time, read_only) = row
            .and_then(|row| Ok((row.try_get(1)?, row.try_get::<_, String>(2)?)))
            .map_err(StoreError::at(DOING))?;
        if read_only != "off" {
            // Changes are made on another server now.
            return Err(StoreError::ReadOnly { doing: DOING });
        }
        clock.note(asked, answered, time);
        Ok(())
    }
}

/// Notifies a listener as any other session would.
async fn notify(store: &Store, channel: &str) -> Result<(), StoreError> {
    const SQL: &str = "-- heartbeat_crossing\nselect pg_notify($1, $2)";
    let client = store.client().await?;
    client.execute(SQL, &[&channel, &CROSSING]).await.map_err(StoreError::at(DOING)).map(drop)
}
