//! The ledger as workers read and write it.
//!
//! A first attempt reads nothing. Every other attempt is claimed first ([`claims`](crate::claims)),
//! so that only one of two workers with copies of a job makes it. The worker then reads the history
//! of the delivery.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::answer::Trace;
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::State;
use fanfare_core::payload;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::error::StoreError;
use crate::located::Located;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// A row of the ledger: an attempt, or a decision to make none.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The delivery, and the sequence number of this row in its history.
    pub due: AttemptRef,
    /// POSTs made so far, this one included.
    pub attempt: i32,
    /// POSTs in this series.
    pub tries: i32,
    /// When the series began.
    pub since: DateTime<Utc>,
    /// The delivery's state after this row.
    pub state: State,
    /// The code of the reason for which the delivery was dropped or is dead.
    pub reason: Option<&'static str>,
    /// The reason in words, or the events that a POST left out and why.
    pub detail: Option<String>,
    /// `None` for a decision to make no attempt.
    pub post: Option<Post>,
    /// The time at which the decision was made or the POST began.
    pub at: DateTime<Utc>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The directory revision by which it was decided; 0 for that of the plan.
    pub revision: i64,
}

/// One POST.
#[derive(Debug, Clone)]
pub struct Post {
    pub duration: Duration,
    /// The code of the outcome.
    pub outcome: &'static str,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The error, for a person.
    pub error: Option<String>,
    /// The beginning of the response's body.
    pub response_body: Option<String>,
    /// The course of the exchange; `None` for a plain success.
    pub trace: Option<Box<Trace>>,
}

/// The last row of a delivery's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// The sequence number.
    pub entry: i32,
    /// POSTs so far.
    pub attempt: i32,
    /// POSTs in this series.
    pub tries: i32,
    /// When the series began.
    pub since: DateTime<Utc>,
    pub state: State,
    /// The code of the reason for which the delivery was dropped or is dead.
    pub reason: Option<String>,
    /// HTTP status of the POST, if there was an answer.
    pub status: Option<i32>,
    /// The time at which the decision was made or the POST began.
    pub at: DateTime<Utc>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The directory revision by which it was decided.
    pub revision: i64,
    /// Whether all events of the delivery were sent, so that the revision allowed each of them.
    pub whole: bool,
}

/// The facts by which an attempt after the first is decided.
#[derive(Debug, Clone)]
pub struct DeliveryHistory {
    /// `None` while the delivery has no row.
    pub last: Option<Last>,
    /// The events of the batch whose plan has this webhook, in order.
    pub events: Vec<PlannedEvent>,
    /// The newest directory revision.
    pub revision: i64,
    /// The time at which a directory document last came after a newer one, and so changed the
    /// access as of an older revision.
    pub late_at: Option<DateTime<Utc>>,
    /// Whether no decision may be made by the directory, because it is incomplete or a snapshot was
    /// refused.
    pub held: bool,
}

/// An event of a delivery.
#[derive(Debug, Clone)]
pub struct PlannedEvent {
    /// `None` when the delivery's notifications are too large to be read with those of others.
    pub notification: Option<String>,
    /// The notification's size in bytes.
    pub size: usize,
    /// The path of the event's resource.
    pub subject: String,
    /// The type as published.
    pub event_type: String,
    /// The `CloudEvents` id.
    pub event_id: String,
    /// The trace context to pass to the receiver.
    pub traceparent: Option<String>,
    /// The directory revision by which the plan was decided.
    pub decided_revision: i64,
    pub received_at: DateTime<Utc>,
}

impl PlannedEvent {
    /// Whether its data was removed. The size says so as well, so that the data need not be read.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.size == payload::REMOVED.len()
    }
}

