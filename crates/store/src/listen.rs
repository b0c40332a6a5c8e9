//! Notifications of changes to webhooks, and the proof that none is missing.
//!
//! A connection without notifications may be silent because nothing changes, or because it is
//! broken: its host vanished, a proxy dropped it, or it leads to a pooler of transactions, which
//! passes on no notifications. So a listener notifies itself twice a second, on a channel of its
//! own. PostgreSQL delivers notifications in the order of their commits, so one that arrives proves
//! that every change before it has arrived, too.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanfare_core::ids::WebhookId;
use tokio_postgres::{AsyncMessage, Client, Notification, Statement};

use crate::clock::DatabaseClock;
use crate::connect::Opened;
use crate::error::StoreError;
use crate::holder::Holder;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::session::SocketDriver;

/// The channel of changes, which a trigger notifies with the webhook's id.
const CHANGES: &str = "fanfare_webhooks";

/// The time between two heartbeats of a listener.
const BEAT: Duration = Duration::from_millis(500);

/// The time limit for the answer to a heartbeat, after which the connection is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// The payload of a notification from another connection, which shows that notifications of other
/// sessions arrive.
const CROSSING: &str = "crossing";

/// The time between two of these notifications until one arrives.
const CROSSING_TIME: Duration = Duration::from_millis(100);

const DOING: &str = "listen for changes to webhooks";

/// A message of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A webhook has changed.
    Changed(WebhookId),
    /// Every change that was committed before this instant was reported.
    AllUntil(Instant),
}

impl Store {
    /// Calls `hear` for each change to a webhook, and about twice a second with the proof that no
    /// change since the first proof is missing. It ends only with an error, when the connection is
    /// lost or was silent for too long.
    ///
    /// Each proof is also a sample for [`Store::clock`]. The connection has the lock of `holder`.
    pub async fn listen_webhooks(
        &self,
        holder: &Holder,
        hear: impl FnMut(Heard) + Send,
    ) -> Result<(), StoreError> {
        let Opened { client, driver, session: _ } = self.connector.open().await?;
        let listener = Listener {
            channel: format!("fanfare_heartbeat_{}", uuid::Uuid::new_v4().simple()),
            began: Instant::now(),
            crossed: AtomicBool::new(false),
        };
        let ended = tokio::select! {
            ended = listener.hear(driver, hear) => ended,
            failed = listener.beat(self, client, holder) => failed,
        };
        holder.forget();
        ended
    }
}

/// One listening connection.
struct Listener {
    /// The channel of its heartbeats. Their payload is the time of sending, in microseconds since
    /// `began`.
    channel: String,
    began: Instant,
    /// Whether a notification from another connection has arrived.
    crossed: AtomicBool,
}

impl Listener {
    /// Drives the connection, and calls `hear` for each message.
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
        // The listener's own notifications alone prove little. A pooler may pass on those that come
        // with the answer to a query of this client, and none of other sessions.
        let sent = payload.parse().ok().filter(|_| self.crossed.load(Ordering::Relaxed))?;
        Some(Heard::AllUntil(self.began + Duration::from_micros(sent)))
    }

    /// Listens, and sends heartbeats until one fails.
    async fn beat(&self, store: &Store, client: Client, holder: &Holder) -> Result<(), StoreError> {
        const SQL: &str = "-- heartbeat\nselect pg_notify($1, $2), clock_timestamp() as now, \
                           current_setting('transaction_read_only') as read_only";
        let channel = &self.channel;
        // A heartbeat need not wait for the disk.
        let listen = format!(
            "listen {CHANGES}; listen {channel}; set synchronous_commit = off; \
             set lock_timeout = '400ms'"
        );
        answered(client.batch_execute(&listen)).await?;
        let statement = answered(client.prepare(SQL)).await?;
        let mut locked = false;
        loop {
            if !self.crossed.load(Ordering::Relaxed) {
                notify(store, channel).await?;
                // The notification has to arrive while no query runs on this connection.
                tokio::time::sleep(CROSSING_TIME).await;
            }
            // Not behind a pooler, where the lock would be that of another client's session.
            if !locked && self.crossed.load(Ordering::Relaxed) {
                locked = answered(holder.lock(&client)).await?;
            }
            let lived = Instant::now();
            let heartbeat = self.heartbeat(store.clock(), &client, &statement);
            let heartbeat = tokio::time::timeout(SILENCE, heartbeat);
            heartbeat.await.map_err(|_| StoreError::Silent { doing: DOING })??;
            if locked {
                holder.note(lived);
            }
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
        let row = row.map_err(StoreError::at(DOING))?;
        if row.column::<&str>("read_only")? != "off" {
            // Changes are made on another server now.
            return Err(StoreError::ReadOnly { doing: DOING });
        }
        clock.note(asked, answered, row.column("now")?);
        Ok(())
    }
}

/// The answer to a statement; an error if the connection is silent instead.
async fn answered<T>(
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(SILENCE, statement).await;
    answer.map_err(|_| StoreError::Silent { doing: DOING })?.map_err(StoreError::at(DOING))
}

/// Notifies a listener from another session.
async fn notify(store: &Store, channel: &str) -> Result<(), StoreError> {
    const SQL: &str = "-- heartbeat_crossing\nselect pg_notify($1, $2)";
    let client = store.connection(DOING).await?;
    let notified = tokio::time::timeout(SILENCE, client.execute(SQL, &[&channel, &CROSSING])).await;
    notified.map_err(|_| StoreError::Silent { doing: DOING })?.map(drop)
}
