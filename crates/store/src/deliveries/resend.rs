//! Resends: all dead deliveries of a webhook are restarted, in steps.
//!
//! A request is a row of `resends`. A step restarts some deliveries and records their number, in
//! one transaction. If a process dies at any point, each delivery is either dead or pending in the
//! ledger, and another process makes the next step. A webhook has one open request at a time. A
//! request does not concern a series that began after it was made, so a second request sends
//! nothing twice.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::audit::{Author, Entry};
use fanfare_core::ids::WebhookId;
use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::State;
use tokio_postgres::Row;
use uuid::Uuid;

use super::restart::{Dead, restart_dead};
use crate::attempts::state;
use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Values;

/// A request to restart the dead deliveries of a webhook.
#[derive(Debug, Clone)]
pub struct Resend {
    pub id: Uuid,
    /// The request is for deliveries whose last series began at this time or later, and before
    /// `asked_at`.
    pub since: DateTime<Utc>,
    /// When the request was made.
    pub asked_at: DateTime<Utc>,
    /// The user who made the request.
    pub asked_by: String,
    /// The number of deliveries that were dead when the request was made.
    pub total: i64,
    /// The number of deliveries that were restarted so far.
    pub begun: i64,
    /// The time and the reason of its end; `None` while it is open.
    pub ended: Option<(DateTime<Utc>, ResendEnd)>,
}

/// The parameters of a new request.
#[derive(Debug, Clone, Copy)]
pub struct NewResend<'a> {
    pub webhook: WebhookId,
    /// The request is for deliveries whose last series began at this time or later.
    pub since: DateTime<Utc>,
    /// The user who makes the request.
    pub by: &'a str,
    /// The same user, for the audit trail.
    pub author: &'a Author,
    /// An equal request that the same user made within this time is returned instead of a new one.
    pub same_within: Duration,
}

/// The reason for which a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResendEnd {
    /// All of its deliveries were restarted.
    Done,
    /// A user cancelled it.
    Cancelled,
    WebhookPaused,
    WebhookDeleted,
}

/// The numbers of restarted deliveries by their present states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResendProgress {
    pub delivered: i64,
    /// Pending or retrying.
    pub open: i64,
    /// Dead again, or dropped.
    pub failed: i64,
}

impl ResendEnd {
    const ALL: [Self; 4] = [Self::Done, Self::Cancelled, Self::WebhookPaused, Self::WebhookDeleted];

    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::WebhookPaused => "webhook-paused",
            Self::WebhookDeleted => "webhook-deleted",
        }
    }
}

macro_rules! select {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "\nselect id, since, asked_at, asked_by, total, begun, ended_at, ended from resends ",
            $rest
        )
    };
}

const NEWEST: &str = select!("resend_newest", "where webhook = $1 order by asked_at desc limit 1");

impl Store {
    /// Makes a request. When the webhook has an open request, that one is returned and none is
    /// made. `None` when the owner has `most` open requests for other webhooks.
    pub async fn resend_ask(
        &self,
        wanted: &NewResend<'_>,
        most: i64,
    ) -> Result<Option<Resend>, StoreError> {
        const LOCK: &str = "-- resend_lock_owner
            select pg_advisory_xact_lock(hashtextextended('fanfare resends of ' || owner_key, 0))
            from webhooks where id = $1";
        const OPEN: &str = "-- resend_open_of_owner
            select count(*) from resends r
            join webhooks w on w.id = r.webhook
            where r.ended_at is null and r.webhook <> $1
              and w.owner_key = (select owner_key from webhooks where id = $1)";
        const ASK: &str = "-- resend_ask
            insert into resends (id, webhook, since, asked_at, asked_by, total)
            select $1, $2, $3, now(), $4, count(*)
            from attempts a
            where a.state = 'dead' and a.state in ('dead', 'dropped') and a.webhook = $2
              and a.since >= $3 and a.since < now()
              and not exists (select from attempts l where l.batch = a.batch
                              and l.webhook = a.webhook and l.entry > a.entry
                              and l.received_at = a.received_at)
            -- The same form sent twice, of which the first may be done already.
            having not exists (select from resends r
                               where r.webhook = $2 and r.since = $3 and r.asked_by = $4
                                 and r.asked_at > now() - make_interval(secs => $5))
            on conflict (webhook) where ended_at is null do nothing";
        let NewResend { webhook, since, by, author, same_within } = *wanted;
        let mut client = self.connection("ask for deliveries to be sent again").await?;
        let client = client.transaction().await?;
        client.execute(LOCK, &[&webhook.0]).await?;
        let open: i64 = client.query_one(OPEN, &[&webhook.0]).await?.column("count")?;
        if open >= most {
            return Ok(None);
        }
        let id = Uuid::now_v7();
        let values: Values<'_> = &[&id, &webhook.0, &since, &by, &same_within.as_secs_f64()];
        let asked = client.execute(ASK, values).await?;
        let row = client.query_one(NEWEST, &[&webhook.0]).await;
        let resend = read(&row?)?;
        if asked > 0 {
            let entry = Entry::resend_begun(id, webhook, since, resend.total);
            audit::add(&client, author, &[entry]).await?;
        }
        client.commit().await?;
        Ok(Some(resend))
    }

