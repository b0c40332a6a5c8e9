//! Attempting again all that is dead of a webhook, in steps.
//!
//! A request is a row of `resends`. A step begins some deliveries again and notes how many, in one
//! transaction: wherever a process dies, the ledger has each delivery as dead or as pending, and
//! whoever comes next goes on. A webhook has one open request at a time, and a chain that began
//! after the request was made is not its concern: asking twice sends nothing twice.

use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use fanfare_core::ids::WebhookId;
use fanfare_core::job::Due;
use fanfare_core::outcome::State;
use tokio_postgres::Row;
use uuid::Uuid;

use super::restart::{Dead, restart_dead};
use crate::error::StoreError;
use crate::pool::Store;

/// A request to attempt again what is dead of a webhook.
#[derive(Debug, Clone)]
pub struct Resend {
    /// Its id.
    pub id: Uuid,
    /// What is dead of chains of attempts that began at this time or later …
    pub since: DateTime<Utc>,
    /// … and before this, when somebody asked for it.
    pub asked_at: DateTime<Utc>,
    /// Who did.
    pub asked_by: String,
    /// How many deliveries were dead then.
    pub total: i64,
    /// How many of them are attempted again so far.
    pub begun: i64,
    /// When and why it ended; `None` while it goes on.
    pub ended: Option<(DateTime<Utc>, ResendEnd)>,
}

/// A resend that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct NewResend<'a> {
    /// The webhook.
    pub webhook: WebhookId,
    /// What is dead of chains of attempts that began at this time or later.
    pub since: DateTime<Utc>,
    /// Who asks.
    pub by: &'a str,
    /// The same request of the same person within this time is returned instead of a new one.
    pub same_within: Duration,
}

/// Why a request came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResendEnd {
    /// Nothing is left.
    Done,
    /// Somebody cancelled it.
    Cancelled,
    /// The webhook was paused.
    WebhookPaused,
    /// The webhook was deleted.
    WebhookDeleted,
}

/// What became of deliveries that were begun again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResendProgress {
    /// They arrived.
    pub delivered: i64,
    /// They are about to be attempted, or will be again.
    pub open: i64,
    /// They are dead again, or dropped.
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
    /// Asks for it. When it is asked for already, that request is returned and no other made; `None`
    /// when the owner has `most` requests for other webhooks that go on.
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
                              and l.webhook = a.webhook and l.entry > a.entry)
            -- The same form sent twice, of which the first may be done already.
            having not exists (select from resends r
                               where r.webhook = $2 and r.since = $3 and r.asked_by = $4
                                 and r.asked_at > now() - make_interval(secs => $5))
            on conflict (webhook) where ended_at is null do nothing";
        let NewResend { webhook, since, by, same_within } = *wanted;
        let doing = "ask for deliveries to be sent again";
        let mut client = self.client().await?;
        let client = client.transaction().await.map_err(StoreError::at(doing))?;
        client.execute(LOCK, &[&webhook.0]).await.map_err(StoreError::at(doing))?;
        let open = client.query_one(OPEN, &[&webhook.0]).await;
        let open: i64 = open.and_then(|row| row.try_get(0)).map_err(StoreError::at(doing))?;
        if open >= most {
            return Ok(None);
        }
        let id = Uuid::now_v7();
        client
            .execute(ASK, &[&id, &webhook.0, &since, &by, &same_within.as_secs_f64()])
            .await
            .map_err(StoreError::at(doing))?;
        let row = client.query_one(NEWEST, &[&webhook.0]).await;
        let resend = read(&row.map_err(StoreError::at(doing))?)?;
        client.commit().await.map_err(StoreError::at(doing))?;
        Ok(Some(resend))
    }

    /// A webhook's newest request; `None` when it never had one.
    pub async fn resend_newest(&self, webhook: WebhookId) -> Result<Option<Resend>, StoreError> {
        let client = self.client().await?;
        let row = client.query_opt(NEWEST, &[&webhook.0]).await;
        row.map_err(StoreError::at("show a resend"))?.as_ref().map(read).transpose()
    }

    /// One of a webhook's requests.
    pub async fn resend_show(
        &self,
        webhook: WebhookId,
        id: Uuid,
    ) -> Result<Option<Resend>, StoreError> {
        const SQL: &str = select!("resend_show", "where webhook = $1 and id = $2");
        let client = self.client().await?;
        let row = client.query_opt(SQL, &[&webhook.0, &id]).await;
        row.map_err(StoreError::at("show a resend"))?.as_ref().map(read).transpose()
    }

    /// A webhook's request that goes on.
    pub async fn resend_open(&self, webhook: WebhookId) -> Result<Option<Resend>, StoreError> {
        const SQL: &str = select!("resend_open", "where webhook = $1 and ended_at is null");
        let client = self.client().await?;
        let row = client.query_opt(SQL, &[&webhook.0]).await;
        row.map_err(StoreError::at("look for a resend"))?.as_ref().map(read).transpose()
    }

    /// What became so far of the deliveries that a request began again; at most 10,000 are looked
    /// at. Those that somebody began again singly meanwhile are among them.
    pub async fn resend_progress(
        &self,
        webhook: WebhookId,
        resend: &Resend,
    ) -> Result<ResendProgress, StoreError> {
        const SQL: &str = "-- resend_became
            select l.state, count(*)
            from (select batch, webhook from attempts
                  where webhook = $1 and since >= $2 and ($3::timestamptz is null or since <= $3)
                    and entry > 1 and state = 'pending' and tries = 0
                  limit 10000) a
            cross join lateral (select l.state from attempts l
                                where l.batch = a.batch and l.webhook = a.webhook
                                order by l.entry desc limit 1) l
            group by l.state";
        let doing = "look what became of a resend";
        let ended = resend.ended.map(|(at, _)| at);
        let client = self.client().await?;
        let rows = client.query(SQL, &[&webhook.0, &resend.asked_at, &ended]).await;
        let mut became = ResendProgress::default();
        for row in rows.map_err(StoreError::at(doing))? {
            let read = || Ok((row.try_get::<_, &str>(0)?, row.try_get::<_, i64>(1)?));
            let (state, count) = read().map_err(StoreError::at(doing))?;
            match State::parse(state) {
                Some(State::Delivered) => became.delivered += count,
                Some(State::Dead | State::Dropped) => became.failed += count,
                _ => became.open += count,
            }
        }
        Ok(became)
    }

    /// Ends a request where it is. Returns whether it was going on.
    pub async fn resend_cancel(&self, webhook: WebhookId, id: Uuid) -> Result<bool, StoreError> {
        const SQL: &str = "-- resend_cancel
            update resends set ended_at = now(), ended = 'cancelled'
            where webhook = $1 and id = $2 and ended_at is null";
        let client = self.client().await?;
        client
            .execute(SQL, &[&webhook.0, &id])
            .await
            .map(|rows| rows == 1)
            .map_err(StoreError::at("cancel a resend"))
    }

    /// All requests that go on, the oldest first.
    pub async fn resends_open(&self) -> Result<Vec<Uuid>, StoreError> {
        const SQL: &str = "-- resends_open
            select id from resends where ended_at is null order by asked_at";
        let doing = "look for resends";
        let client = self.client().await?;
        let rows = client.query(SQL, &[]).await.map_err(StoreError::at(doing))?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(StoreError::at(doing))
    }

    /// Makes a step of a request: at most `most` deliveries, the oldest first. The jobs to publish
    /// are returned; none while those of the step before are not attempted yet, or another process
    /// is at it.
    pub async fn resend_step(&self, id: Uuid, most: i64) -> Result<Vec<Due>, StoreError> {
        let doing = "begin dead deliveries again";
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::at(doing))?;
        let begun = step(&transaction, id, most).await.map_err(StoreError::at(doing))?;
        transaction.commit().await.map_err(StoreError::at(doing))?;
        Ok(begun)
    }
}

