//! A snapshot of any size, part by part, while routing goes on.
//!
//! Each part is written in a short transaction of its own, staged: at a revision that nobody asks
//! by and no document meets. The last step gives all of it its revision, ends what the snapshot
//! does not name, and moves the directory. An import that dies has changed no answer; what it left
//! goes with the next one.

use fanfare_core::directory::{RoleDocument, UserDocument};

use super::state::State;
use super::versions::{self, STAGED, Version};
use super::{Applied, DOING};
use crate::error::StoreError;
use crate::pool::{Object, Store};

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
    revision: Option<i64>,
    versions: usize,
}

const LOCK: &str = "-- directory_import\nselect pg_try_advisory_lock(hashtext('fanfare.import'))";
const UNLOCK: &str = "-- directory_import\nselect pg_advisory_unlock(hashtext('fanfare.import'))";

impl Store {
    /// Begins to take the snapshot of a revision, or of the one that is next when it is complete;
    /// `None` when that revision's was taken before.
    ///
    /// # Errors
    ///
    /// [`StoreError::ImportUnderWay`] while another process takes one.
    pub async fn directory_import(
        &self,
        revision: Option<i64>,
    ) -> Result<Option<Import>, StoreError> {
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
        versions::clear_staged(&transaction).await?;
        let known = match revision {
            Some(revision) => versions::knows_snapshot(&transaction, revision).await?,
            None => false,
        };
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
        let transaction = self.client.transaction().await.map_err(StoreError::at(DOING))?;
        let users = part.users.iter().map(|user| Version::of_user(STAGED, user));
        let roles = part.roles.iter().map(|role| Version::of_role(STAGED, role));
        let all: Vec<Version<'_>> = users.chain(roles).collect();
        let new = versions::put(&transaction, &all).await?;
        transaction.commit().await.map_err(StoreError::at(DOING))?;
        self.versions += new;
        Ok(())
    }

    /// Makes the snapshot count.
    pub async fn finish(mut self) -> Result<Applied, StoreError> {
        let transaction = self.client.transaction().await.map_err(StoreError::at(DOING))?;
        let mut state = State::lock(&transaction).await?;
        let revision = self.revision.unwrap_or(state.revisions.newest + 1);
        if versions::knows_snapshot(&transaction, revision).await? {
            // It came another way meanwhile.
            versions::clear_staged(&transaction).await?;
        } else {
            versions::unstage(&transaction, revision).await?;
            versions::end_snapshot(&transaction, revision).await?;
            state.late = revision <= state.revisions.newest;
            state.revisions.see_snapshot(revision);
            state.save(&transaction).await?;
        }
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