    /// Reads a webhook's newest request; `None` when it never had one.
    pub async fn resend_newest(&self, webhook: WebhookId) -> Result<Option<Resend>, StoreError> {
        let client = self.connection("show a resend").await?;
        let row = client.query_opt(NEWEST, &[&webhook.0]).await;
        row?.as_ref().map(read).transpose()
    }

    /// Reads one of a webhook's requests.
    pub async fn resend_show(
        &self,
        webhook: WebhookId,
        id: Uuid,
    ) -> Result<Option<Resend>, StoreError> {
        const SQL: &str = select!("resend_show", "where webhook = $1 and id = $2");
        let client = self.connection("show a resend").await?;
        let row = client.query_opt(SQL, &[&webhook.0, &id]).await;
        row?.as_ref().map(read).transpose()
    }

    /// Reads a webhook's open request.
    pub async fn resend_open(&self, webhook: WebhookId) -> Result<Option<Resend>, StoreError> {
        const SQL: &str = select!("resend_open", "where webhook = $1 and ended_at is null");
        let client = self.connection("look for a resend").await?;
        let row = client.query_opt(SQL, &[&webhook.0]).await;
        row?.as_ref().map(read).transpose()
    }

    /// Counts the deliveries that a request restarted, by their present states. At most 10,000 are
    /// counted. Deliveries that users restarted singly meanwhile are among them.
    pub async fn resend_progress(
        &self,
        webhook: WebhookId,
        resend: &Resend,
    ) -> Result<ResendProgress, StoreError> {
        const SQL: &str = "-- resend_became
            select l.state, count(*)
            from (select batch, webhook, received_at from attempts
                  where webhook = $1 and since >= $2 and ($3::timestamptz is null or since <= $3)
                    and entry > 1 and state = 'pending' and tries = 0
                  limit 10000) a
            cross join lateral (select l.state from attempts l
                                where l.batch = a.batch and l.webhook = a.webhook
                                  and l.received_at = a.received_at
                                order by l.entry desc limit 1) l
            group by l.state";
        let ended = resend.ended.map(|(at, _)| at);
        let client = self.connection("count the deliveries of a resend").await?;
        let rows = client.query(SQL, &[&webhook.0, &resend.asked_at, &ended]).await?;
        let mut progress = ResendProgress::default();
        for row in &rows {
            let count: i64 = row.column("count")?;
            match state(row)? {
                State::Delivered => progress.delivered += count,
                State::Dead | State::Dropped => progress.failed += count,
                State::Pending | State::Retrying => progress.open += count,
            }
        }
        Ok(progress)
    }

