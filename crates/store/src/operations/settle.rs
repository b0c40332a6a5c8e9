//! Settling the letters of a step.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use fanfare_core::audit::entry::Letter;
use fanfare_core::audit::{Action, Entry};
use fanfare_core::dead_letter::DiedBy;
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::{AttemptRef, Restart};
use fanfare_core::operation::{ALL_BUT_ONE, Kind, Refusal};
use tokio_postgres::Row;

use super::Operation;
use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::kept::{Kept, RETURN_MARGIN, kept};
use crate::letters::{leave, restart};
use crate::rows::Columns as _;
use crate::statement::Values;

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
    let entries = match operation.kind {
        Kind::Discard => discard(transaction, operation, positions, &mut settled).await?,
        Kind::Recover => {
            recover(transaction, operation, positions, &mut settled).await?;
            Vec::new()
        }
        // One entry is about the whole resend.
        Kind::Resend => {
            replay(transaction, operation, positions, &mut settled).await?;
            Vec::new()
        }
        Kind::Replay => {
            let mut entries = replay(transaction, operation, positions, &mut settled).await?;
            entries.extend(route(transaction, operation, positions, &mut settled).await?);
            entries
        }
    };
    audit::add(transaction, &operation.author, &entries).await?;
    let died = |event: &Kept| (event.id.simple().to_string(), died_at(&event.properties));
    leave(transaction, settled.events.iter().map(died)).await?;
    Ok(settled)
}

impl Settled {
    /// Counts a letter. Returns whether it was settled.
    pub(super) fn count(&mut self, refused: Option<&str>) -> bool {
        match refused {
            Some(refused) => *self.refused.entry(refused.to_owned()).or_default() += 1,
            None => self.letters += 1,
        }
        refused.is_none()
    }
}

async fn discard(
    transaction: &Transaction<'_>,
    operation: &Operation,
    positions: &[i64],
    settled: &mut Settled,
) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = include_str!("../sql/operation_discard.sql");
    let mut entries = Vec::new();
    for row in transaction.query(SQL, &[&operation.id, &positions]).await? {
        if settled.count(row.column("refused")?) {
            entries.push(entry(&row, Action::DeadLetterDiscarded)?);
        }
    }
    Ok(entries)
}

/// Begins new series of deliveries, as every replay does.
async fn replay(
    transaction: &Transaction<'_>,
    operation: &Operation,
    positions: &[i64],
    settled: &mut Settled,
) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = include_str!("../sql/operation_replay.sql");
    const NOTE: &str = "-- operation_replayed
        update operation_letters l
        set state = case when n.refusal is null then 'begun' else 'refused' end, refusal = n.refusal
        from unnest($2::bigint[], $3::text[]) n(position, refusal)
        where l.operation = $1 and l.position = n.position";
    let rows = transaction.query(SQL, &[&operation.id, &positions]).await?;
    let mut asked = Vec::new();
    for row in &rows {
        if row.column::<Option<&str>>("refused")?.is_none() {
            asked.extend(died(row)?);
        }
    }
    let tries = if operation.canary { ALL_BUT_ONE } else { 0 };
    let restarts = restart(transaction, &asked, tries).await?;
    let (mut entries, mut noted, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let restarted = died(row)?
            .and_then(|it| restarts.get(&(it.batch.0, it.webhook.0, it.entry)))
            .copied()
            .unwrap_or(Restart::Unknown);
        let refused: Option<&str> = row.column("refused")?;
        let refused = refused.or_else(|| refusal(restarted).map(Refusal::code));
        if settled.count(refused) {
            entries.push(entry(row, Action::DeadLetterReplayed)?);
            if let Restart::Begun(due) = restarted {
                settled.due.push(due);
            }
        }
        noted.push(row.column::<i64>("position")?);
        refusals.push(refused);
    }
    transaction.execute(NOTE, &[&operation.id, &noted, &refusals]).await?;
    Ok(entries)
}

fn refusal(restart: Restart) -> Option<Refusal> {
    match restart {
        Restart::Begun(_) => None,
        Restart::MovedOn => Some(Refusal::Settled),
        Restart::UnderWay => Some(Refusal::UnderWay),
        Restart::PayloadRemoved => Some(Refusal::PayloadRemoved),
        Restart::Unknown => Some(Refusal::Unknown),
    }
}

/// Notes that dead events are about to be routed again.
async fn route(
    transaction: &Transaction<'_>,
    operation: &Operation,
    positions: &[i64],
    settled: &mut Settled,
) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = include_str!("../sql/operation_route.sql");
    let mut entries = Vec::new();
    let margin = RETURN_MARGIN.as_secs_f64();
    for row in transaction.query(SQL, &[&operation.id, &positions, &margin]).await? {
        if settled.count(row.column("refused")?) {
            entries.push(entry(&row, Action::DeadLetterReplayed)?);
            settled.events.push(kept(&row)?);
        }
    }
    Ok(entries)
}

/// The row of the ledger by which a delivery died; `None` for an event.
fn died(row: &Row) -> Result<Option<DiedBy>, StoreError> {
    let Some(batch) = row.column("batch")? else { return Ok(None) };
    Ok(Some(DiedBy {
        batch: BatchKey(batch),
        webhook: WebhookId(row.column("webhook")?),
        entry: row.column("entry")?,
        received_at: row.column("received_at")?,
    }))
}

/// The entry of the audit trail about a letter.
fn entry(row: &Row, action: Action) -> Result<Entry, StoreError> {
    let died = died(row)?;
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

/// Begins the deliveries at these positions: those that are not planned are planned, and those that were
/// dropped get a new series.
async fn recover(
    transaction: &Transaction<'_>,
    operation: &Operation,
    positions: &[i64],
    settled: &mut Settled,
) -> Result<(), StoreError> {
    const SQL: &str = include_str!("../sql/operation_recover.sql");
    const TIMES: &str = "-- operation_recover_times
        select min(received_at) as oldest, max(received_at) as newest from operation_letters
        where operation = $1 and position = any($2)";
    let row = transaction.query_one(TIMES, &[&operation.id, &positions]).await?;
    let (oldest, newest): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) =
        (row.column("oldest")?, row.column("newest")?);
    let tries = if operation.canary { ALL_BUT_ONE } else { 0 };
    let values: Values<'_> = &[&operation.id, &positions, &oldest, &newest, &tries];
    for row in transaction.query(SQL, values).await? {
        if settled.count(row.column("refused")?) {
            settled.due.push(AttemptRef {
                batch: BatchKey(row.column("batch")?),
                webhook: WebhookId(row.column("webhook")?),
                sequence: row.column("sequence")?,
                received_at: row.column("received_at")?,
            });
        }
    }
    Ok(())
}
