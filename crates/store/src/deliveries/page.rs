//! Pages of deliveries, the newest first.
//!
//! The ledger has no row for a delivery: its plan is in the rows of its events, and its history in
//! the attempts. A page first finds the keys of its deliveries, by the [`QueryShape`] whose index
//! is in the list's order and has as few other entries as possible. It then reads the rest for
//! these keys alone. So a page costs about the same with a thousand attempts and with ten million.
//!
//! Where few entries of the index may match, a page ends after a [`Window`] of entries, with the
//! deliveries that were found in it, even if there are none. The next page begins there. The end of
//! the window is read first, from the index alone.
//!
//! A statement opens the partitions of its range of times. So a page is looked for in its newest days
//! first, and in all of them only if it does not end there.
//!
//! A key is (time, batch, webhook), and never changes. The next page begins right below the last
//! key, so new deliveries neither move nor repeat others. The time is the one at which the events
//! were received, which the first row of a history has as `since`. For dead and dropped deliveries
//! it is the time at which the last series began, which is later after a restart.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use fanfare_core::payload::WhyRemoved;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::position::Position;
use super::query_shape::QueryShape;
use super::window::Window;
use super::{Delivery, DeliveryFilter};
use crate::attempts::{delivery_key, state};
use crate::connection::Connection;
use crate::error::StoreError;
use crate::located::Located;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The range in which a page is looked for first. It opens few partitions, and most pages end in it.
const NEWEST: TimeDelta = TimeDelta::days(2);

/// A page of deliveries.
#[derive(Debug, Clone, Default)]
pub struct DeliveryPage {
    pub deliveries: Vec<Delivery>,
    /// The position after which the next page begins; `None` on the last page.
    pub next: Option<Position>,
}

/// The statement that finds the keys of a page. Parameters: $1 since, $2 to $4 the position below which
/// it begins, $5 webhooks, $6 state, $7 limit.
macro_rules! page {
    ($name:literal, $keys:expr) => {
        concat!(
            "-- deliveries_list (",
            $name,
            ")
            select * from (",
            $keys,
            ") page order by at desc, batch desc, webhook desc limit $7"
        )
    };
}

/// Reads the deliveries of keys. Parameters: $1 to $4 the keys, with the times at which their events
/// were routed; $5 and $6 the bounds of these times, between which partitions are opened.
const SHOWN: &str = "-- deliveries_shown
    select k.batch, k.webhook, w.owner, w.uri, v.ids, v.types,
           coalesce(a.state, 'pending') as state, coalesce(a.attempt, 0) as attempts,
           s.status, a.reason, k.received_at,
           case when a.state in ('delivered', 'dropped', 'dead')
                then a.at + coalesce(a.duration_ms, 0) * interval '1 millisecond' end
               as finished_at,
           case when coalesce(a.state, 'pending') in ('pending', 'retrying')
                then greatest(a.next_attempt_at, put_off.until) end as next_attempt_at,
           a.detail, nullif(a.revision, 0) as revision, k.at, v.payload_removed,
           case when coalesce(a.state, 'pending') in ('pending', 'retrying')
                 and h.hold_until > now() then h.hold_until end as held_until
    from unnest($1::timestamptz[], $2::uuid[], $3::uuid[], $4::timestamptz[])
        as k(at, batch, webhook, received_at)
    left join webhooks w on w.id = k.webhook
    left join webhook_paces h on h.webhook = k.webhook
    -- When what its webhook's pace has put off comes back.
    left join lateral (select coalesce(max(c.deferred_until), h.hold_until) as until
                       from claims c
                       where c.batch = k.batch and c.webhook = k.webhook
                         and c.deferred_until > now()) put_off
           on h.webhook is not null and (put_off.until > now())
    -- An event's row may be missing, when a backup was restored without it.
    cross join lateral (select coalesce(array_agg(e.event_id order by e.position), '{}') as ids,
                               coalesce(array_agg(e.event_type order by e.position), '{}') as types,
                               max(e.payload_removed) as payload_removed
                        from events e
                        where e.batch = k.batch and k.webhook = any(e.webhooks)
                          and e.received_at = k.received_at
                          and e.received_at between $5 and $6) v
    left join lateral (select * from attempts a
                       where a.batch = k.batch and a.webhook = k.webhook
                         and a.received_at = k.received_at and a.received_at between $5 and $6
                       order by a.entry desc limit 1) a on true
    left join lateral (select s.status from attempts s
                       where s.batch = k.batch and s.webhook = k.webhook
                         and s.received_at = k.received_at and s.received_at between $5 and $6
                         and s.outcome is not null
                       order by s.entry desc limit 1) s on true
    order by k.at desc, k.batch desc, k.webhook desc";

/// The keys from the plans of those events that meet the condition `$which`. The events of a batch
/// have one time.
///
/// The keys are made in their order first, and filtered by state and webhook after that, behind a
/// fence (`offset 0`). The planner can't estimate how many will match, and when it estimates few it
/// sorts ten million rows to find the first hundred.
macro_rules! planned {
    ($which:literal) => {
        concat!(
            "select k.at, k.batch, k.webhook, k.at as received_at from (
                 select distinct e.received_at as at, e.batch, p.webhook
                 from events e cross join unnest(e.webhooks) as p(webhook)
                 where ",
            $which,
            "      and ($5::uuid[] is null or p.webhook = any($5))
                   and e.received_at >= $1 and (e.received_at, e.batch) <= ($2, $3)
                   and (e.received_at, e.batch, p.webhook) < ($2, $3, $4)
                 order by at desc, batch desc, webhook desc offset 0
             ) k
             where ($6::text is null
                    or coalesce((select a.state from attempts a
                                 where a.batch = k.batch and a.webhook = k.webhook
                                   and a.received_at = k.at and a.received_at between $1 and $2
                                 order by a.entry desc limit 1), 'pending') = $6)
             limit $7"
        )
    };
}