impl Store {
    /// Writes rows. A row that is there already stays. The positions in `entries` are returned whose
    /// rows are those of another attempt: it was made twice. A row that this call wrote before, when
    /// its answer was lost, is none of them.
    pub async fn attempts_record(&self, entries: &[Entry]) -> Result<Vec<usize>, StoreError> {
        const SQL: &str = "-- attempts_record
            insert into attempts (batch, webhook, entry, attempt, tries, since, state, reason,
                                  at, duration_ms, outcome, status, error, response_body,
                                  next_attempt_at, revision, detail, trace, received_at)
            select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::int[],
                $6::timestamptz[], $7::text[], $8::text[], $9::timestamptz[], $10::int[],
                $11::text[], $12::int[], $13::text[], $14::text[], $15::timestamptz[],
                $16::bigint[], $17::text[], $18::jsonb[], $19::timestamptz[])
            on conflict do nothing";
        fn column<'a, T>(entries: &'a [Entry], of: impl Fn(&'a Entry) -> T) -> Vec<T> {
            entries.iter().map(of).collect()
        }
        let post = |entry: &Entry| {
            entry
                .post
                .as_ref()
                .map(|post| i32::try_from(post.duration.as_millis()).unwrap_or(i32::MAX))
        };
        let dues: Vec<AttemptRef> = entries.iter().map(|entry| entry.due).collect();
        let located = self.locate(&dues).await?;
        let client = self.connection("record attempts").await?;
        let written = client
            .execute(
                &Cached(SQL),
                &[
                    /* batch */ &column(entries, |e| e.due.batch.0),
                    /* webhook */ &column(entries, |e| e.due.webhook.0),
                    /* entry */ &column(entries, |e| e.due.sequence),
                    /* attempt */ &column(entries, |e| e.attempt),
                    /* tries */ &column(entries, |e| e.tries),
                    /* since */ &column(entries, |e| e.since),
                    /* state */ &column(entries, |e| e.state.name()),
                    /* reason */ &column(entries, |e| e.reason),
                    /* at */ &column(entries, |e| e.at),
                    /* duration_ms */ &column(entries, post),
                    /* outcome */ &column(entries, |e| e.post.as_ref().map(|p| p.outcome)),
                    /* status */
                    &column(entries, |e| e.post.as_ref().and_then(|p| p.status.map(i32::from))),
                    /* error */
                    &column(entries, |e| e.post.as_ref().and_then(|p| p.error.as_deref())),
                    /* response_body */
                    &column(entries, |e| e.post.as_ref().and_then(|p| p.response_body.as_deref())),
                    /* next_attempt_at */ &column(entries, |e| e.next_attempt_at),
                    /* revision */ &column(entries, |e| e.revision),
                    /* detail */ &column(entries, |e| e.detail.as_deref()),
                    /* trace */
                    &column(entries, |e| {
                        e.post.as_ref().and_then(|p| p.trace.as_deref().map(Json))
                    }),
                    /* received_at */ &located.times,
                ],
            )
            .await?;
        drop(client);
        if usize::try_from(written).is_ok_and(|written| written == entries.len()) {
            return Ok(Vec::new());
        }
        self.attempts_of_others(entries, &located).await
    }

    /// The positions of the rows that the ledger has from another attempt, which began at another
    /// time.
    async fn attempts_of_others(
        &self,
        entries: &[Entry],
        located: &Located,
    ) -> Result<Vec<usize>, StoreError> {
        const SQL: &str = "-- attempts_of_others
            select e.position
            from unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[], $5::timestamptz[])
                with ordinality as e(batch, webhook, entry, at, received_at, position)
            join attempts a using (batch, webhook, entry, received_at)
            where a.at <> e.at and a.received_at between $6 and $7";
        let dues: Vec<AttemptRef> = entries.iter().map(|entry| entry.due).collect();
        let (batches, webhooks, numbers) = columns(&dues);
        let at: Vec<DateTime<Utc>> = entries.iter().map(|entry| entry.at).collect();
        let client = self.connection("look for attempts that were made twice").await?;
        let Located { times, oldest, newest } = located;
        let rows = client
            .query(&Cached(SQL), &[&batches, &webhooks, &numbers, &at, times, oldest, newest])
            .await?;
        let position = |row: &Row| {
            let position: i64 = row.column("position")?;
            Ok(usize::try_from(position - 1).unwrap_or_default())
        };
        rows.iter().map(position).collect()
    }

    /// Reads the histories of deliveries, in the order of `dues`. Notifications are read only for
    /// deliveries that have at most `inline` bytes of them.
    pub async fn delivery_histories(
        &self,
        dues: &[AttemptRef],
        inline: usize,
    ) -> Result<Vec<DeliveryHistory>, StoreError> {
        let located = self.locate(dues).await?;
        let lasts = self.lasts(dues, &located).await?;
        let mut events = self.planned_events(dues, &located, inline).await?;
        let (revision, late_at, held) = self.directory_age().await?;
        let history = |(index, last): (usize, Option<Last>)| DeliveryHistory {
            last,
            events: events.get_mut(index).map(std::mem::take).unwrap_or_default(),
            revision,
            late_at,
            held,
        };
        Ok(lasts.into_iter().enumerate().map(history).collect())
    }

    async fn directory_age(&self) -> Result<(i64, Option<DateTime<Utc>>, bool), StoreError> {
        const SQL: &str = "-- directory_age
            select revision, late_at, hold is not null as held from directory_state";
        let client = self.connection("read the directory's age").await?;
        let row = client.query_one(&Cached(SQL), &[]).await?;
        Ok((row.column("revision")?, row.column("late_at")?, row.column("held")?))
    }

    /// Reads the last rows of deliveries, in the order of `dues`.
    pub async fn attempts_last(
        &self,
        dues: &[AttemptRef],
    ) -> Result<Vec<Option<Last>>, StoreError> {
        self.lasts(dues, &self.locate(dues).await?).await
    }

    async fn lasts(
        &self,
        dues: &[AttemptRef],
        located: &Located,
    ) -> Result<Vec<Option<Last>>, StoreError> {
        const SQL: &str = "-- attempts_last
            select a.entry, a.attempt, a.tries, a.since, a.state, a.reason, a.status,
                   a.next_attempt_at, a.revision, a.at,
                   a.outcome is not null and a.detail is null as whole
            from unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
                with ordinality as d(batch, webhook, received_at, idx)
            left join lateral (select * from attempts a
                               where a.batch = d.batch and a.webhook = d.webhook
                                 and a.received_at = d.received_at
                                 and a.received_at between $4 and $5
                               order by a.entry desc limit 1) a on true
            order by d.idx";
        let (batches, webhooks, _) = columns(dues);
        let Located { times, oldest, newest } = located;
        let client = self.connection("read attempts").await?;
        let rows =
            client.query(&Cached(SQL), &[&batches, &webhooks, times, oldest, newest]).await?;
        rows.iter().map(last).collect()
    }

    /// Reads the events of one delivery with their notifications, whatever their size. It reads
    /// nothing else, because the caller has already decided about the delivery and must not mix in
    /// newer facts.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database did not answer.
    pub async fn delivery_events(&self, due: AttemptRef) -> Result<Vec<PlannedEvent>, StoreError> {
        let located = self.locate(&[due]).await?;
        let mut events = self.planned_events(&[due], &located, usize::MAX).await?;
        Ok(events.pop().unwrap_or_default())
    }

    async fn planned_events(
        &self,
        dues: &[AttemptRef],
        located: &Located,
        inline: usize,
    ) -> Result<Vec<Vec<PlannedEvent>>, StoreError> {
        const SQL: &str = "-- planned_events
            select d.idx,
                   case when sum(octet_length(e.notification)) over (partition by d.idx) <= $3
                        then e.notification end as notification,
                   e.subject, e.event_type, e.event_id, e.traceparent, e.decided_revision,
                   e.received_at, octet_length(e.notification) as size
            from unnest($1::uuid[], $2::uuid[], $4::timestamptz[])
                with ordinality as d(batch, webhook, received_at, idx)
            join events e on e.batch = d.batch and d.webhook = any(e.webhooks)
                         and e.received_at = d.received_at and e.received_at between $5 and $6
            order by d.idx, e.position";
        let (batches, webhooks, _) = columns(dues);
        let inline = i64::try_from(inline).unwrap_or(i64::MAX);
        let client = self.connection("read the events of deliveries").await?;
        let Located { times, oldest, newest } = located;
        let rows = client
            .query(&Cached(SQL), &[&batches, &webhooks, &inline, times, oldest, newest])
            .await?;
        let mut events: Vec<Vec<PlannedEvent>> = dues.iter().map(|_| Vec::new()).collect();
        for row in rows {
            let (index, event) = planned_event(&row)?;
            if let Some(of_delivery) = events.get_mut(index) {
                of_delivery.push(event);
            }
        }
        Ok(events)
    }
}

