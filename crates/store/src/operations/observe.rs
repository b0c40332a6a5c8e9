//! The outcomes of replayed letters, and what they say about their receivers.

use fanfare_core::operation::{Kind, RESEND_WINDOW, Receiver};
use tokio_postgres::Row;
use uuid::Uuid;

use super::Operation;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::rows::Columns as _;

/// The most replayed letters whose outcome one step looks for. With a canary few are under way.
const AT_ONCE: i64 = 2000;

/// What an observation has found.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Whether there was an outcome.
    pub(super) any: bool,
    /// Of a resend: the number of deliveries that were begun a moment ago and are not attempted yet.
    pub(super) untried: u32,
}

/// Writes down the outcomes of replayed letters, and adds them to the counts.
pub(super) async fn observe(
    transaction: &Transaction<'_>,
    operation: &mut Operation,
) -> Result<Observed, StoreError> {
    const SQL: &str = include_str!("../sql/operation_observe.sql");
    let newest = if operation.kind == Kind::Resend { i64::from(RESEND_WINDOW) } else { 0 };
    let row = transaction.query_one(SQL, &[&operation.id, &AT_ONCE, &newest]).await?;
    let counts = &mut operation.counts;
    let (delivered, failed, dropped): (i64, i64, i64) =
        (row.column("delivered")?, row.column("failed")?, row.column("dropped")?);
    counts.delivered += delivered;
    counts.failed += failed;
    counts.dropped += dropped;
    let untried = u32::try_from(row.column::<i64>("untried")?).unwrap_or(u32::MAX);
    Ok(Observed { any: delivered + failed + dropped > 0, untried })
}

/// The webhooks that have letters waiting, and how their letters have fared.
pub(super) async fn receivers(
    transaction: &Transaction<'_>,
    id: Uuid,
) -> Result<Vec<(Uuid, Receiver)>, StoreError> {
    const SQL: &str = include_str!("../sql/operation_receivers.sql");
    let rows = transaction.query(SQL, &[&id]).await?;
    rows.iter().map(receiver).collect()
}

fn receiver(row: &Row) -> Result<(Uuid, Receiver), StoreError> {
    let number = |name| row.column(name).map(|n: i64| u32::try_from(n).unwrap_or(u32::MAX));
    let receiver = Receiver {
        open: number("open")?,
        has_delivered: row.column("has_delivered")?,
        failed_since: number("failed_since")?,
    };
    Ok((row.column("webhook")?, receiver))
}