const EVENT: &str = page!("event", planned!("e.event_id = $8"));
const TIME: &str = page!("time", planned!("true"));
const OPEN: &str = page!("open", planned!("e.look_at is not null"));

/// Attempted deliveries are found by the first rows of their histories, the others among the events
/// that are not settled. A state is looked up behind a fence, as above; a limit that is null is one.
/// A delivery whose event the ledger does not know counts as received in 1970.
const WEBHOOKS: &str = page!(
    "webhooks",
    "(select k.at, k.batch, w.webhook, k.received_at
      from unnest($5::uuid[]) as w(webhook)
      cross join lateral (
          select a.since as at, a.batch, a.received_at
          from (select a.since, a.batch, a.webhook, a.received_at
                from attempts a
                where a.webhook = w.webhook and a.entry = 1
                  and a.since >= $1 and (a.since, a.batch) <= ($2, $3)
                  and (a.since, a.batch, a.webhook) < ($2, $3, $4)
                  and (a.received_at between $1 and $2
                       or a.received_at < '1971-01-01 00:00:00+00')
                order by a.since desc, a.batch desc
                limit case when $6::text is null then $7::bigint end) a
          where ($6::text is null
                 or (select l.state from attempts l
                     where l.batch = a.batch and l.webhook = a.webhook
                       and l.received_at = a.received_at and l.received_at between $1 and $2
                     order by l.entry desc limit 1) = $6)
          limit $7
      ) k)
     union all
     (select distinct e.received_at, e.batch, p.webhook, e.received_at
      from events e cross join unnest(e.webhooks) as p(webhook)
      where e.look_at is not null and p.webhook = any($5)
        and e.received_at >= $1 and (e.received_at, e.batch) <= ($2, $3)
        and (e.received_at, e.batch, p.webhook) < ($2, $3, $4)
        and ($6::text is null or $6 = 'pending')
        and not exists (select from attempts a
                        where a.batch = e.batch and a.webhook = p.webhook
                          and a.received_at = e.received_at and a.received_at between $1 and $2)
      order by 1 desc, 2 desc, 3 desc limit $7)"
);

