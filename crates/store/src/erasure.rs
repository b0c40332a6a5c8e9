//! Erasure: removes the payloads of events, and of the answers to them, at a person's request.
//!
//! Each step is one transaction over a few events, and marks what it has done. So an erasure that was
//! interrupted is simply run again.

use chrono::{DateTime, Utc};
use fanfare_core::erasure::ErasureTarget;
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::name::Name;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Transaction;
use crate::error::StoreError;
use crate::located::Located;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Values;

/// The most events that one statement returns: each may have a notification of 1 MiB.
const EVENTS: i64 = 64;

/// The most answers that one statement erases.
const ANSWERS: i64 = 1000;

/// The position of an event in the order of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasurePosition {
    pub received_at: DateTime<Utc>,
    pub batch: BatchKey,
    /// Its index in the batch.
    pub position: i32,
}

/// An event that may be one of those to be erased.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub at: ErasurePosition,
    /// Its notification, if it has to be searched for a user.
    pub notification: Option<String>,
    /// The number of its deliveries that have not ended.
    pub owed: i64,
}

/// What a step has erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events whose data was removed.
    pub events: u64,
    /// Answers whose bodies, headers and errors were removed.
    pub answers: u64,
    /// Deliveries that were dropped.
    pub dropped: u64,
}

/// The position of an answer among those of a webhook.
type AnswerPosition = (DateTime<Utc>, Uuid, i32);

impl ErasurePosition {
    /// The position before all events that were routed from this time on.
    #[must_use]
    pub fn before(time: DateTime<Utc>) -> Self {
        Self { received_at: time, batch: BatchKey(Uuid::nil()), position: -1 }
    }
}

impl Store {
    /// The times at which the oldest and the newest event were routed; `None` without an event.
    pub async fn erasure_range(
        &self,
    ) -> Result<Option<(DateTime<Utc>, DateTime<Utc>)>, StoreError> {
        const SQL: &str = "-- erasure_range
            select min(received_at) as oldest, max(received_at) as newest from events";
        let client = self.connection("look for the oldest event").await?;
        let row = client.query_one(SQL, &[]).await?;
        let (oldest, newest): (Option<_>, Option<_>) =
            (row.column("oldest")?, row.column("newest")?);
        Ok(oldest.zip(newest))
    }

    /// Lists events behind a position that were routed before `until`: those about the resource, or
    /// those whose notification has to be searched for the user. The list is at its end when it is
    /// empty.
    pub async fn erasure_candidates(
        &self,
        target: &ErasureTarget,
        after: ErasurePosition,
        until: DateTime<Utc>,
    ) -> Result<Vec<Candidate>, StoreError> {
        const SQL: &str = include_str!("sql/erasure_candidates.sql");
        let client = self.connection("look for events to erase").await?;
        let rows = client
            .query(
                SQL,
                &[
                    /* received_at */ &after.received_at,
                    /* batch */ &after.batch.0,
                    /* position */ &after.position,
                    /* until */ &until,
                    /* path */ &target.path(),
                    /* needle */ &target.needle(),
                    /* limit */ &EVENTS,
                ],
            )
            .await?;
        rows.iter().map(candidate).collect()
    }

    /// Erases the payloads of events, and the answers of their deliveries. Dead letters of these
    /// deliveries count as discarded. With `drop_owed`, deliveries that have not ended are dropped;
    /// without it, events that have such deliveries are left as they are.
    pub async fn erase_events(
        &self,
        events: &[ErasurePosition],
        drop_owed: bool,
    ) -> Result<Erased, StoreError> {
        let mut client = self.connection("erase events").await?;
        let transaction = client.transaction().await?;
        let erased = erase_events(&transaction, events, drop_owed).await?;
        transaction.commit().await?;
        Ok(erased)
    }

    /// The webhooks that a user has or had.
    pub async fn erasure_webhooks(&self, owner: &Name) -> Result<Vec<WebhookId>, StoreError> {
        const SQL: &str = "-- erasure_webhooks\nselect id from webhooks where owner_key = $1";
        let client = self.connection("look for the user's webhooks").await?;
        let rows = client.query(SQL, &[&owner.key()]).await?;
        rows.iter().map(|row| Ok(WebhookId(row.column("id")?))).collect()
    }

