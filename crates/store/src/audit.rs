//! The audit trail: entries are added in the transaction of the change that they are about, and
//! read in pages.

use chrono::{DateTime, Utc};
use fanfare_core::audit::{Action, Author, Entry};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Acting;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Run;

/// The number of months for which there is a partition, the current one included. A router that
/// does not run for that long does no harm: the default partition takes what comes later.
const MONTHS_AHEAD: i32 = 3;

/// The conditions of a list of entries; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The user who may read the entries: the owner of their webhooks.
    pub owner: Option<Name>,
    /// The webhook that they concern.
    pub webhook: Option<WebhookId>,
    /// The account that they are about.
    pub account: Option<Name>,
    /// Who did it.
    pub actor: Option<Name>,
    pub action: Option<Action>,
    /// Entries of this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Entries before this time.
    pub until: Option<DateTime<Utc>>,
    /// The position after which the page begins; `None` for the first page.
    pub after: Option<AuditPosition>,
    /// The most entries of a page.
    pub limit: i64,
}

/// The key by which an entry is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPosition {
    pub at: DateTime<Utc>,
    pub id: i64,
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    pub position: AuditPosition,
    /// The name as written; `None` for the service.
    pub actor: Option<String>,
    /// The code of the door.
    pub door: String,
    /// The client's address, or `user@host` of a command.
    pub address: Option<String>,
    /// The id that a proxy gave the request.
    pub correlation: Option<String>,
    /// The code of the action, which a later version may have written.
    pub action: String,
    /// The kind and the id of the object.
    pub object: (String, String),
    /// The webhook that it concerns.
    pub webhook: Option<WebhookId>,
    /// The owner of that webhook.
    pub owner: Option<String>,
    /// What changed, as it was before.
    pub before: Option<Value>,
    /// What changed, as it was after.
    pub after: Option<Value>,
    /// A remark for a person.
    pub note: Option<String>,
}

/// Adds entries in a caller's transaction, all in one statement.
pub(crate) async fn add(
    client: &Acting<impl Run>,
    author: &Author,
    entries: &[Entry],
) -> Result<(), StoreError> {
    const SQL: &str = include_str!("sql/audit_add.sql");
    fn column<'a, T>(entries: &'a [Entry], of: impl Fn(&'a Entry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    if entries.is_empty() {
        return Ok(());
    }
    let actor = author.actor.as_deref();
    // A name of the operating system need not be a valid name here.
    let actor_key = actor.map(fanfare_core::name::fold);
    client
        .execute(
            SQL,
            &[
                /* actor */ &actor,
                /* actor_key */ &actor_key,
                /* door */ &author.via.door.code(),
                /* address */ &author.via.address,
                /* correlation */ &author.via.correlation,
                /* action */ &column(entries, |entry| entry.action().code()),
                /* object_kind */ &column(entries, |entry| entry.kind().code()),
                /* object_id */ &column(entries, Entry::id),
                /* webhook */ &column(entries, |entry| entry.webhook().map(|id| id.0)),
                /* owner */ &column(entries, |entry| entry.owner().map(Name::as_str)),
                /* owner_key */ &column(entries, |entry| entry.owner().map(Name::key)),
                /* before */ &column(entries, Entry::before),
                /* after */ &column(entries, Entry::after),
                /* note */ &column(entries, Entry::note),
            ],
        )
        .await
        .map(drop)
}

impl Store {
    /// Adds an entry about an action that is not in the database: a secret that is about to be
    /// shown, a dead letter that is about to leave the broker.
    pub async fn audit_add(&self, author: &Author, entry: &Entry) -> Result<(), StoreError> {
        let client = self.connection("add to the audit trail").await?;
        add(&client, author, std::slice::from_ref(entry)).await
    }

    /// Lists entries, the newest first.
    pub async fn audit_list(&self, filter: &AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        const SQL: &str = "-- audit_list
            select at, id, actor, door, address, correlation, action, object_kind, object_id,
                   webhook, owner, before, after, note
            from audit
            where ($1::text is null or owner_key = $1)
              and ($2::uuid is null or webhook = $2)
              and ($3::text is null or (object_kind = 'account' and object_id = $3))
              and ($4::text is null or actor_key = $4)
              and ($5::text is null or action = $5)
              and ($6::timestamptz is null or at >= $6)
              and ($7::timestamptz is null or at < $7)
              and ($8::timestamptz is null or (at, id) < ($8, $9))
            order by at desc, id desc
            limit $10";
        let client = self.connection("list the audit trail").await?;
        let rows = client
            .query(
                SQL,
                &[
                    /* owner_key */ &filter.owner.as_ref().map(Name::key),
                    /* webhook */ &filter.webhook.map(|id| id.0),
                    /* account */ &filter.account.as_ref().map(Name::key),
                    /* actor_key */ &filter.actor.as_ref().map(Name::key),
                    /* action */ &filter.action.map(Action::code),
                    /* since */ &filter.since,
                    /* until */ &filter.until,
                    /* at */ &filter.after.map(|after| after.at),
                    /* id */ &filter.after.map(|after| after.id),
                    /* limit */ &filter.limit,
                ],
            )
            .await?;
        rows.iter().map(record).collect()
    }

    /// Makes the partitions of the next months. Returns how many were missing. Any number of
    /// processes may call it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: repeating it does no harm. Entries are written all the same.
    pub async fn audit_make_partitions(&self) -> Result<i32, StoreError> {
        const SQL: &str = "-- audit_make_partitions
            select make_audit_partitions($1) as made";
        let client = self.connection("make partitions of the audit trail").await?;
        client.query_one(SQL, &[&MONTHS_AHEAD]).await?.column("made")
    }
}

fn record(row: &Row) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        position: AuditPosition { at: row.column("at")?, id: row.column("id")? },
        actor: row.column("actor")?,
        door: row.column("door")?,
        address: row.column("address")?,
        correlation: row.column("correlation")?,
        action: row.column("action")?,
        object: (row.column("object_kind")?, row.column("object_id")?),
        webhook: row.column::<Option<Uuid>>("webhook")?.map(WebhookId),
        owner: row.column("owner")?,
        before: row.column("before")?,
        after: row.column("after")?,
        note: row.column("note")?,
    })
}
