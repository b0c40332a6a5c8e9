//! Which revisions the directory has seen: read under a lock, changed, written back.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use fanfare_core::revisions::{Gap, Revisions};
use tokio_postgres::Row;

use super::DOING;
use crate::error::StoreError;

/// What the directory has seen, while nobody else may change it.
pub(super) struct State {
    pub(super) revisions: Revisions<DateTime<Utc>>,
    /// When it was read.
    pub(super) now: DateTime<Utc>,
    /// Whether a document came after a newer one.
    pub(super) late: bool,
    before: Vec<Gap<DateTime<Utc>>>,
}

impl State {
    /// Waits until nobody else changes the directory, then reads. Readers are not kept waiting.
    pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<Self, StoreError> {
        const SQL: &str = "-- directory_state
            select revision, clock_timestamp() from directory_state for update";
        const GAPS: &str = "-- directory_state
            select first_revision, last_revision, noticed_at from directory_gaps
            order by first_revision";
        let row = transaction.query_one(SQL, &[]).await.map_err(StoreError::at(DOING))?;
        let rows = transaction.query(GAPS, &[]).await.map_err(StoreError::at(DOING))?;
        let read = || {
            let gaps = rows.iter().map(gap).collect::<Result<Vec<_>, _>>()?;
            Ok(Self {
                revisions: Revisions { newest: row.try_get(0)?, gaps: gaps.clone() },
                now: row.try_get(1)?,
                late: false,
                before: gaps,
            })
        };
        read().map_err(StoreError::at(DOING))
    }

    pub(super) async fn save(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        const SQL: &str = "-- directory_state
            update directory_state
            set revision = $1, late_at = case when $2 then clock_timestamp() else late_at end";
        const CLEAR: &str = "-- directory_state\ndelete from directory_gaps";
        const GAPS: &str = "-- directory_state
            insert into directory_gaps (first_revision, last_revision, noticed_at)
            select * from unnest($1::bigint[], $2::bigint[], $3::timestamptz[])";
        let Revisions { newest, gaps } = &self.revisions;
        transaction.execute(SQL, &[newest, &self.late]).await.map_err(StoreError::at(DOING))?;
        if *gaps == self.before {
            return Ok(());
        }
        let firsts: Vec<i64> = gaps.iter().map(|gap| gap.first).collect();
        let lasts: Vec<i64> = gaps.iter().map(|gap| gap.last).collect();
        let noticed: Vec<DateTime<Utc>> = gaps.iter().map(|gap| gap.noticed).collect();
        transaction.execute(CLEAR, &[]).await.map_err(StoreError::at(DOING))?;
        transaction
            .execute(GAPS, &[&firsts, &lasts, &noticed])
            .await
            .map_err(StoreError::at(DOING))?;
        Ok(())
    }
}

/// Reads a row of `directory_gaps`.
pub(super) fn gap(row: &Row) -> Result<Gap<DateTime<Utc>>, tokio_postgres::Error> {
    Ok(Gap { first: row.try_get(0)?, last: row.try_get(1)?, noticed: row.try_get(2)? })
}
