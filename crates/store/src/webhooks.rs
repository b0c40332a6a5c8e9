//! Webhooks: how they are registered, read and changed.

mod address;
mod deletion;
pub mod grid;
mod pause;
mod reseal;
mod secrets;
mod secrets_at;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::audit::{Action, Author, webhook as entries};
use fanfare_core::filter::Filters;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::webhook::{Pacing, PauseReason, Properties, Webhook, WebhookUri};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit;
use crate::connection::{Acting, Transaction};
use crate::error::StoreError;
use crate::keyring::Keyring;
use crate::operations::recover_held;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::{Cached, Run};
use secrets::{Confidential, to_seal};

pub use reseal::{KeyUse, Resealed};
pub use secrets_at::SecretsAt;

/// A webhook, and how long the result may be kept.
#[derive(Debug, Clone)]
pub struct WebhookRead {
    pub webhook: Webhook,
    /// The time, from the reading on, after which another set of secrets is valid; `None` when none
    /// of them ends.
    pub holds: Option<Duration>,
}

#[derive(Debug, Default)]
pub struct WebhooksRead {
    pub readable: Vec<WebhookRead>,
    /// Webhooks whose secrets can't be opened, or whose rows no version of Fanfare writes.
    pub unreadable: Vec<(WebhookId, StoreError)>,
}

/// Selects the columns of [`webhook`].
macro_rules! select {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
            select id, owner, uri, description, paused, paused_reason, filters, properties, sealed,
                   created_at, failing_since, rate_limit, hold, held_since,
                   clock_timestamp() as read_at,
                   p.hold_until, p.interval_seconds
            from webhooks left join webhook_paces p on p.webhook = id
            ",
            $rest
        )
    };
}

macro_rules! insert {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
            insert into webhooks (id, owner, owner_key, uri, description, paused, paused_reason,
                                  filters, properties, sealed, created_at, rate_limit)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            ",
            $rest
        )
    };
}

const INSERT: &str = insert!("webhook_add", "");

impl Store {
    /// Registers a webhook.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooManyWebhooks`] when its owner has `most` webhooks already.
    pub async fn webhook_register(
        &self,
        webhook: &Webhook,
        most: u32,
        author: &Author,
    ) -> Result<(), StoreError> {
        let mut client = self.connection("register the webhook").await?;
        let transaction = client.transaction().await?;
        lock_owner(&transaction, &webhook.owner).await?;
        self.insert(&transaction, INSERT, webhook).await?;
        check_number(&transaction, &webhook.owner, most).await?;
        let entry = entries::created(webhook, Action::WebhookCreated);
        audit::add(&transaction, author, &[entry]).await?;
        transaction.commit().await
    }

    /// Registers a webhook without a limit on their number.
    pub async fn webhook_add(&self, webhook: &Webhook) -> Result<(), StoreError> {
        let client = self.connection("register the webhook").await?;
        self.insert(&client, INSERT, webhook).await.map(drop)
    }

    /// Registers all of these webhooks, or none. A webhook whose id is known is skipped, even if
    /// the one that has the id was deleted. Returns how many are new.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooManyWebhooks`] when an owner of a new webhook would have more than `most`.
    pub async fn webhooks_import(
        &self,
        webhooks: &[Webhook],
        most: u32,
        author: &Author,
    ) -> Result<u64, StoreError> {
        const SQL: &str = insert!("webhooks_import", "on conflict (id) do nothing");
        let mut client = self.connection("import webhooks").await?;
        let transaction = client.transaction().await?;
        // Every import locks owners in the same order, so that two imports can't deadlock.
        let owners: BTreeSet<&Name> = webhooks.iter().map(|webhook| &webhook.owner).collect();
        for owner in owners {
            lock_owner(&transaction, owner).await?;
        }
        let (mut added, mut changed) = (0, BTreeSet::new());
        for webhook in webhooks {
            let new = self.insert(&transaction, SQL, webhook).await?;
            if new > 0 {
                changed.insert(&webhook.owner);
                let entry = entries::created(webhook, Action::WebhookImported);
                audit::add(&transaction, author, &[entry]).await?;
            }
            added += new;
        }
        for owner in changed {
            check_number(&transaction, owner, most).await?;
        }
        transaction.commit().await?;
        Ok(added)
    }

