//! A connection of its own for each consumer.
//!
//! RabbitMQ answers `INTERNAL_ERROR` when a consumer asks for a quorum queue that is broken, and that
//! closes the whole connection. So a consumer shares its connection with nothing else: a broken queue
//! stops only its own traffic.
//!
//! A queue that breaks *after* its consumer has begun is silent: the broker closes and cancels
//! nothing, and no message comes any more. But a queue that can't be asked reports no consumers, so a
//! watch asks for their number now and then. If it is zero, although this consumer is there, the
//! connection is closed, and the consumer ends with an error.

use crate::config::Config;
use crate::probe::problem_of;
use crate::topology::Queue;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often a consumer's queue is asked whether it still knows its consumers.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// A queue that answers takes milliseconds; one whose leader is just being elected takes longer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks in a row that must fail: an election or a restart of the queue's leader may fail one.
const FAILED_CHECKS: u32 = 3;

/// The consumers' connections of a session, so that they end with it.
#[derive(Default)]
pub(crate) struct QueueConnections {
    open: Mutex<Vec<Weak<Connection>>>,
}

impl QueueConnections {
    pub(crate) fn add(&self, connection: &Arc<Connection>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| connection.strong_count() > 0);
        open.push(Arc::downgrade(connection));
    }

    /// Closes all of them: the broker takes back what was not settled.
    pub(crate) async fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in open.iter().filter_map(Weak::upgrade) {
            // An error means that it was closed already.
            let _ = connection.close(200, "OK".into()).await;
        }
    }
}

/// What a watch knows of a consumer.
pub(crate) struct Watched {
    pub(crate) connection: Weak<Connection>,
    pub(crate) queue: Queue,
    /// Messages that have arrived. While more come, the queue is well.
    pub(crate) arrived: Arc<AtomicU64>,
    pub(crate) session_lost: CancellationToken,
}

/// Watches a consumer's queue, in a task of its own, until the connection or the session ends.
pub(crate) fn watch(config: Config, watched: Watched) {
    tokio::spawn(async move {
        let (mut failed, mut known) = (0, 0);
        loop {
            let pause = tokio::time::sleep(CHECK_EVERY);
            if watched.session_lost.run_until_cancelled(pause).await.is_none() {
                break;
            }
            // The connection is gone when its consumer and all messages taken from it are.
            let Some(connection) = watched.connection.upgrade() else { return };
            if !connection.status().connected() {
                return;
            }
            let arrived = watched.arrived.load(Ordering::Relaxed);
            if std::mem::replace(&mut known, arrived) != arrived {
                failed = 0;
                continue;
            }
            failed = match timeout(CHECK_TIMEOUT, knows_consumers(&connection, watched.queue)).await
            {
                Ok(Ok(true)) => 0,
                Ok(Ok(false) | Err(_)) | Err(_) => failed + 1,
            };
            // A queue that is merely busy may not count its consumers in time; it answers a request.
            if failed >= FAILED_CHECKS {
                match problem_of(&config, watched.queue.name()).await {
                    Ok(None) => failed = 0,
                    Ok(Some(_)) | Err(_) => break,
                }
            }
        }
        if let Some(connection) = watched.connection.upgrade() {
            let _ = timeout(CHECK_TIMEOUT, connection.close(200, "OK".into())).await;
        }
    });
}

async fn knows_consumers(connection: &Connection, queue: Queue) -> Result<bool, lapin::Error> {
    let channel: Channel = connection.create_channel().await?;
    let options = QueueDeclareOptions::durable().passive();
    let found = channel.queue_declare(queue.name().into(), options, FieldTable::default()).await?;
    let known = found.consumer_count() > 0;
    channel.close(200, "OK".into()).await?;
    Ok(known)
}
