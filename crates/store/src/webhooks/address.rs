//! The results of attempts for a webhook's address: since when it fails, and whether to pause it.
//!
//! The result of an attempt concerns the address that it went to. The owner may have changed the
//! address while the attempt was under way, so each statement here has the address as a condition,
//! and changes nothing when the webhook has another one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::audit::Author;
use fanfare_core::audit::webhook::{Pause, paused};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::webhook::{PauseReason, WebhookUri};

use super::owner;
use super::pause::pause_of;
use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Values;

impl Store {
    /// Pauses a webhook, if it still has this address. Returns whether it was not paused before.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: repeating it does no harm.
    pub async fn address_pause(
        &self,
        id: WebhookId,
        uri: &WebhookUri,
        reason: &PauseReason,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- address_pause
            update webhooks w
            set paused = true, updated_at = now(),
                -- Who paused it first keeps the word.
                paused_reason = case when o.paused then o.paused_reason else $3 end
            from (select id, paused, paused_reason from webhooks
                  where id = $1 and uri = $2 and deleted_at is null for update) o
            where w.id = o.id
            returning w.owner, o.paused, o.paused_reason";
        let mut client = self.connection("pause the webhook").await?;
        let transaction = client.transaction().await?;
        let values: Values<'_> = &[&id.0, &uri.as_str(), &reason.code()];
        let Some(row) = transaction.query_opt(SQL, values).await? else {
            return Ok(false);
        };
        let before = pause_of(&row)?;
        let is_news = !before.paused;
        if is_news {
            add_pause(&transaction, id, &owner(&row)?, reason).await?;
        }
        transaction.commit().await?;
        Ok(is_news)
    }

    /// Records the time since which every retry to an address failed, if it is not recorded yet.
    /// With `None` it records that the address does not fail any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: repeating it does no harm.
    pub async fn address_failing(
        &self,
        id: WebhookId,
        uri: &WebhookUri,
        since: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- address_failing
            update webhooks
            set failing_since = case when $3::timestamptz is null then null
                                     else coalesce(failing_since, $3) end
            where id = $1 and uri = $2 and deleted_at is null
              and (failing_since is null) <> ($3::timestamptz is null)";
        let client = self.connection("record whether the webhook fails").await?;
        let noted = client.execute(SQL, &[&id.0, &uri.as_str(), &since]).await;
        noted.map(drop)
    }

    /// Pauses a webhook as `failing` when its attempts at this address have failed for
    /// `pause_after` without an interval longer than `gap` between two of them. Otherwise it
    /// records that they have failed only since the last such interval, because one more failure
    /// proves little about a webhook to which nothing was sent for days. Returns whether it paused
    /// the webhook.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: repeating it does no harm.
    pub async fn address_pause_failing(
        &self,
        id: WebhookId,
        uri: &WebhookUri,
        pause_after: Duration,
        gap: Duration,
    ) -> Result<bool, StoreError> {
        // The attempts of a series that began before the webhook failed count, too. A series begins
        // at most a month before, which bounds the range of the index.
        const SQL: &str = include_str!("../sql/address_pause_failing.sql");
        let mut client = self.connection("pause a failing webhook").await?;
        let transaction = client.transaction().await?;
        let row = transaction
            .query_opt(
                SQL,
                &[
                    /* webhook */ &id.0,
                    /* uri */ &uri.as_str(),
                    /* pause_after */ &pause_after.as_secs_f64(),
                    /* gap */ &gap.as_secs_f64(),
                    /* reason */ &PauseReason::Failing.code(),
                ],
            )
            .await?;
        let Some(row) = row else {
            return Ok(false);
        };
        let paused: bool = row.column("paused")?;
        if paused {
            add_pause(&transaction, id, &owner(&row)?, &PauseReason::Failing).await?;
        }
        transaction.commit().await?;
        Ok(paused)
    }
}

/// Adds to the audit trail that the service paused a webhook, which was not paused before.
async fn add_pause(
    transaction: &Transaction<'_>,
    id: WebhookId,
    owner: &Name,
    reason: &PauseReason,
) -> Result<(), StoreError> {
    let before = Pause { paused: false, reason: None, hold: false };
    let after = Pause { paused: true, reason: Some(reason.clone()), hold: false };
    let entry = paused(id, owner, &before, &after);
    audit::add(transaction, &Author::system(), entry.as_slice()).await
}
