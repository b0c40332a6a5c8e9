//! Versions of users and roles, and how they are put into the history.

use std::collections::HashMap;

use fanfare_core::directory::{Permission, RoleDocument, UserDocument};
use fanfare_core::name::Name;
use tokio_postgres::Row;

use super::departures;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::rows::Columns as _;
use crate::statement::Values;

/// The revision at which the versions of a staged snapshot begin and end, until it is complete. No
/// statement reads as of this revision, and no other document has it.
pub(super) const STAGED: i64 = -1;

/// A version of a user or role, in the form in which it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version<'a> {
    revision: i64,
    kind: &'static str,
    name: &'a Name,
    enabled: bool,
    deleted: bool,
    void: bool,
    roles: &'a [Name],
    permissions: &'a [Permission],
    raw: &'a str,
}

impl<'a> Version<'a> {
    pub(super) fn of_user(revision: i64, user: &'a UserDocument) -> Self {
        Self {
            revision,
            kind: "user",
            name: &user.name,
            enabled: user.enabled,
            deleted: user.deleted,
            void: user.void,
            roles: if user.deleted { &[] } else { &user.roles },
            permissions: &user.permissions,
            raw: &user.raw,
        }
    }

    pub(super) fn of_role(revision: i64, role: &'a RoleDocument) -> Self {
        Self {
            revision,
            kind: "role",
            name: &role.name,
            enabled: !role.deleted,
            deleted: role.deleted,
            void: role.void,
            roles: &[],
            permissions: &role.permissions,
            raw: &role.raw,
        }
    }

    fn key(&self) -> (&'static str, &'a str) {
        (self.kind, self.name.key())
    }
}

/// Puts versions into the history, and returns how many were new. Of several versions with one name
/// and revision the first counts.
pub(super) async fn put(
    transaction: &Transaction<'_>,
    versions: &[Version<'_>],
) -> Result<usize, StoreError> {
    let mut new = 0;
    for wave in waves(versions) {
        new += put_wave(transaction, &wave).await?;
    }
    Ok(new)
}

/// Puts documents of single users and roles into the history. They replace what a snapshot of the
/// same revision says, because a person may have imported that snapshot under the number of a
/// change that the report server was about to make. A valid document replaces a refused one of its
/// revision.
pub(super) async fn put_single(
    transaction: &Transaction<'_>,
    versions: &[Version<'_>],
) -> Result<usize, StoreError> {
    const OVER: &str = "-- directory_put
        select coalesce(array_agg(v.id), '{}') as ids
        from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bool[])
            as n(revision, kind, name_key, document, void)
        join directory_versions v on v.kind = n.kind and v.name_key = n.name_key
            and v.begin_revision = n.revision
        where (v.void and not n.void)
           or (v.document <> n.document
               and exists (select from directory_snapshots s where s.revision = n.revision))";
    let revisions: Vec<i64> = versions.iter().map(|version| version.revision).collect();
    let kinds: Vec<&str> = versions.iter().map(|version| version.kind).collect();
    let keys: Vec<&str> = versions.iter().map(|version| version.name.key()).collect();
    let raws: Vec<&str> = versions.iter().map(|version| version.raw).collect();
    let voids: Vec<bool> = versions.iter().map(|version| version.void).collect();
    remove_found(transaction, OVER, &[&revisions, &kinds, &keys, &raws, &voids]).await?;
    put(transaction, versions).await
}

/// Splits versions so that each part has a name only once, because the end of a version is computed
/// from the versions that are already written.
fn waves<'a>(versions: &[Version<'a>]) -> Vec<Vec<Version<'a>>> {
    let mut before: HashMap<(&str, &str), usize> = HashMap::with_capacity(versions.len());
    let mut waves: Vec<Vec<Version<'a>>> = Vec::new();
    for version in versions {
        let nth = before.entry(version.key()).or_default();
        if waves.len() == *nth {
            waves.push(Vec::new());
        }
        if let Some(wave) = waves.get_mut(*nth) {
            wave.push(*version);
        }
        *nth += 1;
    }
    waves
}

