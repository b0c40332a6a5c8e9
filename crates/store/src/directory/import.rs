//! Imports of snapshots of any size, part by part, while routing goes on.
//!
//! Each part is staged in a short transaction of its own: it is written at a revision by which no
//! statement reads. The last step gives all parts the snapshot's revision, ends the users and roles
//! that the snapshot does not name, and advances the directory. An import that was not finished has
//! no effect, and the next one removes its parts.

use fanfare_core::audit::entry::Imported;
use fanfare_core::audit::{Author, Entry};
use fanfare_core::directory::{RoleDocument, UserDocument};
use fanfare_core::revisions::Revisions;

use super::state::State;
use super::versions::{self, STAGED, Version};
use super::{Applied, DOING, departures};
use crate::audit;
use crate::connection::{Connection, Transaction};
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// A part of a snapshot.
#[derive(Debug, Default)]
pub struct Part {
    pub users: Vec<UserDocument>,
    pub roles: Vec<RoleDocument>,
}

/// The treatment of the directory's history when a snapshot is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// The history stays, as with a snapshot that the report server publishes.
    Continue,
    /// The history and the revision are removed, for a directory whose history is wrong.
    Reset,
}

/// An import that is under way. All processes together have one at a time.
pub struct Import {
    client: Connection,
    revision: Option<i64>,
    mode: ImportMode,
    versions: usize,
}

const LOCK: &str = "-- directory_import
    select pg_try_advisory_lock(hashtext('fanfare.import')) as locked";
const UNLOCK: &str = "-- directory_import\nselect pg_advisory_unlock(hashtext('fanfare.import'))";

impl Store {
    /// Begins to import the snapshot of a revision. Without one, the snapshot gets the next
    /// revision when it is finished. `None` when a snapshot of that revision was applied already.
    ///
    /// # Errors
    ///
    /// [`StoreError::ImportUnderWay`] while another process imports one, and
    /// [`StoreError::RevisionJump`] when the revision is too far ahead to be credible.
    pub async fn directory_import(
        &self,
        revision: Option<i64>,
        mode: ImportMode,
    ) -> Result<Option<Import>, StoreError> {
        let client = self.connection(DOING).await?;
        if !client.query_one(LOCK, &[]).await?.column("locked")? {
            return Err(StoreError::ImportUnderWay);
        }
        let mut import = Import { client, revision, mode, versions: 0 };
        let transaction = import.client.transaction().await?;
        versions::clear_staged(&transaction).await?;
        let state = State::lock(&transaction).await?;
        let jump = revision.filter(|revision| !state.believes_revision(*revision, false));
        let known = match revision {
            Some(revision) if mode == ImportMode::Continue => {
                versions::knows_snapshot(&transaction, revision).await?
            }
            _ => false,
        };
        transaction.commit().await?;
        if let Some(revision) = jump {
            import.unlock().await?;
            return Err(StoreError::RevisionJump { revision });
        }
        if known {
            import.unlock().await?;
            return Ok(None);
        }
        Ok(Some(import))
    }
}

impl Import {
    /// Stages a part.
    pub async fn put(&mut self, part: &Part) -> Result<(), StoreError> {
        let transaction = self.client.transaction().await?;
        let users = part.users.iter().map(|user| Version::of_user(STAGED, user));
        let roles = part.roles.iter().map(|role| Version::of_role(STAGED, role));
        let all: Vec<Version<'_>> = users.chain(roles).collect();
        let new = versions::put(&transaction, &all).await?;
        transaction.commit().await?;
        self.versions += new;
        Ok(())
    }

    /// Puts the snapshot into force.
    pub async fn finish(mut self, author: &Author) -> Result<Applied, StoreError> {
        let transaction = self.client.transaction().await?;
        let mut state = State::lock(&transaction).await?;
        let before = state.revisions.newest;
        let mut paused = 0;
        let revision = self.revision.unwrap_or_else(|| state.revisions.newest.saturating_add(1));
        if self.mode == ImportMode::Reset {
            forget(&transaction, revision).await?;
            state.revisions = Revisions { newest: revision, ..Revisions::default() };
        }
        if versions::knows_snapshot(&transaction, revision).await? {
            // The snapshot was applied from another source meanwhile.
            versions::clear_staged(&transaction).await?;
        } else {
            versions::unstage(&transaction, revision).await?;
            versions::end_snapshot(&transaction, revision).await?;
            state.late = revision <= state.revisions.newest;
            state.revisions.see_snapshot(revision);
            paused = departures::pause(&transaction, None).await?;
            state.save(&transaction).await?;
            let imported = Imported {
                revision: state.revisions.newest,
                documents: self.versions,
                reset: self.mode == ImportMode::Reset,
            };
            let entry = Entry::directory_imported(before, imported);
            audit::add(&transaction, author, &[entry]).await?;
        }
        transaction.commit().await?;
        let (versions, revision) = (self.versions, state.revisions.newest);
        let applied = Applied { versions, revision, jumps: Vec::new(), paused };
        self.unlock().await?;
        Ok(applied)
    }

    /// Gives up the import. Its parts have no effect, and the next import removes them.
    pub async fn cancel(self) -> Result<(), StoreError> {
        self.unlock().await
    }

    /// Releases the lock, which the connection would otherwise keep in the pool.
    async fn unlock(self) -> Result<(), StoreError> {
        self.client.query_one(UNLOCK, &[]).await?;
        Ok(())
    }
}

/// Removes all of the directory except the staged snapshot. A user who is in the directory now, but
/// not in the snapshot, is recorded as deleted at the snapshot's revision.
async fn forget(transaction: &Transaction<'_>, revision: i64) -> Result<(), StoreError> {
    const BEFORE: &str = "-- directory_forget
        update directory_departures set revision = least(revision, $1::bigint - 1)";
    const GONE: &str = "-- directory_forget
        insert into directory_departures (name_key, revision)
        select v.name_key, $1
        from directory_versions v cross join directory_state s
        where v.kind = 'user' and not v.deleted
          and v.begin_revision between 0 and s.revision
          and (v.end_revision is null or v.end_revision > s.revision)
          and not exists (select from directory_versions n
                          where n.kind = 'user' and n.name_key = v.name_key
                            and n.begin_revision = $2)
        on conflict (name_key) do update
            set revision = excluded.revision, returned_revision = null";
    const STATE: &str = "-- directory_forget
        update directory_state set oldest = $1, accepted_revision = 0";
    const REST: [&str; 5] = [
        "-- directory_forget
        delete from directory_grants
        where version_id in (select id from directory_versions where begin_revision <> $1)",
        "-- directory_forget
        delete from directory_members
        where version_id in (select id from directory_versions where begin_revision <> $1)",
        "-- directory_forget\ndelete from directory_versions where begin_revision <> $1",
        "-- directory_forget\ndelete from directory_snapshots where revision <> $1",
        "-- directory_forget\ndelete from directory_refusals where revision <> $1",
    ];
    transaction.execute(BEFORE, &[&revision]).await?;
    transaction.execute(GONE, &[&revision, &STAGED]).await?;
    transaction.execute(STATE, &[&revision]).await?;
    for sql in REST {
        transaction.execute(sql, &[&STAGED]).await?;
    }
    Ok(())
}
