//! The messages that routers keep: dead events, and events that wait for their directory revision.
//!
//! A row is written before its message is published, and settled when the message is routed or
//! discarded. Then its body goes, since the ledger has the event, or a person decided about it. So an
//! open row is what a broker that lost its data has to get back.

mod mending;
mod restoring;

use std::collections::HashMap;
use std::time::Duration;

use fanfare_core::audit::{Author, Entry};
use fanfare_core::kept::Contents;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

pub use mending::Mendable;
pub use restoring::LostQueue;

/// How long after it should have come back a message counts as lost. Before, the broker most likely
/// has it.
pub const RETURN_MARGIN: Duration = Duration::from_mins(1);

/// The most bytes of bodies in one answer, beyond the first body.
const PAGE_BYTES: i64 = 8 * 1024 * 1024;

/// Why a message is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was refused, and is a dead letter.
    Dead,
    /// It waits for its directory revision.
    Held,
}

impl Kind {
    fn code(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Held => "held",
        }
    }
}

/// A message to keep.
#[derive(Debug, Clone)]
pub struct NewKept {
    /// The id of its row. An earlier row of this id is replaced.
    pub id: Uuid,
    pub kind: Kind,
    /// The queue to which it is published when it is put back.
    pub queue: &'static str,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Its properties, as AMQP encodes them.
    pub properties: Vec<u8>,
    /// Its masked body.
    pub body: Vec<u8>,
    /// Why it is dead, and the same in more words.
    pub reason: Option<(&'static str, String)>,
    /// What can be read of it.
    pub contents: Contents,
    /// The digest of what was published.
    pub digest: Uuid,
    /// Whether a router may have written a row for it and died before it published the row's id. Then it
    /// gets that row.
    pub may_be_kept: bool,
    /// For how long it may wait.
    pub hold: Option<Duration>,
}

/// A kept message as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: Uuid,
    pub kind: Kind,
    /// Its properties, as AMQP encodes them.
    pub properties: Vec<u8>,
    /// Its masked body.
    pub body: Vec<u8>,
}

/// Text without the character that PostgreSQL can't store.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn facts(message: &NewKept) -> Value {
    let Contents { source, event_id, keys, subjects, users } = &message.contents;
    json!({
        "routing_key": storable(&message.routing_key),
        "reason": message.reason.as_ref().map(|(code, _)| code),
        "detail": message.reason.as_ref().map(|(_, detail)| storable(detail)),
        "source": source.as_deref().map(storable),
        "event_id": event_id.as_deref().map(storable),
        "keys": keys,
        "subjects": subjects.iter().map(|it| storable(it)).collect::<Vec<_>>(),
        "users": users.iter().map(|it| storable(it)).collect::<Vec<_>>(),
    })
}

