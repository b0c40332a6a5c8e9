//! How much of an index one page of deliveries looks through.
//!
//! Where few of what the index has may fit the filter, a page ends after a window of so many entries,
//! with what was found in it. The window's end is looked up first.

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::position::Position;
use super::query_shape::QueryShape;
use crate::cancel::Object;

/// Entries of an index that one page looks through at most.
const SCAN: i64 = 10_000;
/// Of these, each webhook's at least, however many webhooks there are.
const SCAN_OF_A_WEBHOOK: i64 = 100;
/// Deliveries of all users of which one page looks up the state at most: each costs as much as several
/// entries.
const SCAN_OF_STATES: i64 = 2_500;

/// What a page looks through.
pub(super) struct Window<'a> {
    pub(super) since: DateTime<Utc>,
    pub(super) below: Position,
    pub(super) webhooks: Option<&'a [Uuid]>,
    pub(super) state: Option<&'static str>,
}

/// The end of a window among the events that `$which` narrows: $1 since, $2 and $3 where it begins,
/// $4 how many entries it has.
macro_rules! end_of_events {
    ($which:literal) => {
        concat!(
            "-- deliveries_window
            select e.received_at from events e
            where ",
            $which,
            " and e.received_at >= $1 and (e.received_at, e.batch) <= ($2, $3)
            order by e.received_at desc, e.batch desc offset $4 limit 1"
        )
    };
}

/// The same for a window that has $4 deliveries: one event may have thousands.
macro_rules! end_of_planned {
    ($which:literal) => {
        concat!(
            "-- deliveries_window
            select e.received_at
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

/// The end of a window among the attempts that came to an end so: $5 the state, $6 the webhook at
/// which it begins.
const END_OF_ENDED: &str = "-- deliveries_window
    select a.since from attempts a
    where a.state = $5 and a.state in ('dead', 'dropped')
      and a.since >= $1 and (a.since, a.batch, a.webhook) < ($2, $3, $6)
    order by a.since desc, a.batch desc, a.webhook desc offset $4 limit 1";

/// The newest end of the windows of each of the webhooks $5.
const END_OF_WEBHOOKS: &str = "-- deliveries_window
    select k.since
    from unnest($5::uuid[]) as w(webhook)
    cross join lateral (
        select a.since from attempts a
        where a.webhook = w.webhook and a.entry = 1
          and a.since >= $1 and (a.since, a.batch) <= ($2, $3)
        order by a.since desc, a.batch desc offset $4 limit 1
    ) k
    order by k.since desc limit 1";

impl Window<'_> {
    /// The time down to which a page looks; `None` when all that there is fits into the window.
    pub(super) async fn end(
        &self,
        shape: QueryShape,
        client: &Object,
    ) -> Result<Option<DateTime<Utc>>, tokio_postgres::Error> {
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
            QueryShape::Time => self.end_by(client, end_of_events!("true"), SCAN, &[]).await,
            QueryShape::Open => self.end_by(client, open, SCAN, &[]).await,
            QueryShape::Ended => {
                let more: [&(dyn ToSql + Sync); 2] = [&self.state, &self.below.webhook.0];
                self.end_by(client, END_OF_ENDED, SCAN, &more).await
            }
            QueryShape::Webhooks => {
                let open = self.end_by(client, open, SCAN, &[]).await?;
                // Without a state each of a webhook's deliveries fits.
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
        client: &Object,
        sql: &str,
        entries: i64,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<DateTime<Utc>>, tokio_postgres::Error> {
        let common: [&(dyn ToSql + Sync); 4] =
            [&self.since, &self.below.at, &self.below.batch.0, &entries];
        let parameters: Vec<_> = common.into_iter().chain(more.iter().copied()).collect();
        let row = client.query_opt(sql, &parameters).await?;
        row.map(|row| row.try_get(0)).transpose()
    }
}
