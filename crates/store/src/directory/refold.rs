//! Folding names again, once, that an earlier version folded in another way.
//!
//! PostgreSQL can't fold names as `fanfare_core::name` does, so the program does it after the
//! migrations. The earlier version gave one key to some pairs of different names, and merged the
//! documents of such a pair into one history, which can't be separated. Each document keeps its own
//! name, and a version that a document of the other name ended stays ended, so that no user gains
//! access. Access can't be decided by the remaining history either. So when a key in the directory
//! changed, the directory counts as incomplete until a snapshot is imported.

use std::collections::BTreeSet;

use fanfare_core::name::{self, Name};
use serde::Deserialize;

use crate::connection::Transaction;
use crate::error::StoreError;
use crate::rows::Columns as _;

/// The number of this version's way to fold names, which `directory_state.names_version` has.
const VERSION: i32 = 2;
/// The most names that are reported.
const MOST_NAMES: usize = 100;
/// The number of the directory's rows that one step reads.
const PAGE: i64 = 2_000;

/// The names whose keys changed when they were folded again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refolded {
    /// Documents of users and roles, whose own name or whose roles' names have other keys.
    pub documents: u64,
    /// Webhooks, including deleted ones.
    pub webhooks: u64,
    /// Local accounts, whose sessions were ended.
    pub accounts: u64,
    /// The first hundred names, as written, that shared a key with others.
    pub names: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Roles {
    #[serde(default)]
    roles: Vec<String>,
}

/// Folds all names again, unless that was done already.
pub(crate) async fn refold(transaction: &Transaction<'_>) -> Result<Refolded, StoreError> {
    const LOCK: &str = "-- refold
        select names_version from directory_state for update";
    const DONE: &str = "-- refold\nupdate directory_state set names_version = $1";
    let version: i32 = transaction.query_one(LOCK, &[]).await?.column("names_version")?;
    if version >= VERSION {
        return Ok(Refolded::default());
    }
    let mut names = BTreeSet::new();
    let refolded = Refolded {
        documents: versions(transaction, &mut names).await? + members(transaction).await?,
        webhooks: webhooks(transaction, &mut names).await?,
        accounts: accounts(transaction, &mut names).await?,
        names,
    };
    if refolded.documents > 0 {
        incomplete(transaction).await?;
    }
    transaction.execute(DONE, &[&VERSION]).await?;
    Ok(refolded)
}

fn report<'a>(reported: &mut BTreeSet<String>, names: impl IntoIterator<Item = &'a str>) {
    let left = MOST_NAMES.saturating_sub(reported.len());
    reported.extend(names.into_iter().take(left).map(str::to_owned));
}

/// Folds the names of users and roles.
async fn versions(
    transaction: &Transaction<'_>,
    reported: &mut BTreeSet<String>,
) -> Result<u64, StoreError> {
    const READ: &str = "-- refold
        select id, name, name_key from directory_versions where id > $1 order by id limit $2";
    const WRITE: &str = "-- refold
        update directory_versions v set name_key = n.key
        from unnest($1::bigint[], $2::text[]) as n(id, key) where v.id = n.id";
    let (mut last, mut changed) = (i64::MIN, 0);
    loop {
        let rows = transaction.query(READ, &[&last, &PAGE]).await?;
        let (mut ids, mut keys) = (Vec::new(), Vec::new());
        for row in &rows {
            last = row.column("id")?;
            let name = row.column("name")?;
            let folded = name::fold(name);
            if folded != row.column::<&str>("name_key")? {
                report(reported, [name]);
                ids.push(last);
                keys.push(folded);
            }
        }
        if !ids.is_empty() {
            changed += transaction.execute(WRITE, &[&ids, &keys]).await?;
        }
        if rows.is_empty() {
            return Ok(changed);
        }
    }
}

/// Folds the names of users' roles, which only the users' documents have as written.
async fn members(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    const READ: &str = "-- refold
        select v.id, v.document, array(select role_key from directory_members m
                                       where m.version_id = v.id) as roles
        from directory_versions v where v.id > $1 and v.kind = 'user' order by v.id limit $2";
    const CLEAR: &str = "-- refold\ndelete from directory_members where version_id = any($1)";
    const WRITE: &str = "-- refold
        insert into directory_members (version_id, role_key)
        select * from unnest($1::bigint[], $2::text[])";
    let (mut last, mut changed) = (i64::MIN, 0);
    loop {
        let rows = transaction.query(READ, &[&last, &PAGE]).await?;
        let (mut versions, mut ids, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            last = row.column("id")?;
            let before: Vec<String> = row.column("roles")?;
            // A version without memberships is deleted or void, whatever roles its document names.
            let roles = serde_json::from_str::<Roles>(row.column("document")?).map(|it| it.roles);
            let names = roles.unwrap_or_default();
            let names = names.iter().filter_map(|name| Name::parse(name));
            let folded: BTreeSet<String> = names.map(|name| name.key().to_owned()).collect();
            if before.is_empty()
                || before.iter().collect::<BTreeSet<_>>() == folded.iter().collect()
            {
                continue;
            }
            versions.push(last);
            for key in folded {
                ids.push(last);
                keys.push(key);
            }
        }
        if !versions.is_empty() {
            changed += u64::try_from(versions.len()).unwrap_or(u64::MAX);
            transaction.execute(CLEAR, &[&versions]).await?;
            transaction.execute(WRITE, &[&ids, &keys]).await?;
        }
        if rows.is_empty() {
            return Ok(changed);
        }
    }
}