    async fn insert(
        &self,
        client: &Acting<impl Run>,
        sql: &str,
        webhook: &Webhook,
    ) -> Result<u64, StoreError> {
        let sealed = to_seal(webhook, None).seal(&self.keyring, webhook.id)?;
        client
            .execute(
                sql,
                &[
                    /* id */ &webhook.id.0,
                    /* owner */ &webhook.owner.as_str(),
                    /* owner_key */ &webhook.owner.key(),
                    /* uri */ &webhook.uri.as_str(),
                    /* description */ &webhook.description,
                    /* paused */ &webhook.paused,
                    /* paused_reason */
                    &webhook.paused_reason.as_ref().map(PauseReason::code),
                    /* filters */ &webhook.filters.stored(),
                    /* properties */ &webhook.properties.to_json(),
                    /* sealed */ &sealed,
                    /* created_at */ &webhook.created_at,
                    /* rate_limit */
                    &stored(webhook.rate_limit),
                ],
            )
            .await
    }

    /// Changes those properties of a webhook that its owner may change. `change` gets the current
    /// webhook, whose row is locked meanwhile. Returns whether there is such a webhook.
    pub async fn webhook_change(
        &self,
        id: WebhookId,
        author: &Author,
        change: impl FnOnce(Webhook) -> Webhook + Send,
    ) -> Result<bool, StoreError> {
        const READ: &str = select!(
            "webhook_change",
            "where id = $1 and deleted_at is null for update of webhooks"
        );
        const WRITE: &str = "-- webhook_change
            with moved as (
                -- Another receiver has another pace.
                delete from webhook_paces p using webhooks w
                where p.webhook = $1 and w.id = $1 and w.uri <> $2
            )
            update webhooks
            set uri = $2, description = $3, paused = $4, paused_reason = $5, filters = $6,
                properties = $7, sealed = $8, rate_limit = $9, hold = $10, secret_ends_at = $11,
                updated_at = now(),
                -- With a new address, or after a resumption, earlier failures do not count.
                failing_since = case when uri = $2 and ($4 or not paused) then failing_since end
            where id = $1";
        let mut client = self.connection("change the webhook").await?;
        let transaction = client.transaction().await?;
        let row = transaction.query_opt(READ, &[&id.0]).await?;
        let Some(row) = row else {
            return Ok(false);
        };
        let before = confidential(&self.keyring, &row)?;
        let old = webhook(&self.keyring, &row)?.webhook;
        let changed = change(old.clone());
        let confidential = to_seal(&changed, Some(&before));
        let sealed = confidential.seal(&self.keyring, id)?;
        if !changed.paused {
            recover_held(&transaction, id, author).await?;
        }
        transaction
            .execute(
                WRITE,
                &[
                    /* id */ &id.0,
                    /* uri */ &changed.uri.as_str(),
                    /* description */ &changed.description,
                    /* paused */ &changed.paused,
                    /* paused_reason */
                    &changed.paused_reason.as_ref().map(PauseReason::code),
                    /* filters */ &changed.filters.stored(),
                    /* properties */ &changed.properties.to_json(),
                    /* sealed */ &sealed,
                    /* rate_limit */ &stored(changed.rate_limit),
                    /* hold */ &changed.hold,
                    /* secret_ends_at */ &confidential.next_end(self.clock().now()),
                ],
            )
            .await?;
        audit::add(&transaction, author, &entries::changes(&old, &changed)).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Whether a webhook is paused; `None` when it is deleted or was never registered.
    pub async fn webhook_paused(&self, id: WebhookId) -> Result<Option<bool>, StoreError> {
        const SQL: &str = "-- webhook_paused
            select paused from webhooks where id = $1 and deleted_at is null";
        let client = self.connection("read whether the webhook is paused").await?;
        let row = client.query_opt(SQL, &[&id.0]).await?;
        row.map(|row| row.column("paused")).transpose()
    }

    /// Reads those of these webhooks that exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when one of them can't be read.
    pub async fn webhooks_get(&self, ids: &[WebhookId]) -> Result<Vec<Webhook>, StoreError> {
        let mut read = self.webhooks_read(ids).await?;
        match read.unreadable.pop() {
            Some((_, error)) => Err(error),
            None => Ok(read.readable.into_iter().map(|read| read.webhook).collect()),
        }
    }

    /// Reads those of these webhooks that exist, for a cache. A webhook that can't be read does not
    /// keep the others from being read.
    pub async fn webhooks_read(&self, ids: &[WebhookId]) -> Result<WebhooksRead, StoreError> {
        const SQL: &str = select!("webhooks_get", "where id = any($1) and deleted_at is null");
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let mut found = WebhooksRead::default();
        for row in self.webhooks_rows(SQL, &[&ids]).await? {
            let id = row.column("id")?;
            match webhook(&self.keyring, &row) {
                Ok(read) => found.readable.push(read),
                Err(error) => found.unreadable.push((WebhookId(id), error)),
            }
        }
        Ok(found)
    }

    /// Lists all webhooks, or those of one owner, the oldest first.
    pub async fn webhooks_list(&self, owner: Option<&Name>) -> Result<Vec<Webhook>, StoreError> {
        const SQL: &str = select!(
            "webhooks_list",
            "where deleted_at is null and ($1::text is null or owner_key = $1)
            order by created_at, id"
        );
        let rows = self.webhooks_rows(SQL, &[&owner.map(Name::key)]).await?;
        rows.iter().map(|row| Ok(webhook(&self.keyring, row)?.webhook)).collect()
    }

    async fn webhooks_rows(
        &self,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let client = self.connection("read webhooks").await?;
        client.query(&Cached(sql), parameters).await
    }
}

fn owner(row: &Row) -> Result<Name, StoreError> {
    Name::parse(row.column("owner")?).ok_or_else(|| inconsistent("owner"))
}

/// Locks the number of an owner's webhooks until the transaction ends.
async fn lock_owner(transaction: &Transaction<'_>, owner: &Name) -> Result<(), StoreError> {
    const SQL: &str = "-- webhook_lock_owner
        select pg_advisory_xact_lock(hashtextextended('fanfare webhooks of ' || $1, 0))";
    transaction.execute(SQL, &[&owner.key()]).await.map(drop)
}

/// Fails when an owner has more than `most` webhooks, including those of this transaction.
async fn check_number(
    transaction: &Transaction<'_>,
    owner: &Name,
    most: u32,
) -> Result<(), StoreError> {
    const SQL: &str = "-- webhook_number
        select count(*) from webhooks where owner_key = $1 and deleted_at is null";
    let number: i64 = transaction.query_one(SQL, &[&owner.key()]).await?.column("count")?;
    if number > i64::from(most) {
        return Err(StoreError::TooManyWebhooks { owner: owner.as_str().to_owned(), most });
    }
    Ok(())
}

fn confidential(keyring: &Keyring, row: &Row) -> Result<Confidential, StoreError> {
    Confidential::open(keyring, row.column("sealed")?, WebhookId(row.column("id")?))
}

fn webhook(keyring: &Keyring, row: &Row) -> Result<WebhookRead, StoreError> {
    let text = |name| row.column::<&str>(name);
    let read_at: DateTime<Utc> = row.column("read_at")?;
    let confidential = confidential(keyring, row)?;
    let holds = confidential.holds(read_at);
    let filters: Vec<&str> = row.column("filters")?;
    let properties = serde_json::from_str(text("properties")?);
    let paused_reason: Option<&str> = row.column("paused_reason")?;
    let webhook = Webhook {
        id: WebhookId(row.column("id")?),
        owner: Name::parse(text("owner")?).ok_or_else(|| inconsistent("owner"))?,
        uri: text("uri")?.parse::<WebhookUri>().map_err(|_| inconsistent("uri"))?,
        secrets: confidential.secrets(read_at)?,
        description: row.column("description")?,
        paused: row.column("paused")?,
        paused_reason: paused_reason.map(PauseReason::parse),
        filters: Filters::parse(&filters).map_err(|_| inconsistent("filters"))?,
        headers: confidential.headers()?,
        properties: properties
            .ok()
            .and_then(|map| Properties::parse(map).ok())
            .ok_or_else(|| inconsistent("properties"))?,
        created_at: row.column("created_at")?,
        failing_since: row.column("failing_since")?,
        rate_limit: row
            .column::<Option<i32>>("rate_limit")?
            .and_then(|limit| u32::try_from(limit).ok()),
        pacing: Pacing {
            hold_until: row.column("hold_until")?,
            interval: row.column("interval_seconds")?,
        },
        hold: row.column("hold")?,
        held_since: row.column("held_since")?,
    };
    Ok(WebhookRead { webhook, holds })
}

fn stored(rate_limit: Option<u32>) -> Option<i32> {
    rate_limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX))
}

fn inconsistent(column: &'static str) -> StoreError {
    StoreError::Inconsistent { table: "webhooks", column }
}