/// The state is a value when the statement is planned, so that its partial index is chosen without the
/// index's condition. With it, the planner multiplies the shares of both and estimates too few rows.
const ENDED: &str = page!(
    "ended",
    "select a.since as at, a.batch, a.webhook, a.received_at
     from attempts a
     where a.state = $6 and a.since >= $1 and (a.since, a.batch, a.webhook) < ($2, $3, $4)
       and a.received_at <= $2
       and ($5::uuid[] is null or a.webhook = any($5))
       and not exists (select from attempts l
                       where l.batch = a.batch and l.webhook = a.webhook and l.entry > a.entry
                         and l.received_at = a.received_at)
     order by a.since desc, a.batch desc, a.webhook desc limit $7"
);

impl QueryShape {
    fn statement(self) -> &'static str {
        match self {
            Self::Event => EVENT,
            Self::Time => TIME,
            Self::Open => OPEN,
            Self::Webhooks => WEBHOOKS,
            Self::Ended => ENDED,
        }
    }
}

impl Store {
    /// Reads a page of deliveries, the newest first.
    pub async fn deliveries_page(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<DeliveryPage, StoreError> {
        let webhooks = self.webhooks_asked(filter).await?;
        let webhooks = webhooks.as_deref();
        if webhooks.is_some_and(<[Uuid]>::is_empty) {
            return Ok(DeliveryPage::default());
        }
        let below = filter.below();
        let shape = QueryShape::of(filter, webhooks);
        let Some(all) = self.oldest_listed(shape, filter).await? else {
            return Ok(DeliveryPage::default());
        };
        let wanted = Wanted {
            shape,
            below,
            webhooks,
            state: filter.state.map(State::name),
            event: filter.event.as_deref(),
            // One more row shows whether there is another page.
            limit: filter.limit.saturating_add(1),
        };
        // A cursor may be of any time.
        let newest = below.at.min(Utc::now()).checked_sub_signed(NEWEST);
        let newest = newest.unwrap_or(all).max(all);
        let client = self.connection("list deliveries").await?;
        let mut found = Found::default();
        if newest > all && wanted.shape.is_by_receipt() {
            found = wanted.find(&client, newest).await?;
        }
        if !found.is_page(filter.limit) {
            found = wanted.find(&client, all).await?;
        }
        drop(client);
        let Found { mut keys, end } = found;
        let limit = usize::try_from(filter.limit).unwrap_or(0);
        let is_more = keys.len() > limit;
        keys.truncate(limit);
        let next = keys.last().filter(|_| is_more).map(|key| key.position);
        Ok(DeliveryPage {
            // A page that is not full ends with the window, if there are entries beyond it.
            next: next.or_else(|| end.map(Position::before)),
            deliveries: self.deliveries_shown(&keys).await?,
        })
    }

    /// The beginning of the range of a list; `None` when nothing can be on it. What is not settled is mostly
    /// new, so that the days before the oldest of it are not opened.
    async fn oldest_listed(
        &self,
        shape: QueryShape,
        filter: &DeliveryFilter,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let since = filter.since.unwrap_or(DateTime::UNIX_EPOCH);
        if shape != QueryShape::Open {
            return Ok(Some(since));
        }
        Ok(self.oldest_unsettled().await?.map(|oldest| since.max(oldest)))
    }

    /// Reads the deliveries of keys, in the order of the list.
    async fn deliveries_shown(&self, keys: &[Key]) -> Result<Vec<Delivery>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let at: Vec<DateTime<Utc>> = keys.iter().map(|key| key.position.at).collect();
        let batches: Vec<Uuid> = keys.iter().map(|key| key.position.batch.0).collect();
        let webhooks: Vec<Uuid> = keys.iter().map(|key| key.position.webhook.0).collect();
        let located = Located::new(keys.iter().map(|key| key.received_at).collect());
        let Located { times, oldest, newest } = &located;
        let client = self.connection("show deliveries").await?;
        let rows = client.query(SHOWN, &[&at, &batches, &webhooks, times, oldest, newest]).await?;
        rows.iter().map(delivery).collect()
    }

    /// Reads a delivery whose events were routed at this time.
    pub(super) async fn delivery_one(
        &self,
        batch: BatchKey,
        webhook: WebhookId,
        received_at: DateTime<Utc>,
    ) -> Result<Option<Delivery>, StoreError> {
        let key = Key { position: Position { at: received_at, batch, webhook }, received_at };
        Ok(self.deliveries_shown(&[key]).await?.pop())
    }

