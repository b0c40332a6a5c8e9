//! Resends: all dead deliveries of a webhook are attempted again.
//!
//! A webhook has one open resend at a time. A resend does not concern a series of attempts that began after
//! it was asked for, so a second one sends nothing twice.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::audit::{Author, Entry};
use fanfare_core::ids::WebhookId;
use fanfare_core::operation::{Kind, Refusal, STEP};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Operation, note_chosen, read, select};
use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Values;

/// The deliveries that one statement chooses, and those that begin at the same time as the last of them.
const CHOSEN_AT_ONCE: i64 = 1000;

/// A new resend.
#[derive(Debug, Clone, Copy)]
pub struct NewResend<'a> {
    pub webhook: WebhookId,
    /// It concerns deliveries whose last series of attempts began at this time or later.
    pub since: DateTime<Utc>,
    pub author: &'a Author,
    /// An equal request that the same user made within this time is returned instead of a new one.
    pub same_within: Duration,
}

impl Store {
    /// Stores a resend. It is running, and its deliveries are chosen step by step. When the webhook has an
    /// open one, that is returned and none is made. `None` when the owner has `most` open ones of other
    /// webhooks.
    pub async fn resend_ask(
        &self,
        new: &NewResend<'_>,
        most: i64,
    ) -> Result<Option<Operation>, StoreError> {
        const LOCK: &str = "-- resend_lock_owner
            select pg_advisory_xact_lock(hashtextextended('fanfare resends of ' || owner_key, 0))
            from webhooks where id = $1";
        const OPEN: &str = "-- resend_open_of_owner
            select count(*) from operations o
            join webhooks w on w.id = o.webhook
            where o.kind = 'resend' and o.state in ('running', 'paused') and o.webhook <> $1
              and w.owner_key = (select owner_key from webhooks where id = $1)";
        let mut client = self.connection("ask for deliveries to be sent again").await?;
        let transaction = client.transaction().await?;
        transaction.execute(LOCK, &[&new.webhook.0]).await?;
        let open: i64 = transaction.query_one(OPEN, &[&new.webhook.0]).await?.column("count")?;
        if open >= most {
            return Ok(None);
        }
        let id = Uuid::now_v7();
        let asked = add(&transaction, id, new).await?;
        let resend = read(&transaction.query_one(NEWEST, &[&new.webhook.0]).await?)?;
        if asked {
            let entry = Entry::resend_begun(id, new.webhook, new.since, resend.counts.total);
            audit::add(&transaction, new.author, &[entry]).await?;
        }
        transaction.commit().await?;
        Ok(Some(resend))
    }

    /// Reads a webhook's newest resend; `None` when it never had one.
    pub async fn resend_newest(&self, webhook: WebhookId) -> Result<Option<Operation>, StoreError> {
        self.resend(NEWEST, &[&webhook.0]).await
    }

    /// Reads one of a webhook's resends.
    pub async fn resend_show(
        &self,
        webhook: WebhookId,
        id: Uuid,
    ) -> Result<Option<Operation>, StoreError> {
        const SQL: &str =
            select!("resend_show", "where kind = 'resend' and webhook = $1 and id = $2");
        self.resend(SQL, &[&webhook.0, &id]).await
    }

    /// Reads a webhook's open resend.
    pub async fn resend_open(&self, webhook: WebhookId) -> Result<Option<Operation>, StoreError> {
        const SQL: &str = select!(
            "resend_open",
            "where kind = 'resend' and webhook = $1 and state in ('running', 'paused')"
        );
        self.resend(SQL, &[&webhook.0]).await
    }

    async fn resend(&self, sql: &str, values: Values<'_>) -> Result<Option<Operation>, StoreError> {
        let client = self.connection("show a resend").await?;
        client.query_opt(sql, values).await?.as_ref().map(read).transpose()
    }
}

const NEWEST: &str = select!(
    "resend_newest",
    "where kind = 'resend' and webhook = $1 order by asked_at desc, id desc limit 1"
);

/// Adds the row of a resend, unless the webhook has an open one, or the same was asked for a moment ago.
/// Returns whether it did.
async fn add(
    transaction: &Transaction<'_>,
    id: Uuid,
    new: &NewResend<'_>,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- resend_ask
        insert into operations (id, kind, filter, canary, asked_by, door, address, correlation, total,
                                webhook, missed_from, missed_until, chosen_to)
        select $1, $2, $3, false, $4, $5, $6, $7, count(*), $8, $9, now(), $9
        from attempts a
        where a.state = 'dead' and a.state in ('dead', 'dropped') and a.webhook = $8
          and a.since >= $9 and a.since < now()
          and not exists (select from attempts l where l.batch = a.batch
                          and l.webhook = a.webhook and l.entry > a.entry
                          and l.received_at = a.received_at)
        -- The same form sent twice, of which the first may be done already.
        having not exists (select from operations o
                           where o.kind = $2 and o.webhook = $8 and o.missed_from = $9
                             and o.asked_by = $4
                             and o.asked_at > now() - make_interval(secs => $10))
        on conflict (webhook) where kind = 'resend' and state in ('running', 'paused') do nothing";
    let NewResend { webhook, since, author, same_within } = *new;
    let values: [&(dyn ToSql + Sync); 10] = [
        &id,
        &Kind::Resend.code(),
        &filter(webhook, since),
        &author.actor,
        &author.via.door.code(),
        &author.via.address,
        &author.via.correlation,
        &webhook.0,
        &since,
        &same_within.as_secs_f64(),
    ];
    Ok(transaction.execute(SQL, &values).await? > 0)
}

