//! Notices: the open causes, the conditions of the installation, and what is still to be sent.
//!
//! One transaction checks, decides and writes, and it holds the row of `notices_state`, so that one
//! router at a time does so. The notices are sent after it, at least once: a notice has a row in
//! `notice_sends` for each channel, and a process that ends between the sending and the note of it
//! leaves the row as it was.

mod check;
mod sends;
mod settings;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::notice::{Channel, Concerned, Kind, Notice, Stage};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Acting;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Run;

pub use sends::OwnerDue;

/// A notice with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub notice: Notice,
    /// The channels by which it was sent, or is to be sent.
    pub sends: Vec<Send>,
}

/// The sending of a notice by one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    pub channel: Channel,
    pub state: SendState,
    /// When it was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// Why the last try failed, or why it is not sent at all.
    pub failure: Option<String>,
}

/// The state of the sending of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendState {
    /// It is still to be sent.
    Waiting,
    /// It was sent.
    Sent,
    /// It was given up, or may not be sent.
    NotSent,
}

impl SendState {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::NotSent => "not-sent",
        }
    }
}

impl Store {
    /// Lists notices, the newest first, beginning after the notice `after`; of one owner, or all.
    pub async fn notices(
        &self,
        owner: Option<&Name>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Listed>, StoreError> {
        const SQL: &str = "-- notices
            select id, cause, type, webhook, owner, host, at, facts from notices
            where ($1::text is null or owner_key = $1)
              and ($2::uuid is null
                   or (at, id) < (select n.at, n.id from notices n where n.id = $2))
            order by at desc, id desc limit $3";
        let client = self.connection("list notices").await?;
        let owner = owner.map(Name::key);
        let rows = client.query(SQL, &[&owner, &after, &limit]).await?;
        let notices = rows.iter().map(notice).collect::<Result<Vec<_>, _>>()?;
        let mut sends = sends(&client, &notices).await?;
        let listed = |notice: Notice| {
            let sends = sends.remove(&notice.id).unwrap_or_default();
            Listed { notice, sends }
        };
        Ok(notices.into_iter().map(listed).collect())
    }

    /// Counts the open causes, by the worst stage that they have reached.
    pub async fn notice_causes(&self) -> Result<Vec<(Stage, i64)>, StoreError> {
        const SQL: &str = "-- notice_causes
            select stage, count(*) from notice_causes where resolved_at is null group by stage";
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

/// The sends of notices, by notice.
async fn sends(
    client: &Acting<impl Run>,
    notices: &[Notice],
) -> Result<HashMap<Uuid, Vec<Send>>, StoreError> {
    const SQL: &str = "-- notice_sends
        select notice, channel, sent_at, next_try_at is not null as waiting, failure
        from notice_sends where notice = any($1) order by notice, channel";
    let ids: Vec<Uuid> = notices.iter().map(|notice| notice.id).collect();
    let mut sends: HashMap<Uuid, Vec<Send>> = HashMap::new();
    for row in &client.query(SQL, &[&ids]).await? {
        let sent_at: Option<DateTime<Utc>> = row.column("sent_at")?;
        let state = match (sent_at, row.column("waiting")?) {
            (Some(_), _) => SendState::Sent,
            (None, true) => SendState::Waiting,
            (None, false) => SendState::NotSent,
        };
        let channel = Channel::parse(row.column("channel")?)
            .ok_or(StoreError::Inconsistent { table: "notice_sends", column: "channel" })?;
        let send = Send { channel, state, sent_at, failure: row.column("failure")? };
        sends.entry(row.column("notice")?).or_default().push(send);
    }
    Ok(sends)
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
        kind: Kind::parse(row.column("type")?).ok_or(inconsistent("type"))?,
        webhook: webhook.map(|id| Concerned {
            id: WebhookId(id),
            owner: owner.unwrap_or_default(),
            host: host.unwrap_or_default(),
        }),
        at: row.column("at")?,
        facts: facts.as_object().cloned().ok_or(inconsistent("facts"))?,
    })
}
