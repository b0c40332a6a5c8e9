//! The part of an index that one page of deliveries reads.
//!
//! Where few entries of the index may match the filter, a page ends after a window of entries, with
//! the deliveries that were found in it. The end of the window is read first.

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::position::Position;
use super::query_shape::QueryShape;
use crate::connection::Connection;
use crate::error::StoreError;
use crate::rows::Columns as _;

/// The most entries of an index that one page reads.
pub(crate) const SCAN: i64 = 10_000;
/// The most events, or dead or dropped deliveries, that one page of all deliveries reads. Each of their
/// deliveries matches, and all of them are sorted. It is the most deliveries of a page, so that only events
/// without webhooks, and deliveries that were begun again, make a page shorter.
const SCAN_OF_ALL: i64 = 1_000;
/// The entries that each webhook gets of these at least, whatever the number of webhooks.
const SCAN_OF_A_WEBHOOK: i64 = 100;
/// The most deliveries of all users whose state one page looks up. Each look-up costs as much as
/// several entries.
const SCAN_OF_STATES: i64 = 2_500;

/// The range of an index in which a page begins.
pub(super) struct Window<'a> {
    pub(super) since: DateTime<Utc>,
    pub(super) below: Position,
    pub(super) webhooks: Option<&'a [Uuid]>,
    pub(super) state: Option<&'static str>,
}

/// The end of a window of events that meet the condition `$which`. Parameters: $1 since, $2 and $3
/// the position of its beginning, $4 its number of entries.
macro_rules! end_of_events {
    ($which:literal) => {
        concat!(
            "-- deliveries_window
            select e.received_at as at from events e
            where ",
            $which,
            " and e.received_at >= $1 and (e.received_at, e.batch) <= ($2, $3)
            order by e.received_at desc, e.batch desc offset $4 limit 1"
        )
    };
}

/// The end of a window of all events.
pub(crate) const END_OF_EVENTS: &str = end_of_events!("true");

/// The same for a window of $4 deliveries: one event may have thousands.
macro_rules! end_of_planned {
    ($which:literal) => {
        concat!(
            "-- deliveries_window
            select e.received_at as at
            from (select e.received_at, e.batch,
                         sum(cardinality(e.webhooks)) over (
                             order by e.received_at desc, e.batch desc rows unbounded preceding
                         ) as deliveries
                  from (select e.received_at, e.batch, e.webhooks from events e
                        where ",
            $which,
            "             and e.received_at >= $1 and (e.received_at, e.batch) <= ($2, $3)
                        order by e.received_at desc, e.batch desc limit $4::bigint + 1) e
                 ) e
            where e.deliveries > $4
            order by e.received_at desc, e.batch desc limit 1"
        )
    };
}

/// The end of a window of dead or dropped deliveries. Parameters as above, and $5 the state, $6 the
/// webhook at its beginning.
const END_OF_ENDED: &str = "-- deliveries_window
    select a.since as at from attempts a
    where a.state = $5 and a.since >= $1 and (a.since, a.batch, a.webhook) < ($2, $3, $6)
    order by a.since desc, a.batch desc, a.webhook desc offset $4 limit 1";

/// The newest of the ends of each webhook's window; $5 are the webhooks.
const END_OF_WEBHOOKS: &str = "-- deliveries_window
    select k.since as at
    from unnest($5::uuid[]) as w(webhook)
    cross join lateral (
        select a.since from attempts a
        where a.webhook = w.webhook and a.entry = 1
          and a.since >= $1 and (a.since, a.batch) <= ($2, $3)
          and a.received_at between $1 and $2
        order by a.since desc, a.batch desc offset $4 limit 1
    ) k
    order by k.since desc limit 1";

impl Window<'_> {
    /// The time of the window's end; `None` when all entries fit into the window.
    pub(super) async fn end(
        &self,
        shape: QueryShape,
        client: &Connection,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let open = end_of_events!("e.look_at is not null");
        let looks_up = self.webhooks.is_none() && self.state.is_some();
        match shape {
            QueryShape::Event => Ok(None),
            QueryShape::Time if looks_up => {
                self.end_by(client, end_of_planned!("true"), SCAN_OF_STATES, &[]).await
            }
            QueryShape::Open if looks_up => {
                let open = end_of_planned!("e.look_at is not null");
                self.end_by(client, open, SCAN_OF_STATES, &[]).await
            }
            QueryShape::Time => self.end_by(client, END_OF_EVENTS, SCAN_OF_ALL, &[]).await,
            QueryShape::Open => self.end_by(client, open, SCAN, &[]).await,
            QueryShape::Ended => {
                let more: [&(dyn ToSql + Sync); 2] = [&self.state, &self.below.webhook.0];
                // Without webhooks nearly each of them matches.
                let entries = if self.webhooks.is_none() { SCAN_OF_ALL } else { SCAN };
                self.end_by(client, END_OF_ENDED, entries, &more).await
            }
            QueryShape::Webhooks => {
                let open = self.end_by(client, open, SCAN, &[]).await?;
                // Without a state each of a webhook's deliveries matches.
                let (Some(webhooks), Some(_)) = (self.webhooks, self.state) else {
                    return Ok(open);
                };
                let number = i64::try_from(webhooks.len()).unwrap_or(i64::MAX).max(1);
                let each = (SCAN / number).max(SCAN_OF_A_WEBHOOK);
                let tried = self.end_by(client, END_OF_WEBHOOKS, each, &[&webhooks]).await?;
                Ok(open.max(tried))
            }
        }
    }

    async fn end_by(
        &self,
        client: &Connection,
        sql: &str,
        entries: i64,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let common: [&(dyn ToSql + Sync); 4] =
            [&self.since, &self.below.at, &self.below.batch.0, &entries];
        let parameters: Vec<_> = common.into_iter().chain(more.iter().copied()).collect();
        let row = client.query_opt(sql, &parameters).await?;
        row.map(|row| row.column("at")).transpose()
    }
}
