//! Events for people: listed, found by their publisher's id, shown with their plan.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use fanfare_core::ids::{BatchKey, DeliveryId, EventKey, WebhookId};
use fanfare_core::outcome::State;
use fanfare_core::payload::WhyRemoved;
use fanfare_core::resource::Resource;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::attempts::state;
use crate::connection::Connection;
use crate::deliveries::why_removed;
use crate::deliveries::window::{END_OF_EVENTS, SCAN};
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The range in which a page is looked for first. It opens few partitions, and most pages end in it.
const NEWEST: TimeDelta = TimeDelta::days(2);

/// The conditions of a list of events; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// A type or a filter, in the stored form of filters.
    pub event_type: Option<String>,
    pub subject: Option<Resource>,
    /// A webhook that the plan has.
    pub webhook: Option<WebhookId>,
    /// Whether all of its deliveries have ended.
    pub settled: Option<bool>,
    /// The greatest age, by the time of receipt.
    pub since: Option<Duration>,
    /// The position after which the page begins; `None` for the first page.
    pub after: Option<EventPosition>,
    /// The most events of a page.
    pub limit: i64,
}

/// The key by which an event is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPosition {
    pub received_at: DateTime<Utc>,
    /// The batch in which it was published.
    pub batch: BatchKey,
    /// Its index in the batch.
    pub position: i32,
}

impl EventFilter {
    /// Whether it leaves out events for another reason than their time.
    fn is_selective(&self) -> bool {
        self.event_type.is_some()
            || self.subject.is_some()
            || self.webhook.is_some()
            || self.settled.is_some()
    }

    /// The position below which the page begins.
    fn below(&self) -> EventPosition {
        let end = || Utc.with_ymd_and_hms(9999, 1, 1, 0, 0, 0).single().unwrap_or_default();
        self.after.unwrap_or_else(|| EventPosition::before(end()))
    }
}

impl EventPosition {
    /// The position below which a list has the events before this time, and none at it or later.
    #[must_use]
    pub fn before(received_at: DateTime<Utc>) -> Self {
        Self { received_at, batch: BatchKey(Uuid::nil()), position: 0 }
    }
}

/// A page of events, the newest first.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    pub events: Vec<EventSummary>,
    /// The position of the next page; `None` on the last page.
    pub next: Option<EventPosition>,
}

/// An event as people see it.
#[derive(Debug, Clone)]
pub struct EventSummary {
    /// The digest of source and id.
    pub key: EventKey,
    /// The `CloudEvents` id.
    pub id: String,
    /// The `CloudEvents` source.
    pub source: String,
    /// The type as published.
    pub event_type: String,
    /// The path of its resource.
    pub subject: String,
    /// When it happened, if the publisher said so.
    pub time: Option<DateTime<Utc>>,
    /// When it was received and its plan was decided.
    pub received_at: DateTime<Utc>,
    /// The batch in which it was published.
    pub batch: BatchKey,
    /// Its index in the batch.
    pub position: i32,
    /// The directory revision by which the publisher asked to decide.
    pub access_revision: Option<i64>,
    /// The directory revision by which the plan was decided.
    pub decided_revision: i64,
    /// The number of webhooks in its plan.
    pub webhooks: i32,
    /// Whether all of its deliveries have ended.
    pub settled: bool,
}

/// The properties of an event that its summary does not have.
#[derive(Debug, Clone)]
pub struct EventDetail {
    /// The notification that receivers get: flat, compact JSON.
    pub notification: String,
    /// Why its data was removed, so that the notification is null; `None` while it is there.
    pub payload_removed: Option<WhyRemoved>,
    /// The trace context that receivers get.
    pub traceparent: Option<String>,
    /// The deliveries of its plan, one for each webhook.
    pub deliveries: Vec<Planned>,
}

/// A delivery of an event's plan.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The Id that receivers see.
    pub id: DeliveryId,
    pub webhook: WebhookId,
    pub state: State,
    /// The code of the reason for which it was dropped or is dead.
    pub reason: Option<String>,
}

impl EventSummary {
    #[must_use]
    pub fn position(&self) -> EventPosition {
        let (received_at, batch, position) = (self.received_at, self.batch, self.position);
        EventPosition { received_at, batch, position }
    }
}

/// Selects the columns of [`summary`].
macro_rules! select {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
            select key, event_id, source, event_type, subject, occurred_at, received_at, batch,
                   access_revision, decided_revision, cardinality(webhooks) as webhooks,
                   look_at is null as settled, position
            from events
            ",
            $rest
        )
    };
}

impl Store {
    /// Reads a page of events, the newest first. If few may match, the page ends after a window of
    /// events, with those that match in it, even if there are none.
    pub async fn events_page(&self, filter: &EventFilter) -> Result<EventPage, StoreError> {
        const NOW: &str = "-- events_now
            select now() as now, now() - $1::float8 * interval '1 second' as since";
        let client = self.connection("list events").await?;
        let row = client.query_one(NOW, &[&filter.since.map(|age| age.as_secs_f64())]).await?;
        let now: DateTime<Utc> = row.column("now")?;
        let all = row.column::<Option<_>>("since")?.unwrap_or(DateTime::UNIX_EPOCH);
        let newest = filter.below().received_at.min(now).checked_sub_signed(NEWEST);
        let newest = newest.unwrap_or(all).max(all);
        let mut page = range(&client, filter, newest).await?;
        if page.next.is_none() && newest > all {
            page = range(&client, filter, all).await?;
        }
        Ok(page)
    }

