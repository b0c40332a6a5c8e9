//! Deleting webhooks.

use fanfare_core::audit::webhook::{self as entries, Unsealed};
use fanfare_core::audit::{Author, Entry};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use tokio_postgres::Row;

use super::owner;
use super::pause::pause_of;
use crate::audit;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

impl Store {
    /// Deletes a webhook and its secrets. Returns whether there was such a webhook.
    pub async fn webhook_delete(&self, id: WebhookId, author: &Author) -> Result<bool, StoreError> {
        const SQL: &str = "-- webhook_delete
            with unpaced as (delete from webhook_paces where webhook = $1)
            update webhooks set deleted_at = now(), updated_at = now(), sealed = ''
            where id = $1 and deleted_at is null
            returning id, owner, uri, description, filters, paused, paused_reason, hold";
        let mut client = self.connection("delete the webhook").await?;
        let transaction = client.transaction().await?;
        let rows = transaction.query(SQL, &[&id.0]).await?;
        audit::add(&transaction, author, &deleted(&rows)?).await?;
        transaction.commit().await?;
        Ok(!rows.is_empty())
    }

    /// Deletes all webhooks of an owner, with their secrets. Returns how many there were.
    pub async fn webhooks_delete_of(
        &self,
        owner: &Name,
        author: &Author,
    ) -> Result<usize, StoreError> {
        const SQL: &str = "-- webhooks_delete_of
            with unpaced as (
                delete from webhook_paces p using webhooks w
                where w.id = p.webhook and w.owner_key = $1
            )
            update webhooks set deleted_at = now(), updated_at = now(), sealed = ''
            where owner_key = $1 and deleted_at is null
            returning id, owner, uri, description, filters, paused, paused_reason, hold";
        let mut client = self.connection("delete the webhooks").await?;
        let transaction = client.transaction().await?;
        let rows = transaction.query(SQL, &[&owner.key()]).await?;
        audit::add(&transaction, author, &deleted(&rows)?).await?;
        transaction.commit().await?;
        Ok(rows.len())
    }
}

/// The entries about deleted webhooks, whose rows these are.
fn deleted(rows: &[Row]) -> Result<Vec<Entry>, StoreError> {
    let entry = |row: &Row| {
        let filters: Vec<String> = row.column("filters")?;
        Ok(entries::deleted(&Unsealed {
            id: WebhookId(row.column("id")?),
            owner: &owner(row)?,
            uri: row.column("uri")?,
            description: row.column("description")?,
            filters: &filters,
            pause: pause_of(row)?,
        }))
    };
    rows.iter().map(entry).collect()
}
