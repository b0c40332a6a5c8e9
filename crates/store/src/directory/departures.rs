//! Users who left the directory, and names that returned. A user whose name returns counts as
//! another person, who must not get the webhooks and sessions of the former one.
//!
//! The history decides, and not the order in which documents arrive. A user is gone from the
//! deletion, or from a snapshot without the user, to the first version that begins later.

use fanfare_core::directory::{Content, Document};
use tokio_postgres::Row;

use crate::connection::Transaction;
use crate::error::StoreError;
use crate::rows::Columns as _;

/// Records the users who left by new or newly ended versions, whose rows of `directory_versions`
/// these are.
pub(super) async fn note_put(
    transaction: &Transaction<'_>,
    rows: &[Row],
) -> Result<(), StoreError> {
    // A version ends with the next one of the same user, or with a snapshot that does not name the
    // user. Revisions whose history was trimmed are not considered.
    const SQL: &str = "-- directory_departures
        insert into directory_departures (name_key, revision)
        select g.name_key, max(g.revision)
        from unnest($1::text[], $2::bigint[], $3::bool[]) as g(name_key, revision, deleted)
        cross join directory_state s
        where g.revision >= s.oldest
          and (g.deleted or not exists (select from directory_versions v
                                        where v.kind = 'user' and v.name_key = g.name_key
                                          and v.begin_revision = g.revision))
        group by g.name_key
        on conflict (name_key) do update
            set revision = excluded.revision, returned_revision = null
            where directory_departures.revision < excluded.revision";
    let (mut keys, mut revisions, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let begin: i64 = row.column("begin_revision")?;
        let is_deleted: bool = row.column("deleted")?;
        let gone = if is_deleted { Some(begin) } else { row.column("end_revision")? };
        let is_user = row.column::<&str>("kind")? == "user";
        if let Some(revision) = gone.filter(|_| is_user && begin >= 0) {
            keys.push(row.column::<&str>("name_key")?);
            revisions.push(revision);
            deleted.push(is_deleted);
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    transaction.execute(SQL, &[&keys, &revisions, &deleted]).await.map(drop)
}

/// Pauses the webhooks of former users whose name returned, and ends their sessions. Returns how
/// many webhooks were paused.
pub(super) async fn pause_former(
    transaction: &Transaction<'_>,
    documents: &[Document],
) -> Result<usize, StoreError> {
    let is_single = |document: &Document| document.content.is_single();
    if !documents.iter().all(is_single) {
        return pause(transaction, None).await;
    }
    let users = documents.iter().filter_map(|document| match &document.content {
        Content::User(user) => Some(user.name.key()),
        _ => None,
    });
    let keys: Vec<&str> = users.collect();
    if keys.is_empty() { Ok(0) } else { pause(transaction, Some(&keys)).await }
}

/// The same for these names, or for all names. A trigger pauses the webhooks and ends the sessions.
pub(super) async fn pause(
    transaction: &Transaction<'_>,
    keys: Option<&[&str]>,
) -> Result<usize, StoreError> {
    const SQL: &str = "-- directory_departures
        update directory_departures d
        set returned_revision = r.begin_revision, returned_at = coalesce(r.applied_at, now())
        from (select d.name_key, v.begin_revision, v.applied_at
              from directory_departures d
              cross join lateral (
                  select v.begin_revision, v.applied_at from directory_versions v
                  where v.kind = 'user' and v.name_key = d.name_key
                    and v.begin_revision > d.revision and not v.deleted
                  order by v.begin_revision limit 1
              ) v
              where d.returned_revision is null
                and ($1::text[] is null or d.name_key = any($1))) r
        where d.name_key = r.name_key
        returning d.paused";
    let rows = transaction.query(SQL, &[&keys]).await?;
    let mut paused = 0;
    for row in rows {
        let count: i64 = row.column("paused")?;
        paused += usize::try_from(count).unwrap_or_default();
    }
    Ok(paused)
}
