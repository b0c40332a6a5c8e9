//! Bulk operations on dead letters, on what webhooks missed, and on the dead deliveries of a webhook.
//!
//! An operation is a row of `operations` with its letters, which are chosen when it is asked for; those of
//! a recover operation and of a resend are deliveries, and its steps choose them slice by slice. A step settles some of them in the ledger, counts them and writes their states, in one transaction. If a
//! process dies at any point, each letter is either settled or still dead, and another process makes the
//! next step. What a step has begun is then published: jobs by the reconciler at the latest, and events
//! as kept messages that did not come back.
//!
//! `ask` chooses the letters, `missed` what is recovered, and `resend` what is sent again; `step` makes a step of `settle` and `observe`, and `undo` restores
//! what was discarded.

mod ask;
mod missed;
mod observe;
mod resend;
mod settle;
mod step;
mod undo;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::audit::{Author, Door, Entry, Via};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::operation::{Change, Kind, Rate, State};
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

pub(crate) use missed::recover_held;

pub use ask::{MOST_LETTERS, NewOperation};
pub use missed::NewRecovery;
pub use resend::NewResend;
pub use settle::DiedAt;
pub use step::Stepped;

/// For how long discarded letters can be restored, and outcomes of replayed ones are looked for.
pub const KEEP_LETTERS: Duration = Duration::from_hours(7 * 24);

/// For how long an operation is shown after its end.
const KEEP_OPERATIONS: Duration = Duration::from_hours(366 * 24);

/// A bulk operation.
#[derive(Debug, Clone)]
pub struct Operation {
    pub id: Uuid,
    pub kind: Kind,
    /// Of a resend: the webhook. Of a recover operation: the webhook, if it is about one.
    pub webhook: Option<WebhookId>,
    /// Of a resend: it concerns deliveries whose last series of attempts began at this time or later. Of a
    /// recover operation: it concerns what was missed at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Which letters were asked for: a member for each condition.
    pub filter: Value,
    /// A remark of the person.
    pub note: Option<String>,
    /// `None`: as fast as possible.
    pub rate: Option<Rate>,
    pub canary: bool,
    pub author: Author,
    pub asked_at: DateTime<Utc>,
    pub state: State,
    pub counts: Counts,
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether what it discarded can be restored.
    pub can_be_undone: bool,
}

/// The progress of an operation, in letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that were dead when the operation was asked for.
    pub total: i64,
    /// Those that were replayed or discarded so far.
    pub settled: i64,
    /// Replayed ones that were delivered or routed.
    pub delivered: i64,
    /// Replayed ones that are dead again.
    pub failed: i64,
    /// Replayed ones that were dropped, such as those whose owner has no access any more.
    pub dropped: i64,
    /// Those that were kept, by reason.
    pub refused: BTreeMap<String, i64>,
}

impl Operation {
    /// Replayed letters whose outcome is not known yet.
    #[must_use]
    pub fn open(&self) -> i64 {
        let Counts { settled, delivered, failed, dropped, .. } = self.counts;
        if self.kind.sends() { settled - delivered - failed - dropped } else { 0 }
    }
}

impl Counts {
    /// Those that were kept.
    #[must_use]
    pub fn kept(&self) -> i64 {
        self.refused.values().sum()
    }

    /// Those that the operation has not reached.
    #[must_use]
    pub fn waiting(&self) -> i64 {
        self.total - self.settled - self.kept()
    }

    /// The counts for the audit trail.
    fn json(&self) -> Value {
        json!({
            "total": self.total,
            "settled": self.settled,
            "delivered": self.delivered,
            "failed": self.failed,
            "dropped": self.dropped,
            "refused": self.refused,
        })
    }
}

macro_rules! select {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "\nselect id, kind, webhook, missed_from, filter, note, rate, canary, asked_by, door, address, correlation,
                   asked_at, state, total, settled, delivered, failed, dropped, refused, ended_at,
                   kind = 'discard' and settled > 0 and state in ('done', 'cancelled', 'stopped')
                       and exists (select from operation_letters l
                                   where l.operation = o.id and l.state = 'discarded')
                       as can_be_undone
            from operations o ",
            $rest
        )
    };
}
pub(crate) use select;