impl Store {
    /// Keeps messages before they are published, and returns the ids of their rows in their order.
    ///
    /// A message that the broker delivered again may have a row that its router never used: it gets
    /// that one.
    pub async fn kept_record(&self, messages: &[NewKept]) -> Result<Vec<Uuid>, StoreError> {
        const SQL: Cached<'_> = Cached(include_str!("sql/kept_record.sql"));
        let ids = self.kept_ids(messages).await?;
        // A row can be written once by a statement. Of several messages with one id the last counts.
        let rows: HashMap<Uuid, &NewKept> = ids.iter().copied().zip(messages).collect();
        let mut rows: Vec<(Uuid, &NewKept)> = rows.into_iter().collect();
        // All routers lock rows in the same order.
        rows.sort_unstable_by_key(|(id, _)| *id);
        let column = |of: fn(&NewKept) -> &'static str| -> Vec<&str> {
            rows.iter().map(|(_, message)| of(message)).collect()
        };
        let row_ids: Vec<Uuid> = rows.iter().map(|(id, _)| *id).collect();
        let properties: Vec<&[u8]> = rows.iter().map(|(_, it)| it.properties.as_slice()).collect();
        let bodies: Vec<&[u8]> = rows.iter().map(|(_, it)| it.body.as_slice()).collect();
        let digests: Vec<Uuid> = rows.iter().map(|(_, it)| it.digest).collect();
        let seconds = |(_, it): &(Uuid, &NewKept)| it.hold.map(|hold| hold.as_secs_f64());
        let holds: Vec<Option<f64>> = rows.iter().map(seconds).collect();
        let facts: Vec<Value> = rows.iter().map(|(_, it)| facts(it)).collect();
        let client = self.connection("keep messages").await?;
        client
            .execute(
                &SQL,
                &[
                    /* id */ &row_ids,
                    /* kind */ &column(|it| it.kind.code()),
                    /* queue */ &column(|it| it.queue),
                    /* properties */ &properties,
                    /* body */ &bodies,
                    /* digest */ &digests,
                    /* hold */ &holds,
                    /* facts */ &facts,
                    /* margin */ &RETURN_MARGIN.as_secs_f64(),
                ],
            )
            .await?;
        Ok(ids)
    }

    /// The id of each message: that of a row that was written for it before, or its own.
    async fn kept_ids(&self, messages: &[NewKept]) -> Result<Vec<Uuid>, StoreError> {
        const SQL: &str = "-- kept_ids
            select digest, array_agg(id order by recorded_at) as ids from kept_messages
            where digest = any($1) and settled_at is null group by digest";
        let may_be_kept = messages.iter().filter(|it| it.may_be_kept);
        let digests: Vec<Uuid> = may_be_kept.map(|it| it.digest).collect();
        let mut known: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
        if !digests.is_empty() {
            let client = self.connection("look for kept messages").await?;
            for row in client.query(SQL, &[&digests]).await? {
                known.insert(row.column("digest")?, row.column("ids")?);
            }
        }
        let id = |message: &NewKept| {
            let known = known.get_mut(&message.digest).filter(|_| message.may_be_kept);
            known.and_then(Vec::pop).unwrap_or(message.id)
        };
        Ok(messages.iter().map(id).collect())
    }

    /// Settles messages that were routed.
    pub async fn kept_settle(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        const SQL: Cached<'_> = Cached(
            "-- kept_settle
            update kept_messages
            set settled_at = now(), properties = '', body = '',
                settled_as = case kind when 'dead' then 'replayed' else 'routed' end
            where id in (select id from kept_messages where id = any($1) and settled_at is null
                         order by id for update)",
        );
        let client = self.connection("settle kept messages").await?;
        client.execute(&SQL, &[&ids]).await.map(drop)
    }

    /// Records that a dead letter is about to be published for the routers again, with an entry of the
    /// audit trail. If it does not reach them, it is published once more.
    ///
    /// A router may refuse it again at once, and then the row is that of a dead letter as before. So it
    /// is said before the letter is published.
    pub async fn kept_replaying(
        &self,
        id: Option<Uuid>,
        author: &Author,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- kept_replaying
            update kept_messages
            set return_at = now() + $2::float8 * interval '1 second', returns = 0
            where id = $1 and settled_at is null and kind = 'dead'";
        let mut client = self.connection("record that a dead letter is replayed").await?;
        let transaction = client.transaction().await?;
        transaction.execute(SQL, &[&id, &RETURN_MARGIN.as_secs_f64()]).await?;
        audit::add(&transaction, author, std::slice::from_ref(entry)).await?;
        transaction.commit().await
    }

    /// Takes that back for a letter that was not published.
    pub async fn kept_not_replayed(&self, id: Option<Uuid>) -> Result<(), StoreError> {
        const SQL: &str = "-- kept_not_replayed
            update kept_messages set return_at = null
            where id = $1 and settled_at is null and kind = 'dead'";
        let client = self.connection("record that a dead letter was not replayed").await?;
        client.execute(SQL, &[&id]).await.map(drop)
    }

    /// Records that a person discarded a dead letter.
    pub async fn kept_discard(
        &self,
        id: Option<Uuid>,
        author: &Author,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- kept_discard
            update kept_messages
            set settled_at = now(), settled_as = 'discarded', properties = '', body = ''
            where id = $1 and settled_at is null";
        let mut client = self.connection("record that a dead letter was discarded").await?;
        let transaction = client.transaction().await?;
        transaction.execute(SQL, &[&id]).await?;
        audit::add(&transaction, author, std::slice::from_ref(entry)).await?;
        transaction.commit().await
    }

    /// A page of messages with ids above `after`: those that are open, dead and waiting ones, and originals
    /// of mended events. Few megabytes.
    pub async fn kept_open(&self, after: Uuid) -> Result<Vec<Kept>, StoreError> {
        const SQL: &str = "-- kept_open
            select id, kind, properties, body
            from (
                select id, kind, properties, body,
                       sum(octet_length(body)) over (order by id) - octet_length(body) as before
                from (
                    (select id, kind, properties, body from kept_messages
                     where settled_at is null and id > $1 order by id limit 100)
                    union all
                    (select id, kind, properties, body from kept_messages
                     where mended_as is not null and body <> '' and settled_at is not null and id > $1
                     order by id limit 100)
                    order by id limit 100
                ) page
            ) sized
            where before < $2 order by id";
        let client = self.connection("read kept messages").await?;
        let rows = client.query(SQL, &[&after, &PAGE_BYTES]).await?;
        rows.iter().map(kept).collect()
    }

    /// Erases the body of a message that [`Self::kept_open`] returned, or replaces it by what is left of it.
    pub async fn kept_erase(&self, id: Uuid, rest: Option<&[u8]>) -> Result<(), StoreError> {
        const SQL: &str = "-- kept_erase
            update kept_messages
            set body = coalesce($2::bytea, ''),
                properties = case when $2 is null then '' else properties end,
                settled_at = case when $2 is null then coalesce(settled_at, now()) else settled_at end,
                settled_as = case when $2 is null then 'erased' else settled_as end
            where id = $1 and (settled_at is null or mended_as is not null)";
        let client = self.connection("erase a kept message").await?;
        client.execute(SQL, &[&id, &rest]).await.map(drop)
    }

    /// Finds an undecided dead letter.
    pub async fn kept_find(&self, id: Uuid) -> Result<Option<Kept>, StoreError> {
        const SQL: &str = "-- kept_find
            select id, kind, properties, body from kept_messages
            where id = $1 and settled_at is null and kind = 'dead'";
        let client = self.connection("find a dead letter").await?;
        client.query_opt(SQL, &[&id]).await?.as_ref().map(kept).transpose()
    }
}

pub(crate) fn kept(row: &Row) -> Result<Kept, StoreError> {
    let kind: &str = row.column("kind")?;
    Ok(Kept {
        id: row.column("id")?,
        kind: if kind == Kind::Held.code() { Kind::Held } else { Kind::Dead },
        properties: row.column("properties")?,
        body: row.column("body")?,
    })
}
