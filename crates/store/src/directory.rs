//! The directory: documents in, in any order, and what holds as of a revision.
//!
//! Each version of a document holds from its own revision to that of the next version of the same
//! document, or of the next snapshot. That rule makes the end state the same in whatever order
//! documents arrive, and lets a question be asked as of any revision. *Now* is always the newest
//! revision seen. `import` stages a large snapshot in small steps, and makes it count in the last.
//! What ended long ago goes with `trim`.

mod import;
mod state;
mod trim;
mod versions;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use fanfare_core::directory::{Content, Document};
use fanfare_core::revisions::{Gap, Revisions};

pub use import::{Import, Part};

use crate::error::StoreError;
use crate::pool::Store;
use state::State;
use versions::Version;

/// What taking documents came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Users and roles of which a version was new.
    pub versions: usize,
    /// The newest revision afterwards.
    pub revision: i64,
}

/// How the directory stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryState {
    /// The newest revision seen, 0 before the first document, and what is missing below it.
    pub revisions: Revisions<DateTime<Utc>>,
    /// History is kept from this revision on; 0 for all of it.
    pub oldest: i64,
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
    /// Takes documents. Versions that are known already are passed over.
    pub async fn directory_apply(&self, documents: &[Document]) -> Result<Applied, StoreError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::at(DOING))?;
        let mut state = State::lock(&transaction).await?;
        let mut in_order: Vec<&Document> = documents.iter().collect();
        in_order.sort_by_key(|document| document.revision);
        // What comes at or below the newest revision changes what is known of it already.
        let late = in_order.partition_point(|it| it.revision <= state.revisions.newest);
        let (late, new) = in_order.split_at(late);
        let late = apply(&transaction, late).await?;
        state.late = late != Changes::default();
        let versions = late.new + apply(&transaction, new).await?.new;
        for document in in_order {
            match document.content {
                Content::Snapshot { .. } => state.revisions.see_snapshot(document.revision),
                _ => state.revisions.see(document.revision, state.now),
            }
        }
        state.save(&transaction).await?;
        transaction.commit().await.map_err(StoreError::at(DOING))?;
        Ok(Applied { versions, revision: state.revisions.newest })
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
            select g.first_revision, g.last_revision, g.noticed_at, s.revision, s.oldest
            from directory_state s left join directory_gaps g on true
            order by g.first_revision";
        let doing = "read how the directory stands";
        let client = self.client().await?;
        let rows = client.query(SQL, &[]).await.map_err(StoreError::at(doing))?;
        let mut standing =
            DirectoryState { revisions: Revisions { newest: 0, gaps: Vec::new() }, oldest: 0 };
        for row in rows {
            let mut read = || {
                standing.revisions.newest = row.try_get(3)?;
                standing.oldest = row.try_get(4)?;
                let first: Option<i64> = row.try_get(0)?;
                first.map(|_| state::gap(&row)).transpose()
            };
            let gap: Option<Gap<_>> = read().map_err(StoreError::at(doing))?;
            standing.revisions.gaps.extend(gap);
        }
        Ok(standing)
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
    ended: u64,
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
                new += versions::put(transaction, &all).await?;
                ended += versions::end_snapshot(transaction, revision).await?;
            }
        }
    }
    new += versions::put_single(transaction, &single).await?;
    Ok(Changes { new, ended })
}