pub(crate) fn columns(dues: &[AttemptRef]) -> (Vec<Uuid>, Vec<Uuid>, Vec<i32>) {
    let batches = dues.iter().map(|due| due.batch.0).collect();
    let webhooks = dues.iter().map(|due| due.webhook.0).collect();
    (batches, webhooks, dues.iter().map(|due| due.sequence).collect())
}

/// Reads the columns of `attempts_last`.
fn last(row: &Row) -> Result<Option<Last>, StoreError> {
    let Some(entry) = row.column("entry")? else { return Ok(None) };
    Ok(Some(Last {
        entry,
        attempt: row.column("attempt")?,
        tries: row.column("tries")?,
        since: row.column("since")?,
        state: state(row)?,
        reason: row.column("reason")?,
        status: row.column("status")?,
        next_attempt_at: row.column("next_attempt_at")?,
        revision: row.column("revision")?,
        at: row.column("at")?,
        whole: row.column("whole")?,
    }))
}

/// Reads the key of a delivery from the columns `batch` and `webhook`.
pub(crate) fn delivery_key(row: &Row) -> Result<(BatchKey, WebhookId), StoreError> {
    Ok((BatchKey(row.column("batch")?), WebhookId(row.column("webhook")?)))
}

/// Reads the state of a delivery from the column `state`.
pub(crate) fn state(row: &Row) -> Result<State, StoreError> {
    State::parse(row.column("state")?)
        .ok_or(StoreError::Inconsistent { table: "attempts", column: "state" })
}

