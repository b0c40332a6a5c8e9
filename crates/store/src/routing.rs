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
use fanfare_core::job::AttemptRef;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::attempts::delivery_key;
use crate::error::StoreError;
use crate::pool::Store;
use crate::random;
use crate::rows::Columns as _;
use crate::statement::Cached;
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

/// The longest horizon of recognition: a century. `None` counts as it.
const LONGEST_RECOGNITION: Duration = Duration::from_hours(24 * 36_500);

/// The settings by which events are routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRules {
    /// A revision below which a document is missing counts as not reached until the gap is this old,
    /// after which the document counts as lost. With `None` it never does.
    pub gap_wait: Option<Duration>,
    /// The time for which an event that is published again is recognised. With `None` it is
    /// recognised as long as its key is in the ledger.
    pub recognition: Option<Duration>,
}

impl RouteRules {
    fn recognition_seconds(self) -> f64 {
        self.recognition.unwrap_or(LONGEST_RECOGNITION).min(LONGEST_RECOGNITION).as_secs_f64()
    }
}

impl Store {
    /// Routes events, and answers in their order. No two events may have the same key. Repeated
    /// events are recognised however old they are; see [`RouteRules::gap_wait`].
    pub async fn route(
        &self,
        arrivals: &[Arrival<'_>],
        gap_wait: Option<Duration>,
    ) -> Result<Vec<Routed>, StoreError> {
        let rules = RouteRules { gap_wait, recognition: None };
        self.route_as(Routing::new()?, arrivals, rules).await
    }

    /// The same with a mark, by which [`route_own`](Self::route_own) finds the rows of an earlier
    /// try whose answer was lost.
    pub async fn route_as(
        &self,
        routing: Routing,
        arrivals: &[Arrival<'_>],
        rules: RouteRules,
    ) -> Result<Vec<Routed>, StoreError> {
        let columns = Columns::of(arrivals);
        let client = self.connection("route events").await?;
        let gap_wait = rules.gap_wait.map(|it| it.as_secs_f64());
        let (administrator, recognition) = (administrator_key(), rules.recognition_seconds());
        let mut parameters = columns.parameters();
        parameters.extend_from_slice(&[&administrator, &gap_wait, &routing.0, &recognition]);
        let rows = client.query(&Cached(ROUTE), &parameters).await?;
        rows.iter().map(routed).collect()
    }

    /// Finds those of these events that this routing wrote. No other router publishes their jobs.
    pub async fn route_own(
        &self,
        routing: Routing,
        keys: &[EventKey],
    ) -> Result<HashMap<EventKey, Routed>, StoreError> {
        const SQL: &str = "-- route_own
            select e.key, e.webhooks, e.received_at
            from event_keys k join events e using (key, batch, received_at)
            where k.key = any($1) and e.routed_by = $2";
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let client = self.connection("look for events of an earlier try").await?;
        let rows = client.query(SQL, &[&keys, &routing.0]).await?;
        let own =
            |row: &Row| Ok((EventKey(row.column("key")?), accepted(row, row.column("webhooks")?)?));
        rows.iter().map(own).collect()
    }

    /// Reads the notifications of events that came a second time.
    pub async fn route_notifications(
        &self,
        keys: &[EventKey],
    ) -> Result<HashMap<EventKey, String>, StoreError> {
        const SQL: &str = "-- route_notifications
            select e.key, e.notification
            from event_keys k join events e using (key, batch, received_at)
            where k.key = any($1)";
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let client = self.connection("read events that are known").await?;
        let rows = client.query(SQL, &[&keys]).await?;
        let known = |row: &Row| Ok((EventKey(row.column("key")?), row.column("notification")?));
        rows.iter().map(known).collect()
    }

    /// Finds the deliveries of events that came a second time and whose first jobs may be lost:
    /// those without any attempt.
    pub async fn route_unsettled(&self, keys: &[EventKey]) -> Result<Vec<AttemptRef>, StoreError> {
        const SQL: &str = "-- route_unsettled
            select distinct e.batch, p.webhook, e.received_at
            from event_keys k join events e using (key, batch, received_at)
            cross join unnest(e.webhooks) as p(webhook)
            where k.key = any($1) and e.look_at is not null
              and not exists (select from attempts a
                              where a.batch = e.batch and a.webhook = p.webhook
                                and a.received_at = e.received_at)";
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let client = self.connection("look for unsettled events").await?;
        let rows = client.query(SQL, &[&keys]).await?;
        let due = |row: &Row| {
            let (batch, webhook) = delivery_key(row)?;
            Ok(AttemptRef::first(batch, webhook, row.column("received_at")?))
        };
        rows.iter().map(due).collect()
    }
}

/// Reads the columns of `route`.
fn routed(row: &Row) -> Result<Routed, StoreError> {
    if let Some(webhooks) = row.column("webhooks")? {
        return accepted(row, webhooks);
    }
    Ok(match (row.column("forgotten")?, row.column("held")?) {
        (Some(true), _) => Routed::Forgotten,
        (_, Some(true)) => Routed::Held,
        _ => Routed::Known,
    })
}

fn accepted(row: &Row, webhooks: Vec<Uuid>) -> Result<Routed, StoreError> {
    let webhooks = webhooks.into_iter().map(WebhookId).collect();
    Ok(Routed::Accepted { webhooks, received_at: row.column("received_at")? })
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

    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
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
        ]
    }
}