/// What was asked for, as people read it.
fn filter(webhook: WebhookId, since: DateTime<Utc>) -> Value {
    let mut members = json!({ "webhook": webhook.to_string() });
    if since > DateTime::UNIX_EPOCH {
        members["since"] = since.to_rfc3339().into();
    }
    members
}

/// Chooses the next deliveries, the oldest first. When the webhook receives nothing, all that the resend has
/// not reached stays dead. Returns whether anything changed.
pub(super) async fn choose(
    transaction: &Transaction<'_>,
    operation: &mut Operation,
) -> Result<bool, StoreError> {
    const LEFT: &str = "-- resend_left
        select o.chosen_to, o.missed_until, coalesce(w.paused, false) as paused,
               w.id is null or w.deleted_at is not null as deleted,
               (select coalesce(max(position), 0) from operation_letters
                where operation = o.id) as position
        from operations o left join webhooks w on w.id = o.webhook where o.id = $1";
    let row = transaction.query_one(LEFT, &[&operation.id]).await?;
    let (from, until): (DateTime<Utc>, DateTime<Utc>) =
        (row.column("chosen_to")?, row.column("missed_until")?);
    if row.column("deleted")? {
        return keep(transaction, operation, Refusal::WebhookDeleted, until).await;
    }
    if row.column("paused")? {
        return keep(transaction, operation, Refusal::WebhookPaused, until).await;
    }
    let chosen: i64 = row.column("position")?;
    let counts = &mut operation.counts;
    // Enough for the next steps.
    if until <= from || chosen - counts.settled - counts.kept() >= i64::from(STEP) {
        return Ok(false);
    }
    let (more, chosen_to) = choose_from(transaction, operation, (from, until), chosen).await?;
    let (counts, chosen) = (&mut operation.counts, chosen + more);
    counts.total = counts.total.max(chosen);
    if chosen_to >= until && counts.total > chosen {
        let code = Refusal::Settled.code().to_owned();
        *counts.refused.entry(code).or_default() += counts.total - chosen;
    }
    note_chosen(transaction, operation, chosen_to).await?;
    Ok(true)
}

/// Chooses deliveries whose series began in this time. Their positions follow on `position`. Returns how many
/// they are, and the time up to which all are chosen.
async fn choose_from(
    transaction: &Transaction<'_>,
    operation: &Operation,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    position: i64,
) -> Result<(i64, DateTime<Utc>), StoreError> {
    const SQL: &str = "-- resend_choose
        with dead as (
            select a.batch, a.webhook, a.entry, a.received_at, a.reason, a.since
            from attempts a
            where a.state = 'dead' and a.state in ('dead', 'dropped') and a.webhook = $6
              and a.since >= $2 and a.since < $3
              and not exists (select from attempts l where l.batch = a.batch
                              and l.webhook = a.webhook and l.entry > a.entry
                              and l.received_at = a.received_at)
            order by a.since fetch first ($5) rows with ties
        ), made as (
            insert into operation_letters (operation, position, letter, batch, webhook, entry,
                                           received_at, reason)
            select $1, $4 + row_number() over (order by since, batch),
                   dead_delivery_id(batch, webhook, entry), batch, webhook, entry, received_at,
                   coalesce(reason, 'exhausted')
            from dead
        )
        select count(*) as chosen, max(since) as last from dead";
    let webhook = operation.webhook.map(|id| id.0);
    let values: [&(dyn ToSql + Sync); 6] =
        [&operation.id, &from, &until, &position, &CHOSEN_AT_ONCE, &webhook];
    let row: Row = transaction.query_one(SQL, &values).await?;
    let (chosen, last): (i64, Option<DateTime<Utc>>) = (row.column("chosen")?, row.column("last")?);
    // The database has no smaller times.
    let after = last.map(|last| last + TimeDelta::microseconds(1));
    Ok((chosen, after.filter(|_| chosen >= CHOSEN_AT_ONCE).unwrap_or(until)))
}

/// Keeps all that the resend has not reached.
async fn keep(
    transaction: &Transaction<'_>,
    operation: &mut Operation,
    why: Refusal,
    until: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- resend_keep
        update operation_letters set state = 'refused', refusal = $2
        where operation = $1 and state = 'waiting'";
    transaction.execute(SQL, &[&operation.id, &why.code()]).await?;
    let waiting = operation.counts.waiting();
    if waiting > 0 {
        *operation.counts.refused.entry(why.code().to_owned()).or_default() += waiting;
    }
    note_chosen(transaction, operation, until).await?;
    Ok(waiting > 0)
}