async fn put_wave(
    transaction: &Transaction<'_>,
    versions: &[Version<'_>],
) -> Result<usize, StoreError> {
    // A new version ends with the next version of the same document, or with the next snapshot.
    const INSERT: &str = "-- directory_put
        insert into directory_versions (kind, name, name_key, begin_revision, end_revision,
                                        ended_at, enabled, deleted, document, void, applied_at)
        select n.kind, n.name, n.name_key, n.revision, n.ends,
               case when n.revision >= 0 and n.ends is not null then clock_timestamp() end,
               n.enabled, n.deleted, n.document, n.void, clock_timestamp()
        from (select u.*, case when u.revision < 0 then u.revision else
                     least((select min(v.begin_revision) from directory_versions v
                            where v.kind = u.kind and v.name_key = u.name_key
                              and v.begin_revision > u.revision),
                           (select min(s.revision) from directory_snapshots s
                            where s.revision > u.revision)) end as ends
              from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bool[],
                          $6::bool[], $7::text[], $8::bool[])
                  as u(revision, kind, name, name_key, enabled, deleted, document, void)) n
        on conflict do nothing
        returning id, kind, name_key, begin_revision, end_revision, deleted";
    const END: &str = "-- directory_put
        update directory_versions v
        set end_revision = n.revision, ended_at = coalesce(v.ended_at, clock_timestamp())
        from unnest($1::bigint[], $2::text[], $3::text[]) as n(revision, kind, name_key)
        where v.kind = n.kind and v.name_key = n.name_key and v.begin_revision < n.revision
          and (v.end_revision is null or v.end_revision > n.revision)";
    let column = |of: fn(&Version<'_>) -> String| versions.iter().map(of).collect::<Vec<String>>();
    let flag = |of: fn(&Version<'_>) -> bool| versions.iter().map(of).collect::<Vec<bool>>();
    let revisions: Vec<i64> = versions.iter().map(|version| version.revision).collect();
    let kinds = column(|version| version.kind.to_owned());
    let keys = column(|version| version.name.key().to_owned());
    let inserted = transaction
        .query(
            INSERT,
            &[
                /* revision */ &revisions,
                /* kind */ &kinds,
                /* name */ &column(|version| version.name.as_str().to_owned()),
                /* name_key */ &keys,
                /* enabled */ &flag(|version| version.enabled),
                /* deleted */ &flag(|version| version.deleted),
                /* document */ &column(|version| version.raw.to_owned()),
                /* void */ &flag(|version| version.void),
            ],
        )
        .await?;
    if inserted.is_empty() {
        return Ok(0);
    }
    transaction.execute(END, &[&revisions, &kinds, &keys]).await?;
    fill(transaction, versions, &inserted).await?;
    departures::note_put(transaction, &inserted).await?;
    Ok(inserted.len())
}

/// Writes the grants and memberships of new versions.
async fn fill(
    transaction: &Transaction<'_>,
    versions: &[Version<'_>],
    inserted: &[Row],
) -> Result<(), StoreError> {
    const GRANTS: &str = "-- directory_fill
        insert into directory_grants (version_id, scope, target)
        select distinct * from unnest($1::bigint[], $2::text[], $3::text[])";
    const MEMBERS: &str = "-- directory_fill
        insert into directory_members (version_id, role_key)
        select distinct * from unnest($1::bigint[], $2::text[])";
    let mut ids: HashMap<(&str, &str), i64> = HashMap::with_capacity(inserted.len());
    for row in inserted {
        ids.insert((row.column("kind")?, row.column("name_key")?), row.column("id")?);
    }
    let (mut grant_of, mut scopes, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut member_of, mut roles) = (Vec::new(), Vec::new());
    for version in versions {
        let Some(id) = ids.get(&version.key()) else { continue };
        for permission in version.permissions.iter().filter(|p| p.grants_read()) {
            grant_of.push(*id);
            scopes.push(permission.scope.name());
            targets.push(permission.target.as_str());
        }
        for role in version.roles {
            member_of.push(*id);
            roles.push(role.key());
        }
    }
    if !grant_of.is_empty() {
        transaction.execute(GRANTS, &[&grant_of, &scopes, &targets]).await?;
    }
    if !member_of.is_empty() {
        transaction.execute(MEMBERS, &[&member_of, &roles]).await?;
    }
    Ok(())
}

/// Removes versions with their grants and memberships. Returns how many there were.
pub(super) async fn remove(transaction: &Transaction<'_>, ids: &[i64]) -> Result<u64, StoreError> {
    const STATEMENTS: [&str; 3] = [
        "-- directory_remove\ndelete from directory_grants where version_id = any($1)",
        "-- directory_remove\ndelete from directory_members where version_id = any($1)",
        "-- directory_remove\ndelete from directory_versions where id = any($1)",
    ];
    let mut removed = 0;
    if ids.is_empty() {
        return Ok(0);
    }
    for sql in STATEMENTS {
        removed = transaction.execute(sql, &[&ids]).await?;
    }
    Ok(removed)
}

/// Removes the versions whose `ids` a statement finds.
async fn remove_found(
    transaction: &Transaction<'_>,
    sql: &str,
    values: Values<'_>,
) -> Result<(), StoreError> {
    let ids: Vec<i64> = transaction.query_one(sql, values).await?.column("ids")?;
    remove(transaction, &ids).await.map(drop)
}

/// Gives staged versions the revision of their snapshot. A version that has this revision already
/// counts instead of the staged one.
pub(super) async fn unstage(
    transaction: &Transaction<'_>,
    revision: i64,
) -> Result<(), StoreError> {
    const KNOWN: &str = "-- directory_unstage
        select coalesce(array_agg(s.id), '{}') as ids
        from directory_versions s
        join directory_versions v using (kind, name_key)
        where s.begin_revision = $1 and v.begin_revision = $2";
    const UNSTAGE: &str = "-- directory_unstage
        update directory_versions s
        set begin_revision = $2, end_revision = n.ends, applied_at = clock_timestamp(),
            ended_at = case when n.ends is not null then clock_timestamp() end
        from (select u.id,
                     least((select min(v.begin_revision) from directory_versions v
                            where v.kind = u.kind and v.name_key = u.name_key
                              and v.begin_revision > $2),
                           (select min(p.revision) from directory_snapshots p
                            where p.revision > $2)) as ends
              from directory_versions u where u.begin_revision = $1) n
        where s.id = n.id
        returning s.id, s.kind, s.name_key, s.begin_revision, s.end_revision, s.deleted";
    remove_void(transaction, revision).await?;
    remove_found(transaction, KNOWN, &[&STAGED, &revision]).await?;
    let rows = transaction.query(UNSTAGE, &[&STAGED, &revision]).await?;
    departures::note_put(transaction, &rows).await
}

/// Removes the void versions of a snapshot's revision, which the snapshot replaces.
pub(super) async fn remove_void(
    transaction: &Transaction<'_>,
    revision: i64,
) -> Result<(), StoreError> {
    const SQL: &str = "-- directory_put
        select coalesce(array_agg(id), '{}') as ids from directory_versions
        where void and begin_revision = $1";
    remove_found(transaction, SQL, &[&revision]).await
}

/// Removes the staged versions of an import that was not finished.
pub(super) async fn clear_staged(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    const SQL: &str = "-- directory_unstage
        select coalesce(array_agg(id), '{}') as ids from directory_versions
        where begin_revision = $1";
    remove_found(transaction, SQL, &[&STAGED]).await
}

/// Completes a new snapshot whose versions were put already: users and roles that it does not name
/// end with it. Returns how many ended.
pub(super) async fn end_snapshot(
    transaction: &Transaction<'_>,
    revision: i64,
) -> Result<usize, StoreError> {
    const NOTE: &str = "-- directory_snapshot
        insert into directory_snapshots (revision) values ($1)";
    const END: &str = "-- directory_snapshot
        update directory_versions
        set end_revision = $1, ended_at = coalesce(ended_at, clock_timestamp())
        where begin_revision < $1 and (end_revision is null or end_revision > $1)
        returning id, kind, name_key, begin_revision, end_revision, deleted";
    const RESOLVED: &str = "-- directory_snapshot
        delete from directory_refusals where revision <= $1";
    transaction.execute(NOTE, &[&revision]).await?;
    transaction.execute(RESOLVED, &[&revision]).await?;
    let ended = transaction.query(END, &[&revision]).await?;
    departures::note_put(transaction, &ended).await?;
    Ok(ended.len())
}

/// Whether a snapshot was applied already.
pub(super) async fn knows_snapshot(
    transaction: &Transaction<'_>,
    revision: i64,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- directory_snapshot
        select exists (select from directory_snapshots where revision = $1) as is_known";
    transaction.query_one(SQL, &[&revision]).await?.column("is_known")
}
