//! How fast webhooks may get their notifications, as all workers share it: `fanfare_core::pace`
//! decides, this keeps one row for each webhook that has a hold, a pace or a limit.

use std::time::Duration;

use deadpool_postgres::Transaction;
use fanfare_core::ids::WebhookId;
use fanfare_core::pace::Pace;
use fanfare_core::webhook::WebhookUri;
use futures_util::future::join;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Error, Row};

use crate::error::StoreError;
use crate::pool::Store;

/// A row that nothing has changed for this long is removed: the receiver is then found out again.
const FORGET_AFTER: Duration = Duration::from_hours(7 * 24);

impl Store {
    /// Changes the pace of a webhook with this address, while no other process does, and returns what
    /// `change` returns. A pace that has nothing to say is removed. `None` when it was not changed:
    /// another process has had the pace for a second, or the webhook has another address by now, or is
    /// deleted.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: whether it was changed is not known. To repeat it reserves another slot, or
    /// counts an answer twice, which both only makes the webhook slower.
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
        let doing = "change the pace of a webhook";
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::at(doing))?;
        let locked = lock(&transaction, webhook, uri).await.map_err(StoreError::at(doing))?;
        let Some(mut pace) = locked else { return Ok(None) };
        let changed = change(&mut pace);
        if pace.is_over(self.clock().now()) {
            let statement = transaction.prepare_cached(REMOVE).await;
            let statement = statement.map_err(StoreError::at(doing))?;
            transaction.execute(&statement, &[&webhook.0]).await.map_err(StoreError::at(doing))?;
        } else {
            let statement = transaction.prepare_cached(WRITE).await;
            let statement = statement.map_err(StoreError::at(doing))?;
            let learned = Json(&pace);
            transaction
                .execute(&statement, &[&webhook.0, &pace.hold_until, &pace.interval, &learned])
                .await
                .map_err(StoreError::at(doing))?;
        }
        transaction.commit().await.map_err(StoreError::at(doing))?;
        Ok(Some(changed))
    }

    /// How many webhooks are held now, because their receivers asked for that.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database did not answer.
    pub async fn paces_held(&self) -> Result<i64, StoreError> {
        const SQL: &str = "-- paces_held
            select count(*) from webhook_paces where hold_until > now()";
        let client = self.client().await?;
        let row = client.query_one(SQL, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(StoreError::at("count the webhooks on hold"))
    }

    /// Removes the paces of webhooks that got nothing for a week.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: they are removed the next time.
    pub async fn paces_sweep(&self) -> Result<u64, StoreError> {
        const SQL: &str = "-- paces_sweep
            delete from webhook_paces
            where updated_at < now() - $1::float8 * interval '1 second'
              and (hold_until is null or hold_until < now())";
        let client = self.client().await?;
        let swept = client.execute(SQL, &[&FORGET_AFTER.as_secs_f64()]).await;
        swept.map_err(StoreError::at("remove old paces"))
    }
}

/// Locks the row of a webhook's pace, and reads it.
async fn lock(
    transaction: &Transaction<'_>,
    webhook: WebhookId,
    uri: &WebhookUri,
) -> Result<Option<Pace>, Error> {
    // Not waited for until it is on the disk: what a crash of the database loses is learned again.
    const BRIEFLY: &str = "-- pace_lock_briefly
        select set_config('synchronous_commit', 'off', true),
               set_config('lock_timeout', '1s', true)";
    const LOCK: &str = "-- pace_lock
        insert into webhook_paces as p (webhook)
        select w.id from webhooks w where w.id = $1 and w.uri = $2 and w.deleted_at is null
        on conflict (webhook) do update set updated_at = now()
        returning hold_until, interval_seconds, learned";
    let briefly = transaction.prepare_cached(BRIEFLY).await?;
    let statement = transaction.prepare_cached(LOCK).await?;
    let uri = uri.as_str();
    let parameters: [&(dyn ToSql + Sync); 2] = [&webhook.0, &uri];
    // Both go out at once.
    let briefly = transaction.query_one(&briefly, &[]);
    let (briefly, row) = join(briefly, transaction.query_opt(&statement, &parameters)).await;
    briefly?;
    match row {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(None),
        row => row?.as_ref().map(pace).transpose(),
    }
}

fn pace(row: &Row) -> Result<Pace, tokio_postgres::Error> {
    let Json(learned): Json<serde_json::Value> = row.try_get(2)?;
    // What another version wrote is no reason to stop: it is learned again.
    let mut pace: Pace = serde_json::from_value(learned).unwrap_or_default();
    (pace.hold_until, pace.interval) = (row.try_get(0)?, row.try_get(1)?);
    Ok(pace)
}
