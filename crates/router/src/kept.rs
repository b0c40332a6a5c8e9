//! The rows of the ledger that keep dead letters and held messages.
//!
//! A row is written before its message is published. So the queues of dead letters and of held messages
//! may be lost with the broker's data: `restoring` publishes their messages again.

use std::panic::resume_unwind;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::dead_letters::reject;
use fanfare_broker::{Destination, Message, Queue};
use fanfare_core::chain::chain;
use fanfare_core::kept::Contents;
use fanfare_core::mask::MaskPolicy;
use fanfare_core::reject::Reject;
use fanfare_store::kept::{Kind, NewKept};
use fanfare_store::retry::{QueryError, retry_divisible, retry_until_available};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Config;
use crate::error::RouterError;
use crate::outgoing::{HELD_SINCE, Outgoing};

/// The largest body that the ledger keeps, in bytes. An event of more than 1 MiB is never valid, and
/// would be in memory several times while its row is written. Only the broker has its dead letter.
const LARGEST: usize = 2 * 1024 * 1024;

/// A dead letter or a message that waits, to publish when its row is written.
pub(crate) struct Kept {
    pub(crate) destination: Destination,
    pub(crate) message: Message,
    /// The row to write. None is needed for a message that goes on waiting, and one that is set aside
    /// because the database fails has none.
    pub(crate) row: Option<Row>,
}

/// What a message's row says about it, besides the message.
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) kind: Kind,
    /// The routing key that it was published with.
    pub(crate) routing_key: String,
    /// Why it is dead: a stable code, and the same in more words.
    pub(crate) reason: Option<(&'static str, String)>,
    /// Whether an earlier delivery of the same message may have written a row.
    pub(crate) may_be_kept: bool,
    /// For how long it may wait.
    pub(crate) hold: Option<Duration>,
}

/// The dead letter of a message, with a new row.
pub(crate) fn dead_letter(
    message: &Message,
    routing_key: &str,
    why: &Reject,
    now: DateTime<Utc>,
) -> Kept {
    let code = why.reason.code();
    let row = Row {
        id: Uuid::new_v4(),
        kind: Kind::Dead,
        routing_key: routing_key.to_owned(),
        reason: Some((code, why.detail.clone())),
        may_be_kept: false,
        hold: None,
    };
    Kept {
        destination: Queue::EventsDead.into(),
        message: reject(message, routing_key, code, &why.detail, now),
        row: Some(row),
    }
}

impl Kept {
    fn outgoing(self) -> (Destination, Message) {
        (self.destination, self.message)
    }
}

impl Row {
    /// The row of a message; `None` if it is too large, or can't be encoded, and so can't be published
    /// either.
    fn keep(&self, mask: &MaskPolicy, message: &Message) -> Option<NewKept> {
        if message.body.len() > LARGEST {
            return None;
        }
        let event = message.as_event();
        let queue = match self.kind {
            Kind::Dead => Queue::EventsDead,
            Kind::Held => Queue::Events,
        };
        Some(NewKept {
            id: self.id,
            kind: self.kind,
            queue: queue.name(),
            routing_key: self.routing_key.clone(),
            properties: message.encode_properties().ok()?,
            body: mask.apply_to_message(&event).into_owned(),
            reason: self.reason.clone(),
            contents: Contents::of(&event),
            digest: message.stable_digest(&[HELD_SINCE]),
            may_be_kept: self.may_be_kept,
            hold: self.hold,
        })
    }
}

/// Writes the rows of messages, and returns the messages with the ids of their rows.
pub(crate) async fn record(
    config: &Config,
    stop: &CancellationToken,
    kept: Vec<Kept>,
) -> Result<Outgoing, RouterError> {
    if kept.iter().all(|it| it.row.is_none()) {
        return Ok(kept.into_iter().map(Kept::outgoing).collect());
    }
    let mask = config.mask.clone();
    // Bodies may be large, and routing must not wait until they are masked.
    let made = tokio::task::spawn_blocking(move || rows(&mask, kept)).await;
    let (mut kept, indexes, rows) = match made.map_err(JoinError::try_into_panic) {
        Ok(made) => made,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(_)) => return Err(RouterError::Stopping),
    };
    let ids = write(config, stop, &rows).await?;
    for ((index, row), id) in indexes.into_iter().zip(&rows).zip(ids) {
        let Some((it, id)) = kept.get_mut(index).zip(id) else { continue };
        match row.kind {
            Kind::Dead => it.message.set_letter_id(id),
            Kind::Held => it.message.set_kept_id(id),
        }
    }
    Ok(kept.into_iter().map(Kept::outgoing).collect())
}

/// The messages, and the rows to write with the indexes of their messages.
fn rows(mask: &MaskPolicy, kept: Vec<Kept>) -> (Vec<Kept>, Vec<usize>, Vec<NewKept>) {
    let row =
        |(index, it): (usize, &Kept)| Some((index, it.row.as_ref()?.keep(mask, &it.message)?));
    let (indexes, rows) = kept.iter().enumerate().filter_map(row).unzip();
    (kept, indexes, rows)
}

/// Writes rows, one by one if they can't be written together. A row that the database does not take has
/// no id: then only the broker has the message, which must not block others.
async fn write(
    config: &Config,
    stop: &CancellationToken,
    rows: &[NewKept],
) -> Result<Vec<Option<Uuid>>, RouterError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    match retry_divisible(stop, || config.store.kept_record(rows)).await {
        Ok(answered) => Ok(answered.value.into_iter().map(Some).collect()),
        Err(QueryError::Rejected(_) | QueryError::Failing(_)) if rows.len() > 1 => {
            let mut ids = Vec::with_capacity(rows.len());
            for row in rows.chunks(1) {
                ids.extend(Box::pin(write(config, stop, row)).await?);
            }
            Ok(ids)
        }
        Err(QueryError::Rejected(error) | QueryError::Failing(error)) => {
            tracing::warn!(
                error = error.chain(),
                "failed to keep a message in the database; only the broker has it"
            );
            Ok(vec![None])
        }
        Err(error) => Err(error.into()),
    }
}

/// Settles the rows of messages that are routed. A row that can't be settled does no harm: its message
/// is published again, and recognised.
pub(crate) async fn settle(
    config: &Config,
    stop: &CancellationToken,
    ids: Vec<Uuid>,
) -> Result<(), RouterError> {
    if ids.is_empty() {
        return Ok(());
    }
    match retry_until_available(stop, || config.store.kept_settle(&ids)).await {
        Ok(()) => Ok(()),
        Err(QueryError::Rejected(error) | QueryError::Failing(error)) => {
            tracing::warn!(error = chain(&error), "failed to settle kept messages");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
