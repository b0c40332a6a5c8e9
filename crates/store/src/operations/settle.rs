//! Settling the letters of a step.

use std::collections::BTreeMap;

use fanfare_core::audit::entry::Letter;
use fanfare_core::audit::{Action, Entry};
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::AttemptRef;
use fanfare_core::operation::{ALL_BUT_ONE, Kind};
use tokio_postgres::Row;
use uuid::Uuid;

use super::Operation;
use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::kept::{Kept, RETURN_MARGIN, kept};
use crate::letters::leave;
use crate::rows::Columns as _;

/// Reads the time of death in the header of an event's letter from its encoded properties. By it the
/// letter's message leaves its queue, though the event may be refused again.
pub type DiedAt = fn(&[u8]) -> Option<String>;

/// What a step has settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The number of letters that were replayed or discarded.
    pub(super) letters: i64,
    /// The numbers of letters that were kept, by reason.
    pub(super) refused: BTreeMap<String, i64>,
    /// The first attempts of the new series.
    pub(super) due: Vec<AttemptRef>,
    /// Dead events to route again.
    pub(super) events: Vec<Kept>,
}

/// Settles the letters at these positions, with an entry of the audit trail for each.
pub(super) async fn settle(
    transaction: &Transaction<'_>,
    operation: &Operation,
    positions: &[i64],
    died_at: DiedAt,
) -> Result<Settled, StoreError> {
    let mut settled = Settled::default();
    if positions.is_empty() {
        return Ok(settled);
    }
    let (id, mut entries) = (&operation.id, Vec::new());
    let action = match operation.kind {
        Kind::Replay => Action::DeadLetterReplayed,
        Kind::Discard => Action::DeadLetterDiscarded,
    };
    for row in rows(transaction, operation, positions, id).await? {
        if let Some(refused) = row.column::<Option<String>>("refused")? {
            *settled.refused.entry(refused).or_default() += 1;
            continue;
        }
        settled.letters += 1;
        let died = died(&row)?;
        entries.push(entry(&row, action, died.as_ref())?);
        match (operation.kind, died) {
            (Kind::Discard, _) => {}
            (Kind::Replay, Some(died)) => {
                // The first row of the new series has the next number, and its attempt the one after.
                settled.due.push(AttemptRef { sequence: died.sequence + 2, ..died });
            }
            (Kind::Replay, None) => settled.events.push(kept(&row)?),
        }
    }
    audit::add(transaction, &operation.author, &entries).await?;
    let died = |event: &Kept| (event.id.simple().to_string(), died_at(&event.properties));
    leave(transaction, settled.events.iter().map(died)).await?;
    Ok(settled)
}

/// Settles the letters in the tables.
async fn rows(
    transaction: &Transaction<'_>,
    operation: &Operation,
    positions: &[i64],
    id: &Uuid,
) -> Result<Vec<Row>, StoreError> {
    const REPLAY: &str = include_str!("../sql/operation_replay.sql");
    const ROUTE: &str = include_str!("../sql/operation_route.sql");
    const DISCARD: &str = include_str!("../sql/operation_discard.sql");
    match operation.kind {
        Kind::Discard => transaction.query(DISCARD, &[id, &positions]).await,
        Kind::Replay => {
            let tries = if operation.canary { ALL_BUT_ONE } else { 0 };
            let mut rows = transaction.query(REPLAY, &[id, &positions, &tries]).await?;
            let margin = RETURN_MARGIN.as_secs_f64();
            rows.extend(transaction.query(ROUTE, &[id, &positions, &margin]).await?);
            Ok(rows)
        }
    }
}

/// The row of the ledger by which a delivery died; `None` for an event.
fn died(row: &Row) -> Result<Option<AttemptRef>, StoreError> {
    let Some(batch) = row.column("batch")? else { return Ok(None) };
    let webhook = WebhookId(row.column("webhook")?);
    let first = AttemptRef::first(BatchKey(batch), webhook, row.column("received_at")?);
    Ok(Some(AttemptRef { sequence: row.column("entry")?, ..first }))
}

fn entry(row: &Row, action: Action, died: Option<&AttemptRef>) -> Result<Entry, StoreError> {
    let letter = Letter {
        id: row.column("letter")?,
        queue: row.column("queue")?,
        reason: row.column("reason")?,
        event: row.column("event_id")?,
        delivery: died.map(|died| DeliveryId::of(died.batch, died.webhook)),
        webhook: died.map(|died| died.webhook),
    };
    Ok(Entry::dead_letter(action, &letter))
}