/// Folds the names of webhooks' owners. Triggers keep the tables that depend on them.
async fn webhooks(
    transaction: &Transaction<'_>,
    reported: &mut BTreeSet<String>,
) -> Result<u64, StoreError> {
    const READ: &str = "-- refold\nselect distinct owner as name, owner_key as key from webhooks";
    const WRITE: &str = "-- refold
        update webhooks w set owner_key = n.key
        from unnest($1::text[], $2::text[]) as n(name, key)
        where w.owner = n.name and w.owner_key <> n.key";
    const HISTORY: &str = "-- refold
        update webhook_versions v set owner_key = n.key
        from webhooks w, unnest($1::text[], $2::text[], $3::text[]) as n(name, key, before)
        where w.id = v.webhook and w.owner = n.name and v.owner_key = n.before";
    let (names, keys, before) = changed(transaction, READ).await?;
    if names.is_empty() {
        return Ok(0);
    }
    report(reported, names.iter().map(String::as_str));
    let changed = transaction.execute(WRITE, &[&names, &keys]).await?;
    transaction.execute(HISTORY, &[&names, &keys, &before]).await?;
    Ok(changed)
}

/// Folds the names of local accounts, and of the users whom an identity provider signed in.
async fn accounts(
    transaction: &Transaction<'_>,
    reported: &mut BTreeSet<String>,
) -> Result<u64, StoreError> {
    const READ: &str = "-- refold\nselect name, name_key as key from accounts";
    const END: &str = "-- refold\ndelete from sessions where account_key = any($1)";
    const WRITE: &str = "-- refold
        update accounts a set name_key = n.key
        from unnest($1::text[], $2::text[]) as n(key, before) where a.name_key = n.before";
    const VOUCHED: &str = "-- refold
        select distinct user_name as name, user_key as key from sessions
        where user_name is not null";
    const FOLD: &str = "-- refold
        update sessions x set user_key = n.key
        from unnest($1::text[], $2::text[]) as n(name, key)
        where x.user_name = n.name and x.user_key <> n.key";
    let (names, keys, before) = changed(transaction, READ).await?;
    report(reported, names.iter().map(String::as_str));
    transaction.execute(END, &[&before]).await?;
    let accounts = transaction.execute(WRITE, &[&keys, &before]).await?;
    let (names, keys, _) = changed(transaction, VOUCHED).await?;
    transaction.execute(FOLD, &[&names, &keys]).await?;
    Ok(accounts)
}

/// Finds names whose keys change. Returns the names as written, their new keys and their old keys.
async fn changed(
    transaction: &Transaction<'_>,
    sql: &str,
) -> Result<(Vec<String>, Vec<String>, Vec<String>), StoreError> {
    let rows = transaction.query(sql, &[]).await?;
    let (mut names, mut keys, mut before) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let (name, key): (String, String) = (row.column("name")?, row.column("key")?);
        let folded = name::fold(&name);
        if folded != key {
            names.push(name);
            keys.push(folded);
            before.push(key);
        }
    }
    Ok((names, keys, before))
}

/// Marks the directory as incomplete, which holds events until a snapshot is imported, and computes
/// again which users were deleted.
async fn incomplete(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    const SQL: [&str; 5] = [
        "-- refold\ndelete from directory_gaps",
        "-- refold
        insert into directory_gaps (first_revision, last_revision)
        select 1, revision from directory_state where revision > 0",
        "-- refold
        update directory_state
        set complete = false, hold = coalesce(hold, 'incomplete'), late_at = clock_timestamp()",
        "-- refold\ndelete from directory_departures",
        "-- refold
        insert into directory_departures (name_key, revision)
        select v.name_key, max(v.begin_revision)
        from directory_versions v cross join directory_state s
        where v.kind = 'user' and v.begin_revision between 0 and s.revision
        group by v.name_key
        having bool_or(v.deleted and (v.end_revision is null or v.end_revision > s.revision))",
    ];
    for sql in SQL {
        transaction.execute(sql, &[]).await?;
    }
    Ok(())
}
