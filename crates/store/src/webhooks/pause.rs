//! Pausing and resuming a webhook at a person's request.

use fanfare_core::audit::Author;
use fanfare_core::audit::webhook::{Pause, paused};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::PauseReason;
use tokio_postgres::Row;

use super::owner;
use crate::audit;
use crate::error::StoreError;
use crate::operations::recover_held;
use crate::pool::Store;
use crate::rows::Columns as _;

impl Store {
    /// Pauses a webhook at a person's request. A webhook that the service paused keeps its reason. `hold`
    /// says what becomes of what happens meanwhile; `None` keeps what its owner chose before.
    /// The service itself uses [`address_pause`](Self::address_pause). Returns whether there is such
    /// a webhook.
    pub async fn webhook_pause(
        &self,
        id: WebhookId,
        hold: Option<bool>,
        author: &Author,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- webhook_pause
            update webhooks w
            set paused = true, paused_reason = case when w.paused then w.paused_reason end,
                hold = coalesce($2, w.hold), updated_at = now()
            from (select id, paused, paused_reason, hold from webhooks
                  where id = $1 and deleted_at is null for update) o
            where w.id = o.id
            returning w.owner, w.hold as holds, o.paused, o.paused_reason, o.hold";
        let mut client = self.connection("pause the webhook").await?;
        let transaction = client.transaction().await?;
        let Some(row) = transaction.query_opt(SQL, &[&id.0, &hold]).await? else {
            return Ok(false);
        };
        let before = pause_of(&row)?;
        let after =
            Pause { paused: true, reason: before.reason.clone(), hold: row.column("holds")? };
        let entry = paused(id, &owner(&row)?, &before, &after);
        audit::add(&transaction, author, entry.as_slice()).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Resumes a webhook at a person's request, and begins to recover what it held. Returns whether there is such a webhook.
    pub async fn webhook_resume(&self, id: WebhookId, author: &Author) -> Result<bool, StoreError> {
        const SQL: &str = "-- webhook_resume
            update webhooks w
            set paused = false, paused_reason = null, failing_since = null, updated_at = now()
            from (select id, paused, paused_reason, hold from webhooks
                  where id = $1 and deleted_at is null for update) o
            where w.id = o.id
            returning w.owner, o.paused, o.paused_reason, o.hold";
        let mut client = self.connection("resume the webhook").await?;
        let transaction = client.transaction().await?;
        recover_held(&transaction, id, author).await?;
        let Some(row) = transaction.query_opt(SQL, &[&id.0]).await? else {
            return Ok(false);
        };
        let before = pause_of(&row)?;
        let after = Pause { paused: false, reason: None, hold: before.hold };
        let entry = paused(id, &owner(&row)?, &before, &after);
        audit::add(&transaction, author, entry.as_slice()).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// Whether a row's webhook was paused, and why.
pub(super) fn pause_of(row: &Row) -> Result<Pause, StoreError> {
    let reason: Option<&str> = row.column("paused_reason")?;
    Ok(Pause {
        paused: row.column("paused")?,
        reason: reason.map(PauseReason::parse),
        hold: row.column("hold")?,
    })
}
