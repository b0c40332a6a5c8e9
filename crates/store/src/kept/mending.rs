//! Dead events that a person corrects.

use fanfare_core::audit::{Author, Entry};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Kept, NewKept, RETURN_MARGIN, facts, kept};
use crate::audit;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// A dead event that a person may correct.
#[derive(Debug, Clone)]
pub struct Mendable {
    pub kept: Kept,
    /// The digest of the message as it was published, before it was masked.
    pub digest: Uuid,
}

impl Store {
    /// Finds an undecided dead event with the digest of its message.
    pub async fn kept_mendable(&self, id: Uuid) -> Result<Option<Mendable>, StoreError> {
        const SQL: &str = "-- kept_mendable
            select id, kind, properties, body, digest from kept_messages
            where id = $1 and settled_at is null and kind = 'dead' and return_at is null";
        let client = self.connection("find a dead letter").await?;
        let row = client.query_opt(SQL, &[&id]).await?;
        row.map(|row| Ok(Mendable { kept: kept(&row)?, digest: row.column("digest")? })).transpose()
    }

    /// Records that a corrected message is about to be published in place of a dead event, with an entry
    /// of the audit trail, and returns whether that was so: the event may have been decided meanwhile.
    ///
    /// The original is settled as replayed and keeps its body. If the corrected message does not reach the
    /// routers, it is published once more.
    pub async fn kept_mend(
        &self,
        original: Uuid,
        mended: &NewKept,
        author: &Author,
        entry: &Entry,
    ) -> Result<bool, StoreError> {
        const SQL: &str = include_str!("../sql/kept_mend.sql");
        let mut client = self.connection("record that a dead event is mended").await?;
        let transaction = client.transaction().await?;
        let settled = transaction
            .execute(
                SQL,
                &[
                    /* original */ &original,
                    /* id */ &mended.id,
                    /* properties */ &mended.properties,
                    /* body */ &mended.body,
                    /* digest */ &mended.digest,
                    /* facts */ &Json(facts(mended)),
                    /* margin */ &RETURN_MARGIN.as_secs_f64(),
                ],
            )
            .await?;
        if settled == 0 {
            return Ok(false);
        }
        audit::add(&transaction, author, std::slice::from_ref(entry)).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes the bodies of dead events that were corrected before `age`, and returns how many.
    pub async fn kept_mended_remove(&self, age: std::time::Duration) -> Result<u64, StoreError> {
        const SQL: &str = "-- kept_mended_remove
            update kept_messages set properties = '', body = ''
            where id in (select id from kept_messages
                         where mended_as is not null and body <> ''
                           and settled_at < now() - $1::float8 * interval '1 second'
                         limit 1000)";
        let client = self.connection("remove the bodies of mended events").await?;
        client.execute(SQL, &[&age.as_secs_f64()]).await
    }
}
