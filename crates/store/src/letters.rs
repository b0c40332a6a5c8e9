//! The index of dead letters: lists, searches and groups, without a look into the queues.
//!
//! Triggers write it (`migrations/V4`). `queue` compares it with what the queues have, and `settle`
//! replays and discards many letters in one transaction.

mod choice;
mod groups;
mod queue;
mod settle;

use fanfare_core::dead_letter::{Choice, DiedBy, Kind, Letter, Position, Source};
use fanfare_core::ids::{BatchKey, WebhookId};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
pub(crate) use choice::Conditions;

pub use groups::{Group, Groups, Refused};
pub use queue::{Leaving, Missed};
pub use settle::{EventReplay, ReplayedEvent};
pub(crate) use settle::{leave, restart};

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

/// The columns of a letter.
const COLUMNS: &str = "id, kind, source, batch, webhook, entry, received_at, owner, host, event_type, \
                       event_id, reason, detail, outcome, status, attempts, error, cause, bytes, died_at";

impl Store {
    /// Lists open letters: at most `limit`, behind the position `after`.
    pub async fn letters_list(
        &self,
        choice: &Choice,
        after: Option<&Position>,
        order: Order,
        limit: i64,
    ) -> Result<Vec<Letter>, StoreError> {
        let mut conditions = Conditions::of(choice);
        let (sign, direction) = match order {
            Order::OldestFirst => (">", "asc"),
            Order::NewestFirst => ("<", "desc"),
        };
        if let Some(Position { died_at, id, .. }) = after {
            let (at, id) = (conditions.parameter(*died_at), conditions.parameter(id.clone()));
            conditions.add(&format!("(died_at, id) {sign} ({at}, {id})"));
        }
        let most = conditions.parameter(limit);
        let sql = format!(
            "-- letters_list\nselect {COLUMNS} from dead_letters where {} \
             order by died_at {direction}, id {direction} limit {most}",
            conditions.sql()
        );
        let client = self.connection("list dead letters").await?;
        let rows = client.query(&sql, &conditions.values()).await?;
        rows.iter().map(letter).collect()
    }

    /// Counts the open letters of a choice.
    pub async fn letters_count(&self, choice: &Choice) -> Result<i64, StoreError> {
        let conditions = Conditions::of(choice);
        let sql = format!(
            "-- letters_count\nselect count(*) from dead_letters where {}",
            conditions.sql()
        );
        let client = self.connection("count dead letters").await?;
        client.query_one(&sql, &conditions.values()).await?.column("count")
    }

    /// Adds the letters of an earlier version's ledger to the index, at most `most` deliveries and as
    /// many events; returns how many. A database whose letters are all there is not asked.
    pub async fn letters_fill(&self, most: i32) -> Result<i64, StoreError> {
        const FILLED: &str = "-- letters_filled
            select filled from dead_letters_state";
        const FILL: &str = "-- letters_fill
            select fill_dead_letters($1) as added";
        const DONE: &str = "-- letters_fill_done
            update dead_letters_state set filled = true";
        let client = self.connection("index the dead letters").await?;
        if client.query_one(FILLED, &[]).await?.column("filled")? {
            return Ok(0);
        }
        let added: i64 = client.query_one(FILL, &[&most]).await?.column("added")?;
        if added == 0 {
            client.execute(DONE, &[]).await?;
        }
        Ok(added)
    }
}

fn letter(row: &Row) -> Result<Letter, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "dead_letters", column };
    let kind = Kind::parse(row.column("kind")?).ok_or(inconsistent("kind"))?;
    let source = match row.column("source")? {
        "ledger" => Source::Ledger,
        _ => Source::Broker,
    };
    let webhook = row.column::<Option<_>>("webhook")?.map(WebhookId);
    let died_by = match (row.column("batch")?, row.column("entry")?, row.column("received_at")?) {
        (Some(batch), Some(entry), Some(received_at)) => {
            webhook.map(|webhook| DiedBy { batch: BatchKey(batch), webhook, entry, received_at })
        }
        _ => None,
    };
    let attempts: Option<i32> = row.column("attempts")?;
    let given_up = || match (source, attempts) {
        (Source::Ledger, Some(1)) => "given up after 1 attempt".to_owned(),
        (Source::Ledger, Some(attempts)) => format!("given up after {attempts} attempts"),
        _ => String::new(),
    };
    Ok(Letter {
        id: row.column("id")?,
        kind,
        source,
        died_by,
        webhook,
        owner: row.column("owner")?,
        host: row.column("host")?,
        event_type: row.column("event_type")?,
        event: row.column("event_id")?,
        reason: row.column("reason")?,
        detail: row.column::<Option<_>>("detail")?.unwrap_or_else(given_up),
        outcome: row.column("outcome")?,
        last_status: row.column("status")?,
        attempts,
        error: row.column("error")?,
        cause: row.column("cause")?,
        bytes: row.column("bytes")?,
        died_at: row.column("died_at")?,
    })
}

/// A value of a parameter.
type Value = Box<dyn ToSql + Sync + Send>;
