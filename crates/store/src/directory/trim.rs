//! Trimming of the directory's history.

use std::time::Duration;

use super::versions;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

impl Store {
    /// Removes at most `limit` versions of users and roles that ended longer than `keep` ago.
    /// Returns how many were removed.
    ///
    /// No event in the ledger needs them: its plan is written, and a retry is decided by the newest
    /// revision. Only explanations, and events that are held for older revisions, read the history.
    pub async fn directory_trim(&self, keep: Duration, limit: i64) -> Result<u64, StoreError> {
        // The oldest revision kept is raised first. From then on no statement reads below it.
        const MOVE: &str = "-- directory_trim
            with due as (
                select id, end_revision from directory_versions
                where ended_at < now() - $1::float8 * interval '1 second'
                  and end_revision <= (select revision from directory_state)
                order by ended_at limit $2
            ), moved as (
                update directory_state
                set oldest = greatest(oldest, (select max(end_revision) from due))
                where exists (select from due)
            )
            select array_agg(id) as ids from due";
        // The newest snapshot that is older than the history still ends versions that come late.
        const SNAPSHOTS: &str = "-- directory_trim
            delete from directory_snapshots
            where revision < (select max(p.revision) from directory_snapshots p, directory_state s
                              where p.revision <= s.oldest)";
        let mut client = self.connection("trim the directory's history").await?;
        let transaction = client.transaction().await?;
        let ids: Option<Vec<i64>> =
            transaction.query_one(MOVE, &[&keep.as_secs_f64(), &limit]).await?.column("ids")?;
        let Some(ids) = ids else { return Ok(0) };
        let removed = versions::remove(&transaction, &ids).await?;
        transaction.execute(SNAPSHOTS, &[]).await?;
        transaction.commit().await?;
        Ok(removed)
    }
}
