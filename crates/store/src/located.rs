//! Where the ledger has a delivery: the time at which its events were routed leads to its partition.
//!
//! References carry that time. For the others it is looked up among the keys of events and batches.
//! A batch that the ledger does not know counts as routed at the beginning of 1970: its rows are in
//! the default partitions, so that they are found and unique as others are.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use fanfare_core::ids::{BatchKey, EventKey};
use fanfare_core::job::AttemptRef;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// The times at which the events of some deliveries were routed, in the deliveries' order, and the
/// bounds of these times. A statement that has the bounds as parameters opens only the partitions
/// between them.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) times: Vec<DateTime<Utc>>,
    pub(crate) oldest: DateTime<Utc>,
    pub(crate) newest: DateTime<Utc>,
}

impl Located {
    pub(crate) fn new(times: Vec<DateTime<Utc>>) -> Self {
        let oldest = times.iter().min().copied().unwrap_or_default();
        let newest = times.iter().max().copied().unwrap_or_default();
        Self { times, oldest, newest }
    }
}

impl Store {
    /// Locates the deliveries of attempts.
    pub(crate) async fn locate(&self, dues: &[AttemptRef]) -> Result<Located, StoreError> {
        let without = |due: &&AttemptRef| due.received_at.is_none();
        let keys: Vec<Uuid> = dues.iter().filter(without).map(|due| due.batch.0).collect();
        let known = self.received_at(&keys).await?;
        let time = |due: &AttemptRef| {
            due.received_at.or_else(|| known.get(&due.batch.0).copied()).unwrap_or_default()
        };
        Ok(Located::new(dues.iter().map(time).collect()))
    }

    /// The time at which the events of a batch were routed.
    pub(crate) async fn batch_received_at(
        &self,
        batch: BatchKey,
    ) -> Result<DateTime<Utc>, StoreError> {
        Ok(self.received_at(&[batch.0]).await?.remove(&batch.0).unwrap_or_default())
    }

    /// The events of these that were routed, and when last: routers drop them as duplicates.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub async fn events_routed_at(
        &self,
        keys: &[EventKey],
    ) -> Result<HashMap<EventKey, DateTime<Utc>>, StoreError> {
        let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let found = self.received_at(&keys).await?;
        Ok(found.into_iter().map(|(key, at)| (EventKey(key), at)).collect())
    }

    async fn received_at(&self, keys: &[Uuid]) -> Result<HashMap<Uuid, DateTime<Utc>>, StoreError> {
        const SQL: &str = "-- received_at
            select key, max(received_at) as received_at from event_keys
            where key = any($1) group by key";
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let client = self.connection("look for the time of a delivery").await?;
        let rows = client.query(&Cached(SQL), &[&keys]).await?;
        rows.iter().map(|row| Ok((row.column("key")?, row.column("received_at")?))).collect()
    }

    /// Finds the batch of an event, and the time at which it was routed last; `None` when there is no
    /// such event.
    pub(crate) async fn event_locate(
        &self,
        event: EventKey,
    ) -> Result<Option<(BatchKey, DateTime<Utc>)>, StoreError> {
        const SQL: &str = "-- event_locate
            select batch, received_at from event_keys
            where key = $1 order by received_at desc limit 1";
        let client = self.connection("look for the event").await?;
        let row = client.query_opt(SQL, &[&event.0]).await?;
        let place = |row: &Row| Ok((BatchKey(row.column("batch")?), row.column("received_at")?));
        row.as_ref().map(place).transpose()
    }

    /// The batches of this range of keys, and the times at which their events were routed.
    pub(crate) async fn batches_locate(
        &self,
        (first, last): (BatchKey, BatchKey),
    ) -> Result<(Vec<Uuid>, Located), StoreError> {
        const SQL: &str = "-- batches_locate
            select distinct key, received_at from event_keys where key between $1 and $2";
        let client = self.connection("look for a delivery").await?;
        let rows = client.query(SQL, &[&first.0, &last.0]).await?;
        let keys = rows.iter().map(|row| row.column("key")).collect::<Result<_, _>>()?;
        let times = rows.iter().map(|row| row.column("received_at")).collect::<Result<_, _>>()?;
        Ok((keys, Located::new(times)))
    }
}
