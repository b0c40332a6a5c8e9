//! Routing: one statement plans the events of many messages, and stores them in the ledger.
//!
//! For each event the statement finds the unpaused webhooks whose filters accept it and whose
//! owners may read its resource as of the event's revision. It inserts the events with these plans,
//! and answers a result for each. One statement is one transaction: a router that dies before its
//! end has done nothing, and one that dies after it leaves the jobs to the reconciler.

mod statement;

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::access::administrator_key;
use fanfare_core::event::Event;
use fanfare_core::filter::matching_forms;
use fanfare_core::ids::{BatchKey, EventKey, WebhookId};
use fanfare_core::job::Due;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::random;
use statement::ROUTE;

/// An event to be stored in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub event: &'a Event,
    /// The batch in which it was published.
    pub batch: BatchKey,
    /// Its index in the batch.
    pub position: usize,
}

/// The result of routing an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// The event is in the ledger, with its plan.
    Accepted {
        /// The webhooks of the plan.
        webhooks: Vec<WebhookId>,
        received_at: DateTime<Utc>,
    },
    /// The event was in the ledger already.
    Known,
    /// An event of the batch asks for a revision that the directory has not reached, or below which
    /// a document is missing; or every event is held. Nothing of the batch was written.
    Held,
    /// An event of the batch asks for a revision of which no history is kept any more. Nothing of
    /// the batch was written.
    Forgotten,
}

/// The mark of the rows of one routing, which stays the same when its statement is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing(i64);

impl Routing {
    /// Makes a mark that no other routing has.
    ///
    /// # Errors
    ///
    /// [`StoreError::Random`]
    pub fn new() -> Result<Self, StoreError> {
        random::bytes().map(|random| Self(i64::from_ne_bytes(random)))
    }
}

