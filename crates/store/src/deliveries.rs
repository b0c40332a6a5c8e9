//! Deliveries for people: listed, shown with their attempts, asked for again.

use chrono::{DateTime, Utc};
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::Due;
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::pool::Store;

/// Which deliveries to list; `None` does not ask.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Of this webhook.
    pub webhook: Option<WebhookId>,
    /// Of the event with this `CloudEvents` id.
    pub event: Option<String>,
    /// Of this owner's webhooks.
    pub owner: Option<Name>,
    /// Standing so.
    pub state: Option<State>,
    /// Just this one.
    pub delivery: Option<(BatchKey, WebhookId)>,
    /// At most so many, the newest first.
    pub limit: i64,
}

/// A delivery as people see it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The Id that receivers see.
    pub id: DeliveryId,
    /// The webhook.
    pub webhook: WebhookId,
    /// Its owner.
    pub owner: Option<String>,
    /// Its URI.
    pub uri: Option<String>,
    /// The `CloudEvents` ids of its events, in order.
    pub events: Vec<String>,
    /// Their types.
    pub types: Vec<String>,
    /// Where it stands.
    pub state: State,
    /// POSTs so far.
    pub attempts: i32,
    /// HTTP status of the last POST, if it got an answer.
    pub last_status: Option<i32>,
    /// Why it was dropped or is dead.
    pub reason: Option<String>,
    /// The reason in words, or what its last POST left out and why.
    pub detail: Option<String>,
    /// The directory revision that the last decision was made by, if it was not the plan's own.
    pub revision: Option<i64>,
    /// When its events were taken in.
    pub created_at: DateTime<Utc>,
    /// When it came to its end.
    pub finished_at: Option<DateTime<Utc>>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// One POST of a delivery.
#[derive(Debug, Clone)]
pub struct AttemptLog {
    /// Its number, from 1.
    pub attempt: i32,
    /// When it began.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: Option<i32>,
    /// HTTP status, if there was an answer.
    pub status: Option<i32>,
    /// The outcome's code.
    pub outcome: String,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub response_body: Option<String>,
}

