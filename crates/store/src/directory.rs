//! The directory: documents in, in any order, and what holds as of a revision.
//!
//! Each version of a document holds from its own revision to that of the next version of the same
//! document, or of the next snapshot. That rule makes the end state the same in whatever order
//! documents arrive, and lets a question be asked as of any revision.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use fanfare_core::directory::{Content, Document, Permission, RoleDocument, UserDocument};
use fanfare_core::name::Name;

use crate::error::StoreError;
use crate::pool::Store;

/// What taking documents came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Users and roles of which a version was new.
    pub versions: usize,
    /// The newest revision afterwards.
    pub revision: i64,
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
        // One at a time: ends are computed from what the others have written.
        transaction
            .execute("-- directory_apply\nselect revision from directory_state for update", &[])
            .await
            .map_err(StoreError::at(DOING))?;
        let mut versions = 0;
        for document in documents {
            versions += apply(&transaction, document).await?;
        }
        let newest = documents.iter().map(|document| document.revision).max().unwrap_or_default();
        let revision = transaction
            .query_one(
                "-- directory_apply
                update directory_state set revision = greatest(revision, $1) returning revision",
                &[&newest],
            )
            .await
            .and_then(|row| row.try_get(0))
            .map_err(StoreError::at(DOING))?;
        transaction.commit().await.map_err(StoreError::at(DOING))?;
        Ok(Applied { versions, revision })
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

    /// How users stand right now, by folded name.
    pub async fn user_status(
        &self,
        keys: &[&str],
    ) -> Result<HashMap<String, UserStatus>, StoreError> {
        const SQL: &str = "-- user_status
            select asked.key, v.enabled, v.deleted
            from unnest($1::text[]) as asked(key)
            left join directory_versions v
              on v.kind = 'user' and v.name_key = asked.key and v.end_revision is null";
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

async fn apply(transaction: &Transaction<'_>, document: &Document) -> Result<usize, StoreError> {
    let revision = document.revision;
    match &document.content {
        Content::User(user) => put(transaction, revision, &[Version::of_user(user)]).await,
        Content::Role(role) => put(transaction, revision, &[Version::of_role(role)]).await,
        Content::Snapshot { users, roles } => {
            let versions =
                users.iter().map(Version::of_user).chain(roles.iter().map(Version::of_role));
            snapshot(transaction, revision, &versions.collect::<Vec<_>>()).await
        }
    }
}

/// A version of a user or role, in the form in which it is stored.
struct Version<'a> {
    kind: &'static str,
    name: &'a Name,
    enabled: bool,
    deleted: bool,
    roles: &'a [Name],
    permissions: &'a [Permission],
    raw: &'a str,
}

impl<'a> Version<'a> {
    fn of_user(user: &'a UserDocument) -> Self {
        Self {
            kind: "user",
            name: &user.name,
            enabled: user.enabled,
            deleted: user.deleted,
            roles: if user.deleted { &[] } else { &user.roles },
            permissions: &user.permissions,
            raw: &user.raw,
        }
    }

    fn of_role(role: &'a RoleDocument) -> Self {
        Self {
            kind: "role",
            name: &role.name,
            enabled: !role.deleted,
            deleted: role.deleted,
            roles: &[],
            permissions: &role.permissions,
            raw: &role.raw,
        }
    }
}

