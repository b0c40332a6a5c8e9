//! Refused documents, and the decisions of administrators about them. A refused snapshot holds
//! every event; a refused user or role grants nothing.

use chrono::{DateTime, Utc};
use fanfare_core::audit::{Author, Entry};
use tokio_postgres::Row;

use super::state::State;
use crate::audit;
use crate::connection::{Acting, Transaction};
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Run;

/// A snapshot that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The snapshot's revision. If that can't be read, the revision after the newest of that time.
    pub revision: i64,
    /// The fault of the document.
    pub why: String,
    pub refused_at: DateTime<Utc>,
}

/// A user or role whose newest document was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    /// `user` or `role`.
    pub kind: String,
    pub name: String,
    /// The document's revision.
    pub revision: i64,
}

/// The most refused snapshots, and the most void users and roles, that are read.
const SHOWN: i64 = 1_000;

impl Store {
    /// Accepts all revisions up to this one, however far ahead of the newest. Returns the newest
    /// revision.
    pub async fn directory_accept_revision(
        &self,
        revision: i64,
        author: &Author,
    ) -> Result<i64, StoreError> {
        const SQL: &str = "-- directory_accept
            update directory_state s
            set accepted_revision = greatest(o.accepted_revision, $1)
            from (select singleton, accepted_revision from directory_state for update) o
            where s.singleton = o.singleton
            returning s.revision, o.accepted_revision as before, s.accepted_revision as after";
        let mut client = self.connection("accept a revision").await?;
        let transaction = client.transaction().await?;
        let row = transaction.query_one(SQL, &[&revision]).await?;
        let (before, after): (i64, i64) = (row.column("before")?, row.column("after")?);
        if after != before {
            let entry = Entry::directory_revision_accepted(before, after);
            audit::add(&transaction, author, &[entry]).await?;
        }
        transaction.commit().await?;
        row.column("revision")
    }

    /// Accepts that the refused snapshots are missing, so that events are no longer held. Returns
    /// these snapshots.
    pub async fn directory_accept_refused(
        &self,
        author: &Author,
    ) -> Result<Vec<Refusal>, StoreError> {
        const SQL: &str = "-- directory_accept
            update directory_refusals set accepted_at = now() where accepted_at is null";
        let mut client = self.connection("accept the refused snapshots").await?;
        let transaction = client.transaction().await?;
        let state = State::lock(&transaction).await?;
        let accepted = open(&transaction).await?;
        transaction.execute(SQL, &[]).await?;
        state.save(&transaction).await?;
        if !accepted.is_empty() {
            let revisions: Vec<i64> = accepted.iter().map(|refusal| refusal.revision).collect();
            let entry = Entry::directory_refused_accepted(&revisions);
            audit::add(&transaction, author, &[entry]).await?;
        }
        transaction.commit().await?;
        Ok(accepted)
    }
}

/// Records a refused snapshot, unless one of its revision or a later one was applied. A revision
/// that can't be read or is not credible counts as the one after the newest revision, or after the
/// newest refused one that an administrator accepted.
pub(super) async fn note(
    transaction: &Transaction<'_>,
    revision: i64,
    why: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "-- directory_refusals
        insert into directory_refusals (revision, why, refused_at)
        select r.revision, $2, clock_timestamp()
        from (select r.known,
                     case when r.known then $1
                          else least(greatest(r.newest, (select max(a.revision)
                                                         from directory_refusals a
                                                         where a.accepted_at is not null)),
                                     9223372036854775806) + 1 end as revision
              from (select $1::bigint between 1 and greatest(extract(epoch from now()) * 1000,
                                                             s.accepted_revision) as known,
                           s.revision as newest
                    from directory_state s) r) r
        where not exists (select from directory_snapshots p where p.revision >= r.revision)
          -- Both queues bring it.
          and (r.known or not exists (select from directory_refusals o
                                      where o.accepted_at is null and o.why = $2
                                        and o.refused_at > now() - interval '1 minute'))
        on conflict do nothing";
    transaction.execute(SQL, &[&revision, &why]).await.map(drop)
}

/// Reads the refused snapshots that hold every event, the oldest first.
pub(super) async fn open(client: &Acting<impl Run>) -> Result<Vec<Refusal>, StoreError> {
    const SQL: &str = "-- directory_refusals
        select revision, why, refused_at from directory_refusals
        where accepted_at is null order by revision limit $1";
    let rows = client.query(SQL, &[&SHOWN]).await?;
    let refusal = |row: &Row| {
        Ok(Refusal {
            revision: row.column("revision")?,
            why: row.column("why")?,
            refused_at: row.column("refused_at")?,
        })
    };
    rows.iter().map(refusal).collect()
}

/// Reads the users and roles whose newest document was refused, the oldest first.
pub(super) async fn voids(client: &Acting<impl Run>) -> Result<Vec<Void>, StoreError> {
    const SQL: &str = "-- directory_refusals
        select v.kind, v.name, v.begin_revision
        from directory_versions v cross join directory_state s
        where v.void and not v.deleted and v.begin_revision <= s.revision
          and (v.end_revision is null or v.end_revision > s.revision)
        order by v.begin_revision limit $1";
    let rows = client.query(SQL, &[&SHOWN]).await?;
    let void = |row: &Row| {
        Ok(Void {
            kind: row.column("kind")?,
            name: row.column("name")?,
            revision: row.column("begin_revision")?,
        })
    };
    rows.iter().map(void).collect()
}