    /// Counts the answers of a webhook that have something to erase.
    pub async fn erasure_answers(&self, webhook: WebhookId) -> Result<u64, StoreError> {
        const SQL: &str = "-- erasure_answers
            select count(*) from attempts where webhook = $1
              and (response_body is not null or error is not null or trace ? 'headers')";
        let client = self.connection("count answers").await?;
        let count: i64 = client.query_one(SQL, &[&webhook.0]).await?.column("count")?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Erases the answers of a webhook. Returns their number.
    pub async fn erase_answers(&self, webhook: WebhookId) -> Result<u64, StoreError> {
        let (mut erased, mut after) = (0, (DateTime::UNIX_EPOCH, Uuid::nil(), 0));
        while let Some((count, last)) = self.erase_some_answers(webhook, after).await? {
            (erased, after) = (erased + count, last);
        }
        Ok(erased)
    }

    /// Erases some answers behind a position. Returns their number and the last one's position.
    async fn erase_some_answers(
        &self,
        webhook: WebhookId,
        after: AnswerPosition,
    ) -> Result<Option<(u64, AnswerPosition)>, StoreError> {
        const SQL: &str = include_str!("sql/erase_answers.sql");
        let client = self.connection("erase answers").await?;
        let rows = client.query(SQL, &[&webhook.0, &after.0, &after.1, &after.2, &ANSWERS]).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let position = (last.column("since")?, last.column("batch")?, last.column("entry")?);
        Ok(Some((u64::try_from(rows.len()).unwrap_or_default(), position)))
    }

    /// Whether one of these batches has an event that was erased.
    pub async fn has_erased(&self, batches: &[BatchKey]) -> Result<bool, StoreError> {
        const SQL: &str = "-- has_erased
            select exists (select from unnest($1::uuid[], $2::timestamptz[]) k(batch, received_at)
                           join events e using (batch, received_at)
                           where e.received_at between $3 and $4 and e.payload_removed = 'erased')
                   as has_erased";
        let mut keys = Vec::with_capacity(batches.len());
        let mut times = Vec::with_capacity(batches.len());
        for batch in batches {
            keys.push(batch.0);
            times.push(self.batch_received_at(*batch).await?);
        }
        let Located { times, oldest, newest } = Located::new(times);
        let client = self.connection("look for erased events").await?;
        let row = client.query_one(SQL, &[&keys, &times, &oldest, &newest]).await?;
        row.column("has_erased")
    }
}

async fn erase_events(
    transaction: &Transaction<'_>,
    events: &[ErasurePosition],
    drop_owed: bool,
) -> Result<Erased, StoreError> {
    const LOCK: &str = "-- erase_lock
        select e.batch, e.position, e.received_at
        from unnest($1::uuid[], $2::int[], $3::timestamptz[]) t(batch, position, received_at)
        join events e using (batch, position, received_at)
        where e.received_at between $4 and $5 and (e.look_at is null or $6)
        order by e.received_at, e.batch, e.position
        for update of e";
    const EVENTS: &str = "-- erase_events
        update events e set notification = 'null', payload_removed = 'erased'
        from unnest($1::uuid[], $2::int[], $3::timestamptz[]) t(batch, position, received_at)
        where e.batch = t.batch and e.position = t.position and e.received_at = t.received_at
          and e.received_at between $4 and $5";
    const DROP: &str = include_str!("sql/erase_drop.sql");
    const DISCARD: &str = include_str!("sql/erase_discard.sql");
    const ANSWERS: &str = include_str!("sql/erase_answers_of.sql");
    let times = Located::new(events.iter().map(|event| event.received_at).collect());
    let keys: Vec<Uuid> = events.iter().map(|event| event.batch.0).collect();
    let positions: Vec<i32> = events.iter().map(|event| event.position).collect();
    let Located { times, oldest, newest } = times;
    let locked =
        transaction.query(LOCK, &[&keys, &positions, &times, &oldest, &newest, &drop_owed]).await?;
    let keys: Vec<Uuid> = locked.iter().map(|row| row.column("batch")).collect::<Result<_, _>>()?;
    let positions: Vec<i32> =
        locked.iter().map(|row| row.column("position")).collect::<Result<_, _>>()?;
    let times: Vec<DateTime<Utc>> =
        locked.iter().map(|row| row.column("received_at")).collect::<Result<_, _>>()?;
    let parameters: Values<'_> = &[&keys, &positions, &times, &oldest, &newest];
    let dropped = transaction.execute(DROP, parameters).await?;
    transaction.execute(DISCARD, &[&keys, &times, &oldest, &newest]).await?;
    let answers = transaction.execute(ANSWERS, &[&keys, &times, &oldest, &newest]).await?;
    let events = transaction.execute(EVENTS, parameters).await?;
    Ok(Erased { events, answers, dropped })
}

fn candidate(row: &Row) -> Result<Candidate, StoreError> {
    Ok(Candidate {
        at: ErasurePosition {
            received_at: row.column("received_at")?,
            batch: BatchKey(row.column("batch")?),
            position: row.column("position")?,
        },
        notification: row.column("notification")?,
        owed: row.column("owed")?,
    })
}