async fn step(
    transaction: &Transaction<'_>,
    id: Uuid,
    most: i64,
) -> Result<Vec<Due>, tokio_postgres::Error> {
    // The last step's deliveries bear its time. One whose endpoint defers them for long is not
    // waited for.
    const TAKE: &str = "-- resend_take
        select r.webhook, r.since, r.asked_at, w.paused, w.deleted_at is not null,
               coalesce(r.step_at > now() - interval '30 seconds', false) and exists (
                   select from attempts a
                   where a.webhook = r.webhook and a.since = r.step_at and a.state = 'pending'
                     and not exists (select from attempts l where l.batch = a.batch
                                     and l.webhook = a.webhook and l.entry > a.entry))
        from resends r join webhooks w on w.id = r.webhook
        where r.id = $1 and r.ended_at is null
        for update of r skip locked";
    let Some(row) = transaction.query_opt(TAKE, &[&id]).await? else {
        return Ok(Vec::new());
    };
    let (since, until) = (row.try_get(1)?, row.try_get(2)?);
    let dead = Dead { webhook: WebhookId(row.try_get(0)?), since, until };
    let (is_paused, is_deleted): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
    if is_paused || is_deleted {
        let ended = if is_deleted { ResendEnd::WebhookDeleted } else { ResendEnd::WebhookPaused };
        note(transaction, id, 0, Some(ended)).await?;
        return Ok(Vec::new());
    }
    if row.try_get(5)? {
        return Ok(Vec::new());
    }
    let begun = restart_dead(&**transaction, &dead, most).await?;
    let n = i64::try_from(begun.len()).unwrap_or(most);
    note(transaction, id, n, (n < most).then_some(ResendEnd::Done)).await?;
    Ok(begun)
}

/// Notes a step.
async fn note(
    client: &Transaction<'_>,
    id: Uuid,
    begun: i64,
    ended: Option<ResendEnd>,
) -> Result<(), tokio_postgres::Error> {
    const SQL: &str = "-- resend_note
        update resends
        set begun = begun + $2, step_at = now(), ended = $3,
            ended_at = case when $3::text is not null then now() end
        where id = $1";
    client.execute(SQL, &[&id, &begun, &ended.map(ResendEnd::code)]).await.map(drop)
}

fn read(row: &Row) -> Result<Resend, StoreError> {
    let doing = "read a resend";
    let ended: Option<&str> = row.try_get(7).map_err(StoreError::at(doing))?;
    let known = |code: &str| ResendEnd::ALL.into_iter().find(|ended| ended.code() == code);
    let inconsistent = StoreError::Inconsistent { table: "resends", column: "ended" };
    let ended = ended.map(|code| known(code).ok_or(inconsistent)).transpose()?;
    let read = || {
        let ended_at: Option<DateTime<Utc>> = row.try_get(6)?;
        Ok(Resend {
            id: row.try_get(0)?,
            since: row.try_get(1)?,
            asked_at: row.try_get(2)?,
            asked_by: row.try_get(3)?,
            total: row.try_get(4)?,
            begun: row.try_get(5)?,
            ended: ended_at.zip(ended),
        })
    };
    read().map_err(StoreError::at(doing))
}
