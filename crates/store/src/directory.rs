//! The directory: documents come in, in any order, and are read as of a revision.
//!
//! Each version of a document is valid from its own revision to that of the next version of the
//! same document, or of the next snapshot. By this rule the order in which documents arrive makes
//! no difference, and access can be asked for as of any revision. *Now* is always the newest
//! revision seen. `import` stages a large snapshot in small steps, and the last step puts it into
//! force. `trim` removes versions that ended long ago.

mod departures;
mod import;
mod listing;
mod refold;
mod refusals;
mod state;
mod trim;
mod versions;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use fanfare_core::audit::entry::Imported;
use fanfare_core::audit::{Author, Entry};
use fanfare_core::directory::{Content, Document};
use fanfare_core::revisions::{Hold, Revisions};
use tokio_postgres::Row;

pub use import::{Import, ImportMode, Part};
pub use listing::{Listed, Member, Permission, Readable};
pub use refold::Refolded;
pub(crate) use refold::refold;
pub use refusals::{Refusal, Void};

use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;
use state::State;
use versions::Version;

/// The result of applying documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The number of versions of users and roles that were new.
    pub versions: usize,
    /// The newest revision afterwards.
    pub revision: i64,
    /// The indexes of the documents that were not applied, because their revisions are too far
    /// ahead.
    pub jumps: Vec<usize>,
    /// The number of webhooks that were paused, because their owner's name is another person's now.
    pub paused: usize,
}

/// The state of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryState {
    /// The newest revision seen, which is 0 before the first document, and the gaps below it.
    pub revisions: Revisions<DateTime<Utc>>,
    /// The oldest revision of which history is kept; 0 for all.
    pub oldest: i64,
    /// The reason for which every event is held; `None` when none is.
    pub hold: Option<Hold>,
    /// Refused snapshots that were neither replaced nor accepted, the oldest first.
    pub refusals: Vec<Refusal>,
    /// Users and roles whose newest document was refused, so that they grant nothing.
    pub voids: Vec<Void>,
}

/// The status of a user now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserStatus {
    Enabled,
    /// The user has no permissions for now.
    Disabled,
    /// The directory does not have the user, or not any more.
    Deleted,
}

impl UserStatus {
    /// Reads the columns `enabled` and `deleted` of a user's version, which are null without one.
    pub(crate) fn of(row: &Row) -> Result<Self, StoreError> {
        Ok(match (row.column("enabled")?, row.column("deleted")?) {
            (Some(true), Some(false)) => Self::Enabled,
            (Some(false), Some(false)) => Self::Disabled,
            _ => Self::Deleted,
        })
    }
}

const DOING: &str = "apply a directory document";

impl Store {
    /// Applies documents. It skips versions that are known already, and documents whose revisions
    /// are too far ahead to be credible.
    pub async fn directory_apply(&self, documents: &[Document]) -> Result<Applied, StoreError> {
        let mut client = self.connection(DOING).await?;
        let transaction = client.transaction().await?;
        let applied = take(&transaction, documents).await?;
        transaction.commit().await?;
        Ok(applied)
    }

    /// Applies all documents, or none when the revision of one is too far ahead to be credible.
    ///
    /// # Errors
    ///
    /// [`StoreError::RevisionJump`] with the first such revision.
    pub async fn directory_apply_all(
        &self,
        documents: &[Document],
        author: &Author,
    ) -> Result<Applied, StoreError> {
        const BEFORE: &str = "-- directory_revision
            select revision from directory_state for update";
        let mut client = self.connection(DOING).await?;
        let transaction = client.transaction().await?;
        let before: i64 = transaction.query_one(BEFORE, &[]).await?.column("revision")?;
        let applied = take(&transaction, documents).await?;
        let jump = applied.jumps.first().and_then(|place| documents.get(*place));
        if let Some(jump) = jump {
            return Err(StoreError::RevisionJump { revision: jump.revision });
        }
        let (revision, documents) = (applied.revision, applied.versions);
        if documents > 0 || revision != before {
            let imported = Imported { revision, documents, reset: false };
            let entry = Entry::directory_imported(before, imported);
            audit::add(&transaction, author, &[entry]).await?;
        }
        transaction.commit().await?;
        Ok(applied)
    }

    /// Reads the newest revision seen; 0 before the first document.
    pub async fn directory_revision(&self) -> Result<i64, StoreError> {
        const SQL: &str = "-- directory_revision\nselect revision from directory_state";
        let client = self.connection("read the directory's revision").await?;
        client.query_one(SQL, &[]).await?.column("revision")
    }

