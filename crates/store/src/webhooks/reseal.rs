//! Resealing of secrets with the first key of the ring, so that an older key can be removed.

use fanfare_core::ids::WebhookId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The number of webhooks whose secrets a key seals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The key's id.
    pub key: String,
    /// The number of webhooks without deleted ones, which have no secrets. The address that an owner
    /// chose for notices counts as one.
    pub webhooks: u64,
}

/// The result of a batch.
#[derive(Debug, Default)]
pub struct Resealed {
    /// The webhook after which the next batch begins; `None` when this was the last.
    pub next: Option<WebhookId>,
    /// The number of webhooks whose secrets were resealed.
    pub done: u64,
    /// Webhooks whose secrets could not be opened, and stay as they are.
    pub failed: Vec<(WebhookId, StoreError)>,
}

impl Store {
    /// The id of the key that seals now.
    #[must_use]
    pub fn sealing_key(&self) -> &str {
        self.keyring.first()
    }

    /// Counts the webhooks whose secrets each key seals, in the order of the keys' ids.
    pub async fn secrets_by_key(&self) -> Result<Vec<KeyUse>, StoreError> {
        const SQL: &str = "-- secrets_by_key
            select encode(substring(sealed from 2 for get_byte(sealed, 0)), 'escape') as key,
                   count(*)
            from (select sealed from webhooks union all select sealed from notice_settings) s
            where sealed <> '' group by key order by key";
        let client = self.connection("count the secrets of each key").await?;
        let rows = client.query(SQL, &[]).await?;
        let read = |row: &Row| {
            let webhooks = u64::try_from(row.column::<i64>("count")?).unwrap_or_default();
            Ok(KeyUse { key: row.column("key")?, webhooks })
        };
        rows.iter().map(read).collect()
    }

    /// Reseals the secrets of up to `most` webhooks and addresses of notices with ids after `after`, in
    /// the order of ids. Secrets that the first key
    /// seals already are skipped. A batch is done as a whole or not at all, so that it may be interrupted
    /// and repeated.
    pub async fn secrets_reseal(
        &self,
        after: Option<WebhookId>,
        most: i64,
    ) -> Result<Resealed, StoreError> {
        // One order of ids over both tables, so that one position is enough.
        const READ: &str = "-- secrets_reseal
            select id, sealed from (
                select id, sealed from webhooks union all select id, sealed from notice_settings) s
            where id > $1 and sealed <> ''
              and substring(sealed from 2 for get_byte(sealed, 0)) <> $2
            order by id limit $3";
        // A secret that was replaced in the meantime stays.
        const WEBHOOKS: &str = "-- secrets_reseal
            update webhooks w set sealed = n.sealed
            from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as n (id, old, sealed)
            where w.id = n.id and w.sealed = n.old";
        const NOTICES: &str = "-- secrets_reseal
            update notice_settings w set sealed = n.sealed
            from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as n (id, old, sealed)
            where w.id = n.id and w.sealed = n.old";
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let mut client = self.connection("reseal secrets").await?;
        let transaction = client.transaction().await?;
        let first = self.keyring.first().as_bytes();
        let rows = transaction.query(READ, &[&after, &first, &most]).await?;
        let mut batch = Resealed::default();
        let (mut ids, mut before, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let (id, old): (Uuid, &[u8]) = (row.column("id")?, row.column("sealed")?);
            batch.next = Some(WebhookId(id));
            let bound = id.as_bytes();
            let resealed =
                self.keyring.open(old, bound).and_then(|it| self.keyring.seal(&it, bound));
            match resealed {
                Ok(resealed) => {
                    ids.push(id);
                    before.push(old);
                    sealed.push(resealed);
                }
                Err(error) => batch.failed.push((WebhookId(id), error)),
            }
        }
        for sql in [WEBHOOKS, NOTICES] {
            batch.done += transaction.execute(sql, &[&ids, &before, &sealed]).await?;
        }
        transaction.commit().await?;
        if i64::try_from(rows.len()).unwrap_or(most) < most {
            batch.next = None;
        }
        Ok(batch)
    }
}