impl Store {
    /// Lists deliveries, the newest first.
    pub async fn deliveries_list(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<Vec<Delivery>, StoreError> {
        const SQL: &str = "-- deliveries_list
            select e.batch, p.webhook, w.owner, w.uri,
                   array_agg(e.event_id order by e.position),
                   array_agg(e.event_type order by e.position),
                   coalesce(a.state, 'pending'), coalesce(a.attempt, 0),
                   (select s.status from attempts s
                    where s.batch = e.batch and s.webhook = p.webhook and s.outcome is not null
                    order by s.entry desc limit 1),
                   a.reason, min(e.received_at),
                   case when a.state in ('delivered', 'dropped', 'dead')
                        then a.at + coalesce(a.duration_ms, 0) * interval '1 millisecond' end,
                   a.next_attempt_at, a.detail, nullif(a.revision, 0)
            from events e
            cross join unnest(e.webhooks) as p(webhook)
            left join webhooks w on w.id = p.webhook
            left join lateral (select * from attempts a
                               where a.batch = e.batch and a.webhook = p.webhook
                               order by a.entry desc limit 1) a on true
            where ($1::uuid is null or p.webhook = $1)
              and ($2::text is null or e.batch in (select b.batch from events b where b.event_id = $2))
              and ($3::text is null or w.owner_key = $3)
              and ($4::text is null or coalesce(a.state, 'pending') = $4)
              and ($5::uuid is null or e.batch = $5)
            group by e.batch, p.webhook, w.owner, w.uri, a.state, a.attempt, a.reason, a.at,
                     a.duration_ms, a.next_attempt_at, a.detail, a.revision
            order by min(e.received_at) desc, e.batch, p.webhook
            limit $6";
        let doing = "list deliveries";
        let (batch, one) = match filter.delivery {
            Some((batch, webhook)) => (Some(batch.0), Some(webhook)),
            None => (None, None),
        };
        let client = self.client().await?;
        let rows = client
            .query(
                SQL,
                &[
                    /* webhook */ &filter.webhook.or(one).map(|id| id.0),
                    /* event_id */ &filter.event,
                    /* owner */ &filter.owner.as_ref().map(Name::key),
                    /* state */ &filter.state.map(State::name),
                    /* batch */ &batch,
                    /* limit */ &filter.limit,
                ],
            )
            .await
            .map_err(StoreError::at(doing))?;
        rows.iter().map(delivery).collect()
    }

    /// A delivery and its POSTs in order.
    pub async fn delivery_show(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Vec<AttemptLog>)>, StoreError> {
        const SQL: &str = "-- delivery_show
            select attempt, at, duration_ms, status, outcome, error, response_body
            from attempts where batch = $1 and webhook = $2 and outcome is not null
            order by entry";
        let doing = "show the delivery";
        let Some((batch, webhook)) = self.delivery_find(id).await? else {
            return Ok(None);
        };
        let filter =
            DeliveryFilter { delivery: Some((batch, webhook)), limit: 1, ..Default::default() };
        let Some(delivery) = self.deliveries_list(&filter).await?.pop() else {
            return Ok(None);
        };
        let client = self.client().await?;
        let rows =
            client.query(SQL, &[&batch.0, &webhook.0]).await.map_err(StoreError::at(doing))?;
        let log = rows.iter().map(attempt_log).collect::<Result<_, _>>();
        Ok(Some((delivery, log.map_err(StoreError::at(doing))?)))
    }

    /// Begins a new chain of attempts for a delivery on a person's demand; the job to publish is
    /// returned. `None` when there is no such delivery, or its first attempt is still owed anyway.
    ///
    /// `only_dead` is for dead letters: a delivery that has moved on since is left alone.
    pub async fn delivery_restart(
        &self,
        batch: BatchKey,
        webhook: WebhookId,
        only_dead: bool,
    ) -> Result<Option<Due>, StoreError> {
        const SQL: &str = "-- delivery_restart
            with last as (
                select * from attempts where batch = $1 and webhook = $2
                order by entry desc limit 1
            ), begun as (
                insert into attempts (batch, webhook, entry, delivery, attempt, tries, since, state,
                                      at, revision)
                select batch, webhook, entry + 1, delivery, attempt, 0, now(), 'pending', now(),
                       revision
                from last where state <> 'pending' and (not $3 or state = 'dead')
                on conflict do nothing
                returning batch, entry
            ), looked as (
                update events set look_at = now() + interval '60 seconds'
                where batch = (select batch from begun)
            )
            select entry + 1 from begun";
        let doing = "begin the delivery again";
        let client = self.client().await?;
        let row = client.query_opt(SQL, &[&batch.0, &webhook.0, &only_dead]).await;
        let Some(row) = row.map_err(StoreError::at(doing))? else {
            return Ok(None);
        };
        let entry = row.try_get(0).map_err(StoreError::at(doing))?;
        Ok(Some(Due { batch, webhook, entry }))
    }
}

fn delivery(row: &Row) -> Result<Delivery, StoreError> {
    let doing = "read a delivery";
    let state: &str = row.try_get(6).map_err(StoreError::at(doing))?;
    let state = State::parse(state)
        .ok_or(StoreError::Inconsistent { table: "attempts", column: "state" })?;
    let read = || {
        let (batch, webhook) = (BatchKey(row.try_get(0)?), WebhookId(row.try_get(1)?));
        Ok(Delivery {
            id: DeliveryId::of(batch, webhook),
            webhook,
            owner: row.try_get(2)?,
            uri: row.try_get(3)?,
            events: row.try_get(4)?,
            types: row.try_get(5)?,
            state,
            attempts: row.try_get(7)?,
            last_status: row.try_get(8)?,
            reason: row.try_get(9)?,
            created_at: row.try_get(10)?,
            finished_at: row.try_get(11)?,
            next_attempt_at: row.try_get(12)?,
            detail: row.try_get(13)?,
            revision: row.try_get(14)?,
        })
    };
    read().map_err(StoreError::at(doing))
}

fn attempt_log(row: &Row) -> Result<AttemptLog, tokio_postgres::Error> {
    Ok(AttemptLog {
        attempt: row.try_get(0)?,
        at: row.try_get(1)?,
        duration_ms: row.try_get(2)?,
        status: row.try_get(3)?,
        outcome: row.try_get(4)?,
        error: row.try_get(5)?,
        response_body: row.try_get(6)?,
    })
}
