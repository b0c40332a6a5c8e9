//! The directory: documents in, in any order, and what holds as of a revision.
//!
//! Each version of a document holds from its own revision to that of the next version of the same
//! document, or of the next snapshot. That rule makes the end state the same in whatever order
//! documents arrive, and lets a question be asked as of any revision. *Now* is always the newest
//! revision seen. `import` stages a large snapshot in small steps, and makes it count in the last.
//! What ended long ago goes with `trim`.

mod departures;
mod import;
mod refold;
mod refusals;
mod state;
mod trim;
mod versions;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use fanfare_core::directory::{Content, Document};
use fanfare_core::revisions::{Gap, Hold, Revisions};

pub use import::{Import, ImportMode, Part};
pub use refold::Refolded;
pub(crate) use refold::refold;
pub use refusals::{Refusal, Void};

use crate::error::StoreError;
use crate::pool::Store;
use state::State;
use versions::Version;

/// What taking documents came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Users and roles of which a version was new.
    pub versions: usize,
    /// The newest revision afterwards.
    pub revision: i64,
    /// Which of the documents were not taken, by their places: their revisions are too far ahead.
    pub jumps: Vec<usize>,
    /// Webhooks that were paused, since their owners are other persons now.
    pub paused: usize,
}

/// How the directory stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryState {
    /// The newest revision seen, 0 before the first document, and what is missing below it.
    pub revisions: Revisions<DateTime<Utc>>,
    /// History is kept from this revision on; 0 for all of it.
    pub oldest: i64,
    /// Why every event is held; `None` when none is.
    pub hold: Option<Hold>,
    /// Snapshots that were refused and neither mended nor accepted, the oldest first.
    pub refusals: Vec<Refusal>,
    /// Users and roles whose newest document was refused, so that they grant nothing.
    pub voids: Vec<Void>,
}

/// How a user stands right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserStatus {
    /// May do what the permissions say.
    Enabled,
    /// May do nothing for now.
    Disabled,
    /// Is not in the directory, or not any more.
    Deleted,
}

const DOING: &str = "take a directory document";

impl Store {
    /// Takes documents. Versions that are known already are passed over, and so are documents whose
    /// revisions are too far ahead to be believed.
    pub async fn directory_apply(&self, documents: &[Document]) -> Result<Applied, StoreError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::at(DOING))?;
        let applied = take(&transaction, documents).await?;
        transaction.commit().await.map_err(StoreError::at(DOING))?;
        Ok(applied)
    }

    /// Takes all documents, or none when the revision of one is too far ahead to be believed.
    ///
    /// # Errors
    ///
    /// [`StoreError::RevisionJump`] with the first such revision.
    pub async fn directory_apply_all(&self, documents: &[Document]) -> Result<Applied, StoreError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::at(DOING))?;
        let applied = take(&transaction, documents).await?;
        let jump = applied.jumps.first().and_then(|place| documents.get(*place));
        if let Some(jump) = jump {
            return Err(StoreError::RevisionJump { revision: jump.revision });
        }
        transaction.commit().await.map_err(StoreError::at(DOING))?;
        Ok(applied)
    }

    /// The newest revision seen; 0 before the first document.
    pub async fn directory_revision(&self) -> Result<i64, StoreError> {
        const SQL: &str = "-- directory_revision\nselect revision from directory_state";
        let client = self.client().await?;
        client
            .query_one(SQL, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(StoreError::at("read the directory's revision"))
    }

    /// How the directory stands.
    pub async fn directory_state(&self) -> Result<DirectoryState, StoreError> {
        const SQL: &str = "-- directory_state
            select g.first_revision, g.last_revision, g.noticed_at, s.revision, s.oldest,
                   s.complete, s.hold
            from directory_state s left join directory_gaps g on true
            order by g.first_revision";
        let doing = "read how the directory stands";
        let client = self.client().await?;
        let rows = client.query(SQL, &[]).await.map_err(StoreError::at(doing))?;
        let mut state = DirectoryState {
            revisions: Revisions::default(),
            oldest: 0,
            hold: None,
            refusals: refusals::open(&***client).await?,
            voids: refusals::voids(&***client).await?,
        };
        for row in rows {
            let mut read = || {
                state.revisions.newest = row.try_get(3)?;
                state.oldest = row.try_get(4)?;
                state.revisions.complete = row.try_get(5)?;
                state.hold = row.try_get::<_, Option<&str>>(6)?.and_then(Hold::parse);
                let first: Option<i64> = row.try_get(0)?;
                first.map(|_| state::gap(&row)).transpose()
            };
            let gap: Option<Gap<_>> = read().map_err(StoreError::at(doing))?;
            state.revisions.gaps.extend(gap);
        }
        Ok(state)
    }

    /// How users stand right now, by folded name.
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
        let doing = "look up users";
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        let rows = client.query(&statement, &[&keys]).await.map_err(StoreError::at(doing))?;
        let status = |row: &tokio_postgres::Row| {
            let status = match (row.try_get(1)?, row.try_get(2)?) {
                (Some(true), Some(false)) => UserStatus::Enabled,
                (Some(false), Some(false)) => UserStatus::Disabled,
                _ => UserStatus::Deleted,
            };
            Ok((row.try_get(0)?, status))
        };
        rows.iter().map(status).collect::<Result<_, _>>().map_err(StoreError::at(doing))
    }
}

/// What writing documents came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Changes {
    /// Versions that were new.
    new: usize,
    /// Versions that a snapshot ended.
    ended: usize,
}

/// Takes documents in the order of their revisions.
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
            // What was refused is a dead letter for that already.
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
        // What comes at or below the newest revision changes what is known of it already.
        if revision <= newest { late.push(document) } else { new.push(document) }
    }
    let late = apply(transaction, &late).await?;
    state.late = late != Changes::default();
    let versions = late.new + apply(transaction, &new).await?.new;
    let paused = departures::pause_former(transaction, documents).await?;
    state.save(transaction).await?;
    Ok(Applied { versions, revision: state.revisions.newest, jumps, paused })
}

/// Writes documents, those of users and roles between two snapshots together.
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