/// Takes a snapshot: what it does not name ends with it.
async fn snapshot(
    transaction: &Transaction<'_>,
    revision: i64,
    versions: &[Version<'_>],
) -> Result<usize, StoreError> {
    const NOTE: &str = "-- directory_snapshot
        insert into directory_snapshots (revision) values ($1) on conflict do nothing";
    const END: &str = "-- directory_snapshot
        update directory_versions v set end_revision = $1
        where begin_revision < $1 and (end_revision is null or end_revision > $1)
          and not exists (select from unnest($2::text[], $3::text[]) as kept(kind, name_key)
                          where kept.kind = v.kind and kept.name_key = v.name_key)
        returning id";
    let new = transaction.execute(NOTE, &[&revision]).await.map_err(StoreError::at(DOING))?;
    if new == 0 {
        return Ok(0);
    }
    let kinds: Vec<&str> = versions.iter().map(|version| version.kind).collect();
    let keys: Vec<&str> = versions.iter().map(|version| version.name.key()).collect();
    let ended = transaction.query(END, &[&revision, &kinds, &keys]).await;
    end(transaction, revision, ended.map_err(StoreError::at(DOING))?).await?;
    put(transaction, revision, versions).await
}

/// Puts versions of several documents, all of one revision, into their places in the history.
async fn put(
    transaction: &Transaction<'_>,
    revision: i64,
    versions: &[Version<'_>],
) -> Result<usize, StoreError> {
    // The end of a new version: the next version of the same document or the next snapshot.
    const INSERT: &str = "-- directory_put
        insert into directory_versions
            (kind, name, name_key, begin_revision, end_revision, enabled, deleted, document)
        select n.kind, n.name, n.name_key, $1,
               least((select min(v.begin_revision) from directory_versions v
                      where v.kind = n.kind and v.name_key = n.name_key and v.begin_revision > $1),
                     (select min(s.revision) from directory_snapshots s where s.revision > $1)),
               n.enabled, n.deleted, n.document
        from unnest($2::text[], $3::text[], $4::text[], $5::bool[], $6::bool[], $7::text[])
            as n(kind, name, name_key, enabled, deleted, document)
        on conflict do nothing
        returning id, kind, name_key, end_revision";
    const END: &str = "-- directory_put
        update directory_versions v set end_revision = $1
        from unnest($2::text[], $3::text[]) as n(kind, name_key)
        where v.kind = n.kind and v.name_key = n.name_key
          and v.begin_revision < $1 and (v.end_revision is null or v.end_revision > $1)
        returning v.id";
    let column = |of: fn(&Version<'_>) -> String| versions.iter().map(of).collect::<Vec<String>>();
    let flag = |of: fn(&Version<'_>) -> bool| versions.iter().map(of).collect::<Vec<bool>>();
    let kinds = column(|version| version.kind.to_owned());
    let keys = column(|version| version.name.key().to_owned());
    let inserted = transaction
        .query(
            INSERT,
            &[
                /* revision */ &revision,
                /* kind */ &kinds,
                /* name */ &column(|version| version.name.as_str().to_owned()),
                /* name_key */ &keys,
                /* enabled */ &flag(|version| version.enabled),
                /* deleted */ &flag(|version| version.deleted),
                /* document */ &column(|version| version.raw.to_owned()),
            ],
        )
        .await
        .map_err(StoreError::at(DOING))?;
    let ended = transaction.query(END, &[&revision, &kinds, &keys]).await;
    end(transaction, revision, ended.map_err(StoreError::at(DOING))?).await?;
    fill(transaction, revision, versions, &inserted).await?;
    Ok(inserted.len())
}

/// Ends the grants and memberships of versions that have ended.
async fn end(
    transaction: &Transaction<'_>,
    revision: i64,
    ended: Vec<tokio_postgres::Row>,
) -> Result<(), StoreError> {
    const STATEMENTS: [&str; 2] = [
        "-- directory_end\nupdate directory_grants set end_revision = $1 where version_id = any($2)",
        "-- directory_end\nupdate directory_members set end_revision = $1 where version_id = any($2)",
    ];
    let ids = ended.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>();
    let ids = ids.map_err(StoreError::at(DOING))?;
    if ids.is_empty() {
        return Ok(());
    }
    for sql in STATEMENTS {
        transaction.execute(sql, &[&revision, &ids]).await.map_err(StoreError::at(DOING))?;
    }
    Ok(())
}

/// Writes the grants and memberships of new versions.
async fn fill(
    transaction: &Transaction<'_>,
    revision: i64,
    versions: &[Version<'_>],
    inserted: &[tokio_postgres::Row],
) -> Result<(), StoreError> {
    const GRANTS: &str = "-- directory_fill
        insert into directory_grants (version_id, scope, target, principal_kind, principal_key,
                                      begin_revision, end_revision)
        select n.version_id, n.scope, n.target, v.kind, v.name_key, $1, v.end_revision
        from unnest($2::bigint[], $3::text[], $4::text[]) as n(version_id, scope, target)
        join directory_versions v on v.id = n.version_id";
    const MEMBERS: &str = "-- directory_fill
        insert into directory_members (version_id, user_key, role_key, begin_revision, end_revision)
        select n.version_id, v.name_key, n.role_key, $1, v.end_revision
        from unnest($2::bigint[], $3::text[]) as n(version_id, role_key)
        join directory_versions v on v.id = n.version_id";
    let mut ids: HashMap<(String, String), i64> = HashMap::with_capacity(inserted.len());
    for row in inserted {
        let read = || Ok(((row.try_get(1)?, row.try_get(2)?), row.try_get(0)?));
        let (key, id) = read().map_err(StoreError::at(DOING))?;
        ids.insert(key, id);
    }
    let (mut grant_of, mut scopes, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut member_of, mut roles) = (Vec::new(), Vec::new());
    for version in versions {
        let key = (version.kind.to_owned(), version.name.key().to_owned());
        // Removed, so that of two documents with one name in a snapshot only the first counts.
        let Some(id) = ids.remove(&key) else { continue };
        for permission in version.permissions.iter().filter(|p| p.grants_read()) {
            grant_of.push(id);
            scopes.push(permission.scope.name());
            targets.push(permission.target.as_str());
        }
        for role in version.roles {
            member_of.push(id);
            roles.push(role.key());
        }
    }
    transaction
        .execute(GRANTS, &[&revision, &grant_of, &scopes, &targets])
        .await
        .map_err(StoreError::at(DOING))?;
    transaction
        .execute(MEMBERS, &[&revision, &member_of, &roles])
        .await
        .map_err(StoreError::at(DOING))?;
    Ok(())
}