fn planned_event(row: &Row) -> Result<(usize, PlannedEvent), StoreError> {
    let ordinal: i64 = row.column("idx")?;
    let event = PlannedEvent {
        notification: row.column("notification")?,
        subject: row.column("subject")?,
        event_type: row.column("event_type")?,
        event_id: row.column("event_id")?,
        traceparent: row.column("traceparent")?,
        decided_revision: row.column("decided_revision")?,
        received_at: row.column("received_at")?,
        size: usize::try_from(row.column::<i32>("size")?).unwrap_or_default(),
    };
    // Ordinality counts from 1.
    Ok((usize::try_from(ordinal - 1).unwrap_or(usize::MAX), event))
}

impl Store {
    /// Finds a delivery by the Id that receivers see, through the events of its batch.
    pub async fn delivery_find(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(BatchKey, WebhookId)>, StoreError> {
        Ok(self.delivery_locate(id).await?.map(|(batch, webhook, _)| (batch, webhook)))
    }

    /// Finds a delivery, and the time at which its events were routed last.
    pub(crate) async fn delivery_locate(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(BatchKey, WebhookId, DateTime<Utc>)>, StoreError> {
        const SQL: &str = "-- delivery_find
            select distinct e.received_at, e.batch, p.webhook
            from unnest($1::uuid[], $2::timestamptz[]) as k(batch, received_at)
            join events e using (batch, received_at)
            cross join unnest(e.webhooks) as p(webhook)
            where e.received_at between $3 and $4
            order by e.received_at desc";
        let (batches, located) = self.batches_locate(id.batches()).await?;
        let Located { times, oldest, newest } = &located;
        let client = self.connection("find the delivery").await?;
        let rows = client.query(SQL, &[&batches, times, oldest, newest]).await?;
        for row in rows {
            let (batch, webhook) = delivery_key(&row)?;
            if DeliveryId::of(batch, webhook) == id {
                return Ok(Some((batch, webhook, row.column("received_at")?)));
            }
        }
        Ok(None)
    }
}