    /// Reads the state of the directory.
    pub async fn directory_state(&self) -> Result<DirectoryState, StoreError> {
        const SQL: &str = "-- directory_state
            select g.first_revision, g.last_revision, g.noticed_at, s.revision, s.oldest,
                   s.complete, s.hold
            from directory_state s left join directory_gaps g on true
            order by g.first_revision";
        let client = self.connection("read the directory's state").await?;
        let rows = client.query(SQL, &[]).await?;
        let mut state = DirectoryState {
            revisions: Revisions::default(),
            oldest: 0,
            hold: None,
            refusals: refusals::open(&client).await?,
            voids: refusals::voids(&client).await?,
        };
        for row in rows {
            state.revisions.newest = row.column("revision")?;
            state.oldest = row.column("oldest")?;
            state.revisions.complete = row.column("complete")?;
            state.hold = row.column::<Option<&str>>("hold")?.and_then(Hold::parse);
            if row.column::<Option<i64>>("first_revision")?.is_some() {
                state.revisions.gaps.push(state::gap(&row)?);
            }
        }
        Ok(state)
    }

    /// Reads the status of users now, by folded name.
    pub async fn user_status(
        &self,
        keys: &[&str],
    ) -> Result<HashMap<String, UserStatus>, StoreError> {
        const SQL: &str = "-- user_status
            select asked.key, v.enabled, v.deleted
            from unnest($1::text[]) as asked(key)
            cross join directory_state s
            left join directory_versions v
              on v.kind = 'user' and v.name_key = asked.key and v.begin_revision <= s.revision
              and (v.end_revision is null or v.end_revision > s.revision)";
        let client = self.connection("look up users").await?;
        let rows = client.query(&Cached(SQL), &[&keys]).await?;
        rows.iter().map(|row| Ok((row.column("key")?, UserStatus::of(row)?))).collect()
    }
}

/// The result of writing documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Changes {
    /// The number of versions that were new.
    new: usize,
    /// The number of versions that a snapshot ended.
    ended: usize,
}

/// Applies documents in the order of their revisions.
async fn take(
    transaction: &Transaction<'_>,
    documents: &[Document],
) -> Result<Applied, StoreError> {
    let mut state = State::lock(transaction).await?;
    let newest = state.revisions.newest;
    let mut in_order: Vec<(usize, &Document)> = documents.iter().enumerate().collect();
    in_order.sort_by_key(|(_, document)| document.revision);
    let (mut late, mut new, mut jumps) = (Vec::new(), Vec::new(), Vec::new());
    for (place, document) in in_order {
        let revision = document.revision;
        let is_snapshot = matches!(document.content, Content::Snapshot { .. });
        if is_snapshot && versions::knows_snapshot(transaction, revision).await? {
            continue;
        }
        if !state.believes(document) {
            // A refused document is a dead letter already.
            if !document.content.is_void() {
                jumps.push(place);
            }
            continue;
        }
        match document.content {
            Content::Snapshot { .. } => state.revisions.see_snapshot(revision),
            Content::RefusedSnapshot { .. } => {}
            _ => state.revisions.see(revision, state.now),
        }
        // A document at or below the newest revision changes access by which events may have been
        // decided already.
        if revision <= newest { late.push(document) } else { new.push(document) }
    }
    let late = apply(transaction, &late).await?;
    state.late = late != Changes::default();
    let versions = late.new + apply(transaction, &new).await?.new;
    let paused = departures::pause_former(transaction, documents).await?;
    state.save(transaction).await?;
    Ok(Applied { versions, revision: state.revisions.newest, jumps, paused })
}

/// Writes documents. Those of users and roles between two snapshots are written together.
async fn apply(
    transaction: &Transaction<'_>,
    documents: &[&Document],
) -> Result<Changes, StoreError> {
    let (mut new, mut ended) = (0, 0);
    let mut single: Vec<Version<'_>> = Vec::new();
    for document in documents {
        let revision = document.revision;
        match &document.content {
            Content::User(user) => single.push(Version::of_user(revision, user)),
            Content::Role(role) => single.push(Version::of_role(revision, role)),
            Content::Snapshot { users, roles } => {
                new += versions::put_single(transaction, &std::mem::take(&mut single)).await?;
                if versions::knows_snapshot(transaction, revision).await? {
                    continue;
                }
                let users = users.iter().map(|user| Version::of_user(revision, user));
                let roles = roles.iter().map(|role| Version::of_role(revision, role));
                let all: Vec<Version<'_>> = users.chain(roles).collect();
                versions::remove_void(transaction, revision).await?;
                new += versions::put(transaction, &all).await?;
                ended += versions::end_snapshot(transaction, revision).await?;
            }
            Content::RefusedSnapshot { why } => refusals::note(transaction, revision, why).await?,
        }
    }
    new += versions::put_single(transaction, &single).await?;
    Ok(Changes { new, ended })
}
