//! The paces of webhooks, which all workers share. `fanfare_core::pace` decides; this module keeps
//! one row for each webhook that has a hold, a pace or a rate limit.

use std::time::Duration;

use fanfare_core::ids::WebhookId;
use fanfare_core::pace::Pace;
use fanfare_core::webhook::WebhookUri;
use futures_util::future::join;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Json, ToSql};

use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// A row that has not changed for this time is removed. The pace of the receiver is then learned
/// again.
const FORGET_AFTER: Duration = Duration::from_hours(7 * 24);

impl Store {
    /// Changes the pace of a webhook with this address under a lock, and returns the result of
    /// `change`. A pace that limits nothing any more is removed. `None` when nothing was changed,
    /// because another process held the lock for a second, or the webhook has another address or is
    /// deleted.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the pace may have been changed. A repeated call reserves another slot, or
    /// counts an answer twice; both only make the webhook slower.
    pub async fn pace_change<T: Send>(
        &self,
        webhook: WebhookId,
        uri: &WebhookUri,
        change: impl FnOnce(&mut Pace) -> T + Send,
    ) -> Result<Option<T>, StoreError> {
        const WRITE: &str = "-- pace_write
            update webhook_paces set hold_until = $2, interval_seconds = $3, learned = $4
            where webhook = $1";
        const REMOVE: &str = "-- pace_remove
            delete from webhook_paces where webhook = $1";
        let mut client = self.connection("change the pace of a webhook").await?;
        let transaction = client.transaction().await?;
        let locked = lock(&transaction, webhook, uri).await?;
        let Some(mut pace) = locked else { return Ok(None) };
        let changed = change(&mut pace);
        if pace.is_over(self.clock().now()) {
            transaction.execute(&Cached(REMOVE), &[&webhook.0]).await?;
        } else {
            let learned = Json(&pace);
            transaction
                .execute(&Cached(WRITE), &[&webhook.0, &pace.hold_until, &pace.interval, &learned])
                .await?;
        }
        transaction.commit().await?;
        Ok(Some(changed))
    }

    /// Counts the webhooks that are held now at their receivers' request.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database did not answer.
    pub async fn paces_held(&self) -> Result<i64, StoreError> {
        const SQL: &str = "-- paces_held
            select count(*) from webhook_paces where hold_until > now()";
        let client = self.connection("count the webhooks on hold").await?;
        client.query_one(SQL, &[]).await?.column("count")
    }

    /// Removes the paces of webhooks to which nothing was sent for a week.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the next sweep removes them.
    pub async fn paces_sweep(&self) -> Result<u64, StoreError> {
        const SQL: &str = "-- paces_sweep
            delete from webhook_paces
            where updated_at < now() - $1::float8 * interval '1 second'
              and (hold_until is null or hold_until < now())";
        let client = self.connection("remove old paces").await?;
        client.execute(SQL, &[&FORGET_AFTER.as_secs_f64()]).await
    }
}

/// Locks the row of a webhook's pace, and reads it.
async fn lock(
    transaction: &Transaction<'_>,
    webhook: WebhookId,
    uri: &WebhookUri,
) -> Result<Option<Pace>, StoreError> {
    // The commit does not wait for the disk: a pace that a crash of the database loses is learned
    // again.
    const BRIEFLY: &str = "-- pace_lock_briefly
        select set_config('synchronous_commit', 'off', true),
               set_config('lock_timeout', '1s', true)";
    const LOCK: &str = "-- pace_lock
        insert into webhook_paces as p (webhook)
        select w.id from webhooks w where w.id = $1 and w.uri = $2 and w.deleted_at is null
        on conflict (webhook) do update set updated_at = now()
        returning hold_until, interval_seconds, learned";
    let uri = uri.as_str();
    let parameters: [&(dyn ToSql + Sync); 2] = [&webhook.0, &uri];
    // Both statements are sent at once.
    let briefly = transaction.query_one(&Cached(BRIEFLY), &[]);
    let (briefly, row) = join(briefly, transaction.query_opt(&Cached(LOCK), &parameters)).await;
    briefly?;
    match row {
        Err(error) if error.sql_state() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(None),
        row => row?.as_ref().map(pace).transpose(),
    }
}

fn pace(row: &Row) -> Result<Pace, StoreError> {
    let Json(learned): Json<serde_json::Value> = row.column("learned")?;
    // A pace that another version wrote may not parse: it is learned again.
    let mut pace: Pace = serde_json::from_value(learned).unwrap_or_default();
    (pace.hold_until, pace.interval) = (row.column("hold_until")?, row.column("interval_seconds")?);
    Ok(pace)
}