    /// Finds the events with one of these `CloudEvents` ids, optionally of one source, sorted by id
    /// and source.
    pub async fn events_find(
        &self,
        ids: &[String],
        source: Option<&str>,
    ) -> Result<Vec<EventSummary>, StoreError> {
        const SQL: &str = select!(
            "events_find",
            "where event_id = any($1) and ($2::text is null or source = $2)
            order by event_id, source"
        );
        let client = self.connection("find events").await?;
        let rows = client.query(SQL, &[&ids, &source]).await?;
        rows.iter().map(summary).collect()
    }

    /// Reads what an event's summary does not have; `None` when there is no such event.
    pub async fn event_show(&self, key: EventKey) -> Result<Option<EventDetail>, StoreError> {
        const SQL: &str = "-- event_show
            select e.notification, e.payload_removed, e.traceparent, e.batch, p.webhook,
                   coalesce(a.state, 'pending') as state, a.reason
            from events e
            left join lateral unnest(e.webhooks) as p(webhook) on true
            left join lateral (select * from attempts a
                               where a.batch = $2 and a.webhook = p.webhook
                                 and a.received_at = $3
                               order by a.entry desc limit 1) a on true
            where e.key = $1 and e.batch = $2 and e.received_at = $3
            order by p.webhook";
        let Some((batch, received_at)) = self.event_locate(key).await? else { return Ok(None) };
        let client = self.connection("show the event").await?;
        let rows = client.query(SQL, &[&key.0, &batch.0, &received_at]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let deliveries = rows.iter().filter_map(|row| planned(row).transpose());
        let deliveries = deliveries.collect::<Result<_, _>>()?;
        Ok(Some(EventDetail {
            notification: first.column("notification")?,
            payload_removed: why_removed(first)?,
            traceparent: first.column("traceparent")?,
            deliveries,
        }))
    }
}

/// Reads the page of the events that were received at `since` or later.
async fn range(
    client: &Connection,
    filter: &EventFilter,
    since: DateTime<Utc>,
) -> Result<EventPage, StoreError> {
    let end = if filter.is_selective() { window_end(client, filter, since).await? } else { None };
    let mut events = read(client, filter, end.unwrap_or(since)).await?;
    let limit = usize::try_from(filter.limit).unwrap_or(0);
    let is_more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| is_more).map(EventSummary::position);
    // A page that is not full ends with the window, if there are events beyond it.
    Ok(EventPage { events, next: next.or_else(|| end.map(EventPosition::before)) })
}

/// The time of the end of the window in which a page begins; `None` when all events fit into it.
async fn window_end(
    client: &Connection,
    filter: &EventFilter,
    since: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let EventPosition { received_at, batch, .. } = filter.below();
    let row = client.query_opt(END_OF_EVENTS, &[&since, &received_at, &batch.0, &SCAN]).await?;
    row.map(|row| row.column("at")).transpose()
}

/// Reads the events of a page that were received at `since` or later, and one more.
async fn read(
    client: &Connection,
    filter: &EventFilter,
    since: DateTime<Utc>,
) -> Result<Vec<EventSummary>, StoreError> {
    const SQL: &str = select!(
        "events_list",
        "where ($1::text is null or lower(event_type collate \"C\") = $1
               or split_part(lower(event_type collate \"C\"), '.', 1) = $1)
          and ($2::text is null or subject = $2)
          and ($3::uuid is null or $3 = any(webhooks))
          and ($9::bool is null or $9 = (look_at is null))
          and received_at >= $4
          and (received_at, batch) <= ($6, $7) and (received_at, batch, position) < ($6, $7, $8)
        order by received_at desc, batch desc, position desc
        limit $5"
    );
    let EventPosition { received_at, batch, position } = filter.below();
    let rows = client
        .query(
            SQL,
            &[
                /* event_type */ &filter.event_type,
                /* subject */ &filter.subject.as_ref().map(ToString::to_string),
                /* webhook */ &filter.webhook.map(|id| id.0),
                /* since */ &since,
                /* limit */ &filter.limit.saturating_add(1),
                &received_at,
                /* batch */ &batch.0,
                &position,
                /* settled */ &filter.settled,
            ],
        )
        .await?;
    rows.iter().map(summary).collect()
}

fn summary(row: &Row) -> Result<EventSummary, StoreError> {
    Ok(EventSummary {
        key: EventKey(row.column("key")?),
        id: row.column("event_id")?,
        source: row.column("source")?,
        event_type: row.column("event_type")?,
        subject: row.column("subject")?,
        time: row.column("occurred_at")?,
        received_at: row.column("received_at")?,
        batch: BatchKey(row.column("batch")?),
        position: row.column("position")?,
        access_revision: row.column("access_revision")?,
        decided_revision: row.column("decided_revision")?,
        webhooks: row.column("webhooks")?,
        settled: row.column("settled")?,
    })
}

/// Reads the columns of `event_show`; `None` when the plan is empty.
fn planned(row: &Row) -> Result<Option<Planned>, StoreError> {
    let Some(webhook) = row.column("webhook")? else { return Ok(None) };
    let (batch, webhook) = (BatchKey(row.column("batch")?), WebhookId(webhook));
    let id = DeliveryId::of(batch, webhook);
    Ok(Some(Planned { id, webhook, state: state(row)?, reason: row.column("reason")? }))
}
