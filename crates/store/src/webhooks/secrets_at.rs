//! The secrets with which a webhook signed at a past time.

use chrono::{DateTime, Utc};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Secret;

use super::confidential;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// A webhook's secrets as of a past time.
#[derive(Debug, Clone)]
pub struct SecretsAt {
    /// The secrets that were valid, the newest first, as far as they are kept.
    pub secrets: Vec<Secret>,
    /// The time of the last change to the webhook. Its properties before that are not kept.
    pub changed_at: DateTime<Utc>,
}

impl Store {
    /// Reads the secrets with which a webhook signed at a time. They are exact if the webhook was
    /// not changed since; see [`SecretsAt::changed_at`].
    pub async fn webhook_secrets_at(
        &self,
        id: WebhookId,
        at: DateTime<Utc>,
    ) -> Result<Option<SecretsAt>, StoreError> {
        const SQL: &str = "-- webhook_then
            select id, sealed, updated_at from webhooks where id = $1 and deleted_at is null";
        let rows = self.webhooks_rows(SQL, &[&id.0]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let secrets = confidential(&self.keyring, row)?.secrets(at)?;
        Ok(Some(SecretsAt { secrets, changed_at: row.column("updated_at")? }))
    }
}
