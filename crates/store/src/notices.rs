//! Notices: the open causes, what is seen of the installation, and what is still to be told.
//!
//! One transaction looks, decides and writes, and it holds the row of `notices_state`, so that one
//! router at a time does so. What it decided is told after it, at least once: a way that has told a
//! notice is removed from the notice's `waiting`, and a process that ends in between leaves it there.

mod look;
mod tell;

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::notice::{Concerned, Notice, Says, Stage};
use serde_json::{Map, Value};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

pub use tell::Due;

/// A notice with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub notice: Notice,
    /// The ways in which it is still to be told.
    pub waiting: Vec<String>,
    /// When the last way had told it.
    pub told_at: Option<DateTime<Utc>>,
    /// The last failure of each way that has failed.
    pub failures: Map<String, Value>,
}

macro_rules! select {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "\nselect id, cause, says, webhook, owner, host, at, facts, waiting, tries, failures, told_at
            from notices ",
            $rest
        )
    };
}

impl Store {
    /// Lists notices, the newest first, beginning after the notice `after`; of one owner, or all.
    pub async fn notices(
        &self,
        owner: Option<&Name>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Listed>, StoreError> {
        const SQL: &str = select!(
            "notices",
            "where ($1::text is null or owner_key = $1)
               and ($2::uuid is null
                    or (at, id) < (select n.at, n.id from notices n where n.id = $2))
             order by at desc, id desc limit $3"
        );
        let client = self.connection("list notices").await?;
        let owner = owner.map(Name::key);
        let rows = client.query(SQL, &[&owner, &after, &limit]).await?;
        rows.iter().map(listed).collect()
    }
}

impl Store {
    /// Counts the open causes, by the worst stage that was told.
    pub async fn notice_causes(&self) -> Result<Vec<(Stage, i64)>, StoreError> {
        const SQL: &str = "-- notice_causes
            select stage, count(*) from notice_causes where closed_at is null group by stage";
        let client = self.connection("count the causes of notices").await?;
        let rows = client.query(SQL, &[]).await?;
        let one = |row: &Row| {
            let stage = Stage::parse(row.column("stage")?)
                .ok_or(StoreError::Inconsistent { table: "notice_causes", column: "stage" })?;
            Ok((stage, row.column("count")?))
        };
        rows.iter().map(one).collect()
    }
}

fn listed(row: &Row) -> Result<Listed, StoreError> {
    let failures: Value = row.column("failures")?;
    Ok(Listed {
        notice: notice(row)?,
        waiting: row.column("waiting")?,
        told_at: row.column("told_at")?,
        failures: failures.as_object().cloned().unwrap_or_default(),
    })
}

fn notice(row: &Row) -> Result<Notice, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "notices", column };
    let facts: Value = row.column("facts")?;
    let webhook: Option<Uuid> = row.column("webhook")?;
    let (owner, host): (Option<String>, Option<String>) =
        (row.column("owner")?, row.column("host")?);
    Ok(Notice {
        id: row.column("id")?,
        cause: row.column("cause")?,
        says: Says::parse(row.column("says")?).ok_or(inconsistent("says"))?,
        webhook: webhook.map(|id| Concerned {
            id: WebhookId(id),
            owner: owner.unwrap_or_default(),
            host: host.unwrap_or_default(),
        }),
        at: row.column("at")?,
        facts: facts.as_object().cloned().ok_or(inconsistent("facts"))?,
    })
}
