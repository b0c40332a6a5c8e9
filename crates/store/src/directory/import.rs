//! A snapshot of any size, part by part, while routing goes on.
//!
//! Each part is written in a short transaction of its own, at a revision that nobody asks by yet;
//! the last one ends what the snapshot does not name and moves the directory to its revision. An
//! import that dies half-way has changed no answer, and the next one begins anew.

use deadpool_postgres::Object;
use fanfare_core::directory::{RoleDocument, UserDocument};

use super::state::State;
use super::versions::{self, Version};
use super::{Applied, DOING};
use crate::error::StoreError;
use crate::pool::Store;

/// Some users and roles of a snapshot.
#[derive(Debug, Default)]
pub struct Part {
    /// Users.
    pub users: Vec<UserDocument>,
    /// Roles.
    pub roles: Vec<RoleDocument>,
}

/// A snapshot on its way in. Only one at a time, in all processes.
pub struct Import {
    client: Object,
    revision: i64,
    versions: usize,
}

const LOCK: &str = "-- directory_import\nselect pg_try_advisory_lock(hashtext('fanfare.import'))";
const UNLOCK: &str = "-- directory_import\nselect pg_advisory_unlock(hashtext('fanfare.import'))";

impl Store {
    /// Begins to take the snapshot of a revision; `None` when that was taken before.
    ///
    /// # Errors
    ///
    /// [`StoreError::ImportUnderWay`] while another process takes one.
    pub async fn directory_import(&self, revision: i64) -> Result<Option<Import>, StoreError> {
        // What an import that died has left; a version that others rely on is at or below the
        // newest revision.
        const LEFT: &str = "-- directory_import
            select array_agg(v.id) from directory_versions v, directory_state s
            where v.begin_revision = $1 and s.revision < $1";
        let client = self.client().await?;
        let ours: bool = client
            .query_one(LOCK, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(StoreError::at(DOING))?;
        if !ours {
            return Err(StoreError::ImportUnderWay);
        }
        let mut import = Import { client, revision, versions: 0 };
        let transaction = import.client.transaction().await.map_err(StoreError::at(DOING))?;
        State::lock(&transaction).await?;
        let known = versions::knows_snapshot(&transaction, revision).await?;
        if !known {
            let row = transaction.query_one(LEFT, &[&revision]).await;
            let left: Option<Vec<i64>> =
                row.and_then(|row| row.try_get(0)).map_err(StoreError::at(DOING))?;
            versions::remove(&transaction, &left.unwrap_or_default()).await?;
        }
        transaction.commit().await.map_err(StoreError::at(DOING))?;
        if known {
            import.unlock().await?;
            return Ok(None);
        }
        Ok(Some(import))
    }
}

impl Import {
    /// Writes a part.
    pub async fn put(&mut self, part: &Part) -> Result<(), StoreError> {
        let revision = self.revision;
        let transaction = self.client.transaction().await.map_err(StoreError::at(DOING))?;
        let mut state = State::lock(&transaction).await?;
        let users = part.users.iter().map(|user| Version::of_user(revision, user));
        let roles = part.roles.iter().map(|role| Version::of_role(revision, role));
        let all: Vec<Version<'_>> = users.chain(roles).collect();
        let new = versions::put(&transaction, &all).await?;
        state.late = new > 0 && revision < state.revisions.newest;
        state.save(&transaction).await?;
        transaction.commit().await.map_err(StoreError::at(DOING))?;
        self.versions += new;
        Ok(())
    }

    /// Makes the snapshot count.
    pub async fn finish(mut self) -> Result<Applied, StoreError> {
        let revision = self.revision;
        let transaction = self.client.transaction().await.map_err(StoreError::at(DOING))?;
        let mut state = State::lock(&transaction).await?;
        versions::end_snapshot(&transaction, revision).await?;
        state.late = state.revisions.see_snapshot(revision);
        state.save(&transaction).await?;
        transaction.commit().await.map_err(StoreError::at(DOING))?;
        let applied = Applied { versions: self.versions, revision: state.revisions.newest };
        self.unlock().await?;
        Ok(applied)
    }

    /// Gives up: what was written changes no answer, and goes with the next import.
    pub async fn cancel(self) -> Result<(), StoreError> {
        self.unlock().await
    }

    /// Lets others import. Without this the connection would take the lock back into the pool.
    async fn unlock(self) -> Result<(), StoreError> {
        self.client.query_one(UNLOCK, &[]).await.map_err(StoreError::at(DOING))?;
        Ok(())
    }
}
