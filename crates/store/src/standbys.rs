//! Standbys of the database, and whether a commit waits for one.

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

impl Store {
    /// Counts the standbys that follow the database while no commit waits for one of them; 0 also
    /// when the account may not see them. A failover to such a standby loses the last commits.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database did not answer.
    pub async fn standbys_behind(&self) -> Result<i64, StoreError> {
        // A base backup is a connection of this kind, too, but it is no standby.
        const SQL: &str = "-- standbys_behind
            select count(*) from pg_stat_replication
            where current_setting('synchronous_standby_names') = ''
              and coalesce(state, '') <> 'backup'";
        let client = self.connection("look for standbys").await?;
        client.query_one(SQL, &[]).await?.column("count")
    }
}
