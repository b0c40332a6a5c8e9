//! Restarts: a person has a delivery attempted again, in a new series.

use chrono::{DateTime, Utc};
use fanfare_core::audit::{Author, Entry};
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::{AttemptRef, Restart};
use tokio_postgres::types::ToSql;

use crate::audit;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The deliveries that a restart concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartScope {
    /// Those that are not pending.
    NotPending,
    /// Only dead ones. The others have moved on.
    Dead,
}

impl Store {
    /// Begins a new series of attempts for a delivery at a person's request. A delivery that `scope`
    /// does not have stays as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the series may have begun; the reconciler then publishes its job.
    pub async fn delivery_restart(
        &self,
        batch: BatchKey,
        webhook: WebhookId,
        scope: RestartScope,
        author: &Author,
    ) -> Result<Restart, StoreError> {
        let entry =
            |before: &str| Entry::delivery_retried(DeliveryId::of(batch, webhook), webhook, before);
        self.restart(batch, webhook, scope, (author, &entry)).await
    }

    /// See [`delivery_restart`](Self::delivery_restart). The entry is made of the state before.
    async fn restart(
        &self,
        batch: BatchKey,
        webhook: WebhookId,
        scope: RestartScope,
        (author, entry): (&Author, &(dyn Fn(&str) -> Entry + Sync)),
    ) -> Result<Restart, StoreError> {
        // The restart writes the row whose sequence number a worker may be about to attempt. So it
        // takes the same lock as a claim, in the same row: a valid claim for that number refuses
        // the restart. The restart leaves the next number in the row, so that a later claim is
        // refused.
        const SQL: &str = include_str!("../sql/delivery_restart.sql");
        let only_dead = scope == RestartScope::Dead;
        let received_at = self.batch_received_at(batch).await?;
        let mut client = self.connection("restart the delivery").await?;
        let transaction = client.transaction().await?;
        let parameters: [&(dyn ToSql + Sync); 4] = [&batch.0, &webhook.0, &only_dead, &received_at];
        let row = transaction.query_one(SQL, &parameters).await?;
        if let Some(sequence) = row.column("entry")? {
            let entry = entry(row.column("state_before")?);
            audit::add(&transaction, author, &[entry]).await?;
            transaction.commit().await?;
            let first = AttemptRef::first(batch, webhook, received_at);
            return Ok(Restart::Begun(AttemptRef { sequence, ..first }));
        }
        transaction.commit().await?;
        if row.column("is_removed")? {
            return Ok(Restart::PayloadRemoved);
        }
        Ok(match (row.column("is_wanted")?, row.column("is_known")?) {
            (true, _) => Restart::UnderWay,
            (false, true) => Restart::MovedOn,
            (false, false) => Restart::Unknown,
        })
    }

    /// Begins a new series of attempts for a delivery that has a dead letter. `entry` is about the
    /// letter.
    pub async fn delivery_restart_dead(
        &self,
        batch: BatchKey,
        webhook: WebhookId,
        author: &Author,
        entry: &Entry,
    ) -> Result<Restart, StoreError> {
        let made = |_: &str| entry.clone();
        let restart = self.restart(batch, webhook, RestartScope::Dead, (author, &made)).await?;
        if restart != Restart::Unknown {
            return Ok(restart);
        }
        // A delivery without a row was not attempted yet, or does not exist.
        let known = self.delivery_find(DeliveryId::of(batch, webhook)).await?.is_some();
        Ok(if known { Restart::MovedOn } else { Restart::Unknown })
    }

    /// Records that a person discarded the dead letter of the row with this sequence number. Retention
    /// then need not keep the delivery any longer.
    pub async fn delivery_discard(
        &self,
        died: AttemptRef,
        author: &Author,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- delivery_discard
            insert into discards (batch, webhook, entry) values ($1, $2, $3)
            on conflict do nothing";
        let mut client = self.connection("record that a dead letter was discarded").await?;
        let transaction = client.transaction().await?;
        let AttemptRef { batch, webhook, sequence, .. } = died;
        transaction.execute(SQL, &[&batch.0, &webhook.0, &sequence]).await?;
        audit::add(&transaction, author, std::slice::from_ref(entry)).await?;
        transaction.commit().await
    }

    /// Counts a webhook's dead deliveries whose last series began at `since` or later, up to
    /// `most`. Those without their payload can't be sent again, and don't count.
    pub async fn deliveries_dead(
        &self,
        webhook: WebhookId,
        since: DateTime<Utc>,
        most: i64,
    ) -> Result<i64, StoreError> {
        const SQL: &str = "-- deliveries_dead
            select count(*) from (
                select from attempts a
                where a.state = 'dead' and a.state in ('dead', 'dropped') and a.webhook = $1
                  and a.since >= $2
                  and not exists (select from attempts l where l.batch = a.batch
                                  and l.webhook = a.webhook and l.entry > a.entry
                                  and l.received_at = a.received_at)
                  and not exists (select from events e where e.batch = a.batch
                                  and e.received_at = a.received_at and a.webhook = any(e.webhooks)
                                  and e.payload_removed is not null)
                limit $3
            ) dead";
        let client = self.connection("count dead deliveries").await?;
        client.query_one(SQL, &[&webhook.0, &since, &most]).await?.column("count")
    }
}
