//! The revisions that the directory has seen, which are read under a lock, changed and written
//! back.

use chrono::{DateTime, Utc};
use fanfare_core::directory::{Content, Document};
use fanfare_core::revisions::{Gap, Revisions};
use tokio_postgres::Row;

use crate::connection::Transaction;
use crate::error::StoreError;
use crate::rows::Columns as _;

/// The revisions that the directory has seen, locked against other changes.
pub(super) struct State {
    pub(super) revisions: Revisions<DateTime<Utc>>,
    /// The database's time when the state was read.
    pub(super) now: DateTime<Utc>,
    /// Whether a document came after a newer one.
    pub(super) late: bool,
    /// The revision up to which an administrator accepted all, however far ahead.
    pub(super) accepted: i64,
    before: Vec<Gap<DateTime<Utc>>>,
}

impl State {
    /// Waits until no other process changes the directory, locks it and reads it. Readers don't
    /// wait for the lock.
    pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<Self, StoreError> {
        const SQL: &str = "-- directory_state
            select revision, clock_timestamp() as now, complete, accepted_revision
            from directory_state for update";
        const GAPS: &str = "-- directory_state
            select first_revision, last_revision, noticed_at from directory_gaps
            order by first_revision";
        let row = transaction.query_one(SQL, &[]).await?;
        let rows = transaction.query(GAPS, &[]).await?;
        let gaps = rows.iter().map(gap).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            revisions: Revisions {
                newest: row.column("revision")?,
                gaps: gaps.clone(),
                complete: row.column("complete")?,
            },
            now: row.column("now")?,
            late: false,
            accepted: row.column("accepted_revision")?,
            before: gaps,
        })
    }

    /// Whether the revision of a document is credible. A refused snapshot counts whatever its
    /// revision is.
    pub(super) fn believes(&self, document: &Document) -> bool {
        let is_single = document.content.is_single();
        matches!(document.content, Content::RefusedSnapshot { .. })
            || self.believes_revision(document.revision, is_single)
    }

    /// Whether a revision is credible, of a single user or role or else of a snapshot.
    pub(super) fn believes_revision(&self, revision: i64, is_single: bool) -> bool {
        let now = self.now.timestamp_millis();
        self.revisions.is_credible(revision, is_single, now, self.accepted)
    }

    pub(super) async fn save(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        const SQL: &str = "-- directory_state
            update directory_state
            set revision = $1, late_at = case when $2 then clock_timestamp() else late_at end,
                complete = $3,
                hold = case when exists (select from directory_refusals where accepted_at is null)
                            then 'snapshot-refused'
                            when not $3 then 'incomplete' end";
        const CLEAR: &str = "-- directory_state\ndelete from directory_gaps";
        const GAPS: &str = "-- directory_state
            insert into directory_gaps (first_revision, last_revision, noticed_at)
            select * from unnest($1::bigint[], $2::bigint[], $3::timestamptz[])";
        let Revisions { newest, gaps, complete } = &self.revisions;
        transaction.execute(SQL, &[newest, &self.late, complete]).await?;
        if *gaps == self.before {
            return Ok(());
        }
        let firsts: Vec<i64> = gaps.iter().map(|gap| gap.first).collect();
        let lasts: Vec<i64> = gaps.iter().map(|gap| gap.last).collect();
        let noticed: Vec<DateTime<Utc>> = gaps.iter().map(|gap| gap.noticed).collect();
        transaction.execute(CLEAR, &[]).await?;
        transaction.execute(GAPS, &[&firsts, &lasts, &noticed]).await?;
        Ok(())
    }
}

/// Reads a row of `directory_gaps`.
pub(super) fn gap(row: &Row) -> Result<Gap<DateTime<Utc>>, StoreError> {
    Ok(Gap {
        first: row.column("first_revision")?,
        last: row.column("last_revision")?,
        noticed: row.column("noticed_at")?,
    })
}