    /// The webhooks whose deliveries are listed; `None` for all.
    async fn webhooks_asked(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<Option<Vec<Uuid>>, StoreError> {
        const SQL: &str = "-- webhooks_asked
            select coalesce(array_agg(id), '{}') as ids from webhooks
            where owner_key = $1 and ($2::uuid is null or id = $2)";
        let webhook = filter.webhook.map(|id| id.0);
        let Some(owner) = &filter.owner else {
            return Ok(webhook.map(|id| vec![id]));
        };
        let client = self.connection("look up an owner's webhooks").await?;
        client.query_one(SQL, &[&Name::key(owner), &webhook]).await?.column("ids").map(Some)
    }
}

/// The deliveries of a page, wherever its range ends.
struct Wanted<'a> {
    shape: QueryShape,
    below: Position,
    webhooks: Option<&'a [Uuid]>,
    state: Option<&'static str>,
    event: Option<&'a str>,
    limit: i64,
}

/// The keys that were found in a range, and the end of its window.
#[derive(Default)]
struct Found {
    keys: Vec<Key>,
    end: Option<DateTime<Utc>>,
}

impl Found {
    /// Whether this is the page, and older deliveries can't be on it.
    fn is_page(&self, limit: i64) -> bool {
        self.end.is_some() || i64::try_from(self.keys.len()).unwrap_or(i64::MAX) > limit
    }
}

impl Wanted<'_> {
    /// Finds the keys in the range from `since` on, or in its first window.
    async fn find(&self, client: &Connection, since: DateTime<Utc>) -> Result<Found, StoreError> {
        let Self { shape, below, webhooks, state, event, limit } = self;
        let window = Window { since, below: *below, webhooks: *webhooks, state: *state };
        let end = window.end(*shape, client).await?;
        let since = end.unwrap_or(since);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![
            /* since */ &since,
            /* at */ &below.at,
            /* batch */ &below.batch.0,
            /* webhook */ &below.webhook.0,
            webhooks,
            state,
            limit,
        ];
        if *shape == QueryShape::Event {
            parameters.push(event);
        }
        let rows = client.query(shape.statement(), &parameters).await?;
        Ok(Found { keys: rows.iter().map(key).collect::<Result<_, _>>()?, end })
    }
}

/// The key of a delivery of a page.
struct Key {
    position: Position,
    /// When its events were routed.
    received_at: DateTime<Utc>,
}

fn key(row: &Row) -> Result<Key, StoreError> {
    let (batch, webhook) = delivery_key(row)?;
    let position = Position { at: row.column("at")?, batch, webhook };
    Ok(Key { position, received_at: row.column("received_at")? })
}

/// The detail of a delivery that waits because its webhook is held.
fn held(until: Option<DateTime<Utc>>) -> Option<String> {
    let until = until?.to_rfc3339_opts(SecondsFormat::Secs, true);
    Some(format!("the receiver asked to wait until {until}"))
}

/// Why a payload was removed. A later version may have written another reason.
pub(crate) fn why_removed(row: &Row) -> Result<Option<WhyRemoved>, StoreError> {
    let code: Option<&str> = row.column("payload_removed")?;
    Ok(code.map(|code| WhyRemoved::parse(code).unwrap_or(WhyRemoved::Erased)))
}

fn delivery(row: &Row) -> Result<Delivery, StoreError> {
    let (batch, webhook) = delivery_key(row)?;
    let detail: Option<String> = row.column("detail")?;
    Ok(Delivery {
        id: DeliveryId::of(batch, webhook),
        webhook,
        owner: row.column("owner")?,
        uri: row.column("uri")?,
        events: row.column("ids")?,
        types: row.column("types")?,
        state: state(row)?,
        attempts: row.column("attempts")?,
        last_status: row.column("status")?,
        reason: row.column("reason")?,
        detail: detail.or(held(row.column("held_until")?)),
        revision: row.column("revision")?,
        created_at: row.column("received_at")?,
        finished_at: row.column("finished_at")?,
        next_attempt_at: row.column("next_attempt_at")?,
        payload_removed: why_removed(row)?,
    })
}