    /// Cancels a request: deliveries that are not restarted yet stay dead. Returns whether it was
    /// open.
    pub async fn resend_cancel(
        &self,
        webhook: WebhookId,
        id: Uuid,
        author: &Author,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- resend_cancel
            update resends set ended_at = now(), ended = 'cancelled'
            where webhook = $1 and id = $2 and ended_at is null
            returning begun, total";
        let mut client = self.connection("cancel a resend").await?;
        let transaction = client.transaction().await?;
        let Some(row) = transaction.query_opt(SQL, &[&webhook.0, &id]).await? else {
            return Ok(false);
        };
        let (begun, total) = (row.column("begun")?, row.column("total")?);
        let entry = Entry::resend_cancelled(id, webhook, begun, total);
        audit::add(&transaction, author, &[entry]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Lists all open requests, the oldest first.
    pub async fn resends_open(&self) -> Result<Vec<Uuid>, StoreError> {
        const SQL: &str = "-- resends_open
            select id from resends where ended_at is null order by asked_at";
        let client = self.connection("look for resends").await?;
        let rows = client.query(SQL, &[]).await?;
        rows.iter().map(|row| row.column("id")).collect()
    }

    /// Makes a step of a request: it restarts at most `most` deliveries, the oldest first. Returns
    /// the jobs to publish. There are none while deliveries of the step before are not attempted
    /// yet, or while another process makes a step.
    pub async fn resend_step(&self, id: Uuid, most: i64) -> Result<Vec<AttemptRef>, StoreError> {
        let mut client = self.connection("restart dead deliveries").await?;
        let transaction = client.transaction().await?;
        let begun = step(&transaction, id, most).await?;
        transaction.commit().await?;
        Ok(begun)
    }
}

async fn step(
    transaction: &Transaction<'_>,
    id: Uuid,
    most: i64,
) -> Result<Vec<AttemptRef>, StoreError> {
    // The series of the last step's deliveries began at the time of that step. A step waits for
    // them for 30 seconds at most, since an endpoint may defer them for long.
    const TAKE: &str = "-- resend_take
        select r.webhook, r.since, r.asked_at, w.paused, w.deleted_at is not null as deleted,
               coalesce(r.step_at > now() - interval '30 seconds', false) and exists (
                   select from attempts a
                   where a.webhook = r.webhook and a.since = r.step_at and a.state = 'pending'
                     and not exists (select from attempts l where l.batch = a.batch
                                     and l.webhook = a.webhook and l.entry > a.entry
                                     and l.received_at = a.received_at))
                   as waits
        from resends r join webhooks w on w.id = r.webhook
        where r.id = $1 and r.ended_at is null
        for update of r skip locked";
    let Some(row) = transaction.query_opt(TAKE, &[&id]).await? else {
        return Ok(Vec::new());
    };
    let dead = Dead {
        webhook: WebhookId(row.column("webhook")?),
        since: row.column("since")?,
        until: row.column("asked_at")?,
    };
    let (is_paused, is_deleted): (bool, bool) = (row.column("paused")?, row.column("deleted")?);
    if is_paused || is_deleted {
        let ended = if is_deleted { ResendEnd::WebhookDeleted } else { ResendEnd::WebhookPaused };
        note(transaction, id, 0, Some(ended)).await?;
        return Ok(Vec::new());
    }
    if row.column("waits")? {
        return Ok(Vec::new());
    }
    let begun = restart_dead(transaction, &dead, most).await?;
    let n = i64::try_from(begun.len()).unwrap_or(most);
    note(transaction, id, n, (n < most).then_some(ResendEnd::Done)).await?;
    Ok(begun)
}

/// Records a step.
async fn note(
    client: &Transaction<'_>,
    id: Uuid,
    begun: i64,
    ended: Option<ResendEnd>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- resend_note
        update resends
        set begun = begun + $2, step_at = now(), ended = $3,
            ended_at = case when $3::text is not null then now() end
        where id = $1";
    client.execute(SQL, &[&id, &begun, &ended.map(ResendEnd::code)]).await.map(drop)
}

fn read(row: &Row) -> Result<Resend, StoreError> {
    let known = |code: &str| ResendEnd::ALL.into_iter().find(|ended| ended.code() == code);
    let inconsistent = StoreError::Inconsistent { table: "resends", column: "ended" };
    let ended: Option<&str> = row.column("ended")?;
    let ended = ended.map(|code| known(code).ok_or(inconsistent)).transpose()?;
    let ended_at: Option<DateTime<Utc>> = row.column("ended_at")?;
    Ok(Resend {
        id: row.column("id")?,
        since: row.column("since")?,
        asked_at: row.column("asked_at")?,
        asked_by: row.column("asked_by")?,
        total: row.column("total")?,
        begun: row.column("begun")?,
        ended: ended_at.zip(ended),
    })
}