impl Store {
    /// Routes events, and answers in their order. No two events may have the same key.
    ///
    /// A revision below which a document is missing counts as not reached until the gap is
    /// `gap_wait` old, after which the document counts as lost. With `None` it never does.
    pub async fn route(
        &self,
        arrivals: &[Arrival<'_>],
        gap_wait: Option<Duration>,
    ) -> Result<Vec<Routed>, StoreError> {
        self.route_as(Routing::new()?, arrivals, gap_wait).await
    }

    /// The same with a mark, by which [`route_own`](Self::route_own) finds the rows of an earlier
    /// try whose answer was lost.
    pub async fn route_as(
        &self,
        routing: Routing,
        arrivals: &[Arrival<'_>],
        gap_wait: Option<Duration>,
    ) -> Result<Vec<Routed>, StoreError> {
        let columns = Columns::of(arrivals);
        let doing = "route events";
        let client = self.client().await?;
        let statement = client.prepare_cached(ROUTE).await.map_err(StoreError::at(doing))?;
        let (administrator, gap_wait) = (administrator_key(), gap_wait.map(|it| it.as_secs_f64()));
        let parameters = columns.parameters(&administrator, &gap_wait, &routing.0);
        let rows = client.query(&statement, &parameters).await;
        let rows = rows.map_err(StoreError::at(doing))?;
        rows.iter().map(routed).collect::<Result<_, _>>().map_err(StoreError::at(doing))
    }

    /// Finds those of these events that this routing wrote. No other router publishes their jobs.
    pub async fn route_own(
        &self,
        routing: Routing,
        keys: &[EventKey],
    ) -> Result<HashMap<EventKey, Routed>, StoreError> {
        const SQL: &str = "-- route_own
            select key, webhooks, received_at from events
            where key = any($1) and routed_by = $2";
        let doing = "look for events of an earlier try";
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let client = self.client().await?;
        let rows = client.query(SQL, &[&keys, &routing.0]).await.map_err(StoreError::at(doing))?;
        let own = |row: &tokio_postgres::Row| {
            let webhooks: Vec<Uuid> = row.try_get(1)?;
            let webhooks = webhooks.into_iter().map(WebhookId).collect();
            let received_at = row.try_get(2)?;
            Ok((EventKey(row.try_get(0)?), Routed::Accepted { webhooks, received_at }))
        };
        rows.iter().map(own).collect::<Result<_, _>>().map_err(StoreError::at(doing))
    }

    /// Reads the notifications of events that came a second time.
    pub async fn route_notifications(
        &self,
        keys: &[EventKey],
    ) -> Result<HashMap<EventKey, String>, StoreError> {
        const SQL: &str = "-- route_notifications
            select key, notification from events where key = any($1)";
        let doing = "read events that are known";
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let client = self.client().await?;
        let rows = client.query(SQL, &[&keys]).await.map_err(StoreError::at(doing))?;
        let known = |row: &tokio_postgres::Row| Ok((EventKey(row.try_get(0)?), row.try_get(1)?));
        rows.iter().map(known).collect::<Result<_, _>>().map_err(StoreError::at(doing))
    }

    /// Finds the deliveries of events that came a second time and whose first jobs may be lost:
    /// those without any attempt.
    pub async fn route_unsettled(&self, keys: &[EventKey]) -> Result<Vec<Due>, StoreError> {
        const SQL: &str = "-- route_unsettled
            select distinct e.batch, p.webhook
            from events e cross join unnest(e.webhooks) as p(webhook)
            where e.key = any($1) and e.look_at is not null
              and not exists (select from attempts a
                              where a.batch = e.batch and a.webhook = p.webhook)";
        let doing = "look for unsettled events";
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let client = self.client().await?;
        let rows = client.query(SQL, &[&keys]).await.map_err(StoreError::at(doing))?;
        let due = |row: &tokio_postgres::Row| {
            let (batch, webhook) = (BatchKey(row.try_get(0)?), WebhookId(row.try_get(1)?));
            Ok(Due { batch, webhook, entry: 1 })
        };
        rows.iter().map(due).collect::<Result<_, _>>().map_err(StoreError::at(doing))
    }
}

/// Reads the columns of `route`.
fn routed(row: &tokio_postgres::Row) -> Result<Routed, tokio_postgres::Error> {
    let is = |index| Ok(row.try_get::<_, Option<bool>>(index)?.unwrap_or(false));
    let webhooks: Option<Vec<Uuid>> = row.try_get(2)?;
    Ok(match webhooks {
        Some(webhooks) => Routed::Accepted {
            webhooks: webhooks.into_iter().map(WebhookId).collect(),
            received_at: row.try_get(3)?,
        },
        None if is(1)? => Routed::Forgotten,
        None if is(0)? => Routed::Held,
        None => Routed::Known,
    })
}

/// The parameters of the statement that are arrays.
#[derive(Default)]
struct Columns<'a> {
    idx: Vec<i32>,
    key: Vec<Uuid>,
    batch: Vec<Uuid>,
    position: Vec<i32>,
    source: Vec<&'a str>,
    event_id: Vec<&'a str>,
    event_type: Vec<&'a str>,
    subject: Vec<String>,
    occurred_at: Vec<Option<DateTime<Utc>>>,
    access_revision: Vec<Option<i64>>,
    traceparent: Vec<Option<&'a str>>,
    notification: Vec<&'a str>,
    filter: Vec<String>,
    typed: Vec<String>,
    asked_idx: Vec<i32>,
    asked_scope: Vec<&'a str>,
    asked_target: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(arrivals: &[Arrival<'a>]) -> Self {
        let mut columns = Self::default();
        for (idx, arrival) in (0i32..).zip(arrivals) {
            let event = arrival.event;
            let [filter, typed] = matching_forms(event.filter, &event.action);
            columns.idx.push(idx);
            columns.key.push(event.key.0);
            columns.batch.push(arrival.batch.0);
            columns.position.push(i32::try_from(arrival.position).unwrap_or(i32::MAX));
            columns.source.push(&event.source);
            columns.event_id.push(&event.id);
            columns.event_type.push(&event.event_type);
            columns.subject.push(event.resource.to_string());
            columns.occurred_at.push(event.time);
            columns.access_revision.push(event.access_revision);
            columns.traceparent.push(event.traceparent.as_deref());
            columns.notification.push(&event.notification);
            columns.filter.push(filter);
            columns.typed.push(typed);
            for (scope, target) in event.resource.read_scopes() {
                columns.asked_idx.push(idx);
                columns.asked_scope.push(scope.name());
                columns.asked_target.push(target);
            }
        }
        columns
    }

    fn parameters<'p>(
        &'p self,
        administrator: &'p String,
        gap_wait: &'p (dyn tokio_postgres::types::ToSql + Sync),
        routing: &'p i64,
    ) -> [&'p (dyn tokio_postgres::types::ToSql + Sync); 20] {
        [
            &self.idx,
            &self.key,
            &self.batch,
            &self.position,
            &self.source,
            &self.event_id,
            &self.event_type,
            &self.subject,
            &self.occurred_at,
            &self.access_revision,
            &self.traceparent,
            &self.notification,
            &self.filter,
            &self.typed,
            &self.asked_idx,
            &self.asked_scope,
            &self.asked_target,
            administrator,
            gap_wait,
            routing,
        ]
    }
}