impl Store {
    /// Lists operations, the newest first, beginning after the operation `after`; all of them, or those of
    /// this owner's webhooks.
    pub async fn operations(
        &self,
        owner: Option<&Name>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Operation>, StoreError> {
        const SQL: &str =
            select!("operations", "where $1::uuid is null or id < $1 order by id desc limit $2");
        const OF_OWNER: &str = select!(
            "operations_of_owner",
            "where ($1::uuid is null or id < $1)
               and webhook in (select id from webhooks where owner_key = $3 and deleted_at is null)
             order by id desc limit $2"
        );
        let client = self.connection("list operations").await?;
        let rows = match owner.map(Name::key) {
            None => client.query(SQL, &[&after, &limit]).await?,
            Some(owner) => client.query(OF_OWNER, &[&after, &limit, &owner]).await?,
        };
        rows.iter().map(read).collect()
    }

    /// Reads one operation.
    pub async fn operation_find(&self, id: Uuid) -> Result<Option<Operation>, StoreError> {
        const SQL: &str = select!("operation_find", "where id = $1");
        let client = self.connection("show an operation").await?;
        client.query_opt(SQL, &[&id]).await?.as_ref().map(read).transpose()
    }

    /// Pauses, resumes or cancels an operation. Returns it, and whether its state changed; `None` if
    /// there is none.
    pub async fn operation_change(
        &self,
        id: Uuid,
        change: Change,
        author: &Author,
    ) -> Result<Option<(Operation, bool)>, StoreError> {
        const SQL: &str = select!("operation_lock", "where id = $1 for update");
        let mut client = self.connection("change an operation").await?;
        let transaction = client.transaction().await?;
        let Some(row) = transaction.query_opt(SQL, &[&id]).await? else { return Ok(None) };
        let before = read(&row)?;
        let Some(state) = change.of(before.state) else { return Ok(Some((before, false))) };
        let ended_at = set_state(&transaction, &before, state, author).await?;
        transaction.commit().await?;
        Ok(Some((Operation { state, ended_at, ..before }, true)))
    }

    /// Removes the letters of operations that ended a week ago, and operations that ended a year ago.
    /// Returns how many rows were removed: at most `most` letters.
    pub async fn operations_sweep(&self, most: i64) -> Result<u64, StoreError> {
        const LETTERS: &str = "-- operation_letters_sweep
            delete from operation_letters
            where (operation, position) in (
                select l.operation, l.position
                from operations o join operation_letters l on l.operation = o.id
                where o.ended_at < now() - make_interval(secs => $1)
                limit $2)";
        const OPERATIONS: &str = "-- operations_sweep
            delete from operations where ended_at < now() - make_interval(secs => $1)";
        let client = self.connection("remove old operations").await?;
        let letters = client.execute(LETTERS, &[&KEEP_LETTERS.as_secs_f64(), &most]).await?;
        let operations = client.execute(OPERATIONS, &[&KEEP_OPERATIONS.as_secs_f64()]).await?;
        Ok(letters + operations)
    }
}

/// Writes up to which time the deliveries of an operation are chosen, and the counts.
async fn note_chosen(
    transaction: &Transaction<'_>,
    operation: &Operation,
    until: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- operation_chosen
        update operations set chosen_to = $2, total = $3, refused = $4 where id = $1";
    let Counts { total, refused, .. } = &operation.counts;
    let values: crate::statement::Values<'_> = &[&operation.id, &until, total, &json!(refused)];
    transaction.execute(SQL, values).await.map(drop)
}

/// Writes a new state with an entry of the audit trail. Returns the time of the end, if it is one.
async fn set_state(
    transaction: &Transaction<'_>,
    before: &Operation,
    state: State,
    author: &Author,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    const SQL: &str = "-- operation_set_state
        update operations set state = $2, ended_at = case when $3 then now() end where id = $1
        returning ended_at";
    let values: crate::statement::Values<'_> = &[&before.id, &state.code(), &state.has_ended()];
    let ended_at = transaction.query_one(SQL, values).await?.column("ended_at")?;
    let Counts { settled, total, .. } = before.counts;
    let entry = match before.webhook {
        Some(webhook) if before.kind == Kind::Resend && state == State::Cancelled => {
            Entry::resend_cancelled(before.id, webhook, settled, total)
        }
        _ => Entry::operation_changed(before.id, before.state, state, &before.counts.json()),
    };
    audit::add(transaction, author, &[entry]).await?;
    Ok(ended_at)
}

fn read(row: &Row) -> Result<Operation, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "operations", column };
    let rate: Option<i32> = row.column("rate")?;
    let rate = rate.map(|rate| u32::try_from(rate).ok().and_then(|rate| Rate::of(rate).ok()));
    let rate = rate.map(|rate| rate.ok_or(inconsistent("rate"))).transpose()?;
    let refused: Value = row.column("refused")?;
    let refused = refused.as_object().ok_or(inconsistent("refused"))?;
    let refused = refused.iter().filter_map(|(why, n)| Some((why.clone(), n.as_i64()?)));
    let door = Door::parse(row.column("door")?).ok_or(inconsistent("door"))?;
    let via =
        Via { door, address: row.column("address")?, correlation: row.column("correlation")? };
    Ok(Operation {
        id: row.column("id")?,
        kind: Kind::parse(row.column("kind")?).ok_or(inconsistent("kind"))?,
        webhook: row.column::<Option<Uuid>>("webhook")?.map(WebhookId),
        since: row.column("missed_from")?,
        filter: row.column("filter")?,
        note: row.column("note")?,
        rate,
        canary: row.column("canary")?,
        author: Author { actor: row.column("asked_by")?, via },
        asked_at: row.column("asked_at")?,
        state: State::parse(row.column("state")?).ok_or(inconsistent("state"))?,
        counts: Counts {
            total: row.column("total")?,
            settled: row.column("settled")?,
            delivered: row.column("delivered")?,
            failed: row.column("failed")?,
            dropped: row.column("dropped")?,
            refused: refused.collect(),
        },
        ended_at: row.column("ended_at")?,
        can_be_undone: row.column("can_be_undone")?,
    })
}
