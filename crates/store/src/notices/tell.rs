//! What is still to be told, and what became of it.

use std::time::Duration;

use fanfare_core::notice::Notice;
use serde_json::json;
use tokio_postgres::Row;
use uuid::Uuid;

use super::notice;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The pause after the first try. It doubles with each try.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The age after which a notice that can't be told is given up.
const GIVE_UP_AFTER: Duration = Duration::from_hours(3 * 24);
/// How long notices and closed causes are kept.
const KEEP: Duration = Duration::from_hours(90 * 24);

/// A notice that is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    pub notice: Notice,
    /// The ways in which it is still to be told.
    pub waiting: Vec<String>,
}

impl Store {
    /// Takes notices that are to be told, the oldest first. They are tried again after a while, unless
    /// [`Store::notice_told`] says that they were told.
    pub async fn notices_due(&self, most: i64) -> Result<Vec<Due>, StoreError> {
        const SQL: &str = "-- notices_due
            update notices n
            set tries = tries + 1,
                next_try_at = case when at > now() - $4::float8 * interval '1 second'
                    then now() + least($2::float8 * 2::float8 ^ least(tries, 20), $3::float8) * interval '1 second' end
            where id in (select id from notices where next_try_at <= now()
                         order by next_try_at, at limit $1 for update skip locked)
            returning id, cause, says, webhook, owner, host, at, facts, waiting";
        let client = self.connection("take notices that are due").await?;
        let (first, longest) = (FIRST_PAUSE.as_secs_f64(), LONGEST_PAUSE.as_secs_f64());
        let values: crate::statement::Values<'_> =
            &[&most, &first, &longest, &GIVE_UP_AFTER.as_secs_f64()];
        let rows = client.query(SQL, values).await?;
        let due = |row: &Row| Ok(Due { notice: notice(row)?, waiting: row.column("waiting")? });
        let mut due = rows.iter().map(due).collect::<Result<Vec<_>, StoreError>>()?;
        due.sort_by_key(|due| (due.notice.at, due.notice.id));
        Ok(due)
    }

    /// Notes that a notice was told in this way, or need not be.
    pub async fn notice_told(&self, id: Uuid, way: &str) -> Result<(), StoreError> {
        const SQL: &str = "-- notice_told
            update notices
            set waiting = array_remove(waiting, $2::text), failures = failures - $2::text,
                told_at = case when array_remove(waiting, $2::text) = '{}' then now() end,
                next_try_at = case when array_remove(waiting, $2::text) = '{}' then null
                                   else next_try_at end
            where id = $1 and $2::text = any(waiting)";
        let client = self.connection("note that a notice was told").await?;
        client.execute(SQL, &[&id, &way]).await.map(drop)
    }

    /// Notes why a notice could not be told in this way.
    pub async fn notice_failed(&self, id: Uuid, way: &str, error: &str) -> Result<(), StoreError> {
        const SQL: &str = "-- notice_failed
            update notices set failures = failures || $2::jsonb where id = $1";
        let client = self.connection("note that a notice was not told").await?;
        client.execute(SQL, &[&id, &json!({ (way): error })]).await.map(drop)
    }

    /// Removes old notices, and causes that were closed long ago.
    pub async fn notices_sweep(&self) -> Result<u64, StoreError> {
        const NOTICES: &str = "-- notices_sweep
            delete from notices where at < now() - $1::float8 * interval '1 second'";
        const CAUSES: &str = "-- notice_causes_sweep
            delete from notice_causes where closed_at < now() - $1::float8 * interval '1 second'";
        let client = self.connection("remove old notices").await?;
        let keep = KEEP.as_secs_f64();
        Ok(client.execute(NOTICES, &[&keep]).await? + client.execute(CAUSES, &[&keep]).await?)
    }
}
