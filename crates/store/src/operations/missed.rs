//! What webhooks missed: which deliveries a recover operation has, and their beginning.
//!
//! The ledger is read slice by slice, so that a month of events is no longer transaction than an hour. A
//! slice ends before the present, because a router may still be routing what was received a moment ago.

mod statement;

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound as _, Utc};
use fanfare_core::access::administrator_key;
use fanfare_core::audit::entry::OperationBegun;
use fanfare_core::audit::{Author, Entry};
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::operation::{Kind, Rate, STEP};
use fanfare_core::recover::{Missed, ROUTED_WITHIN, Verdict, settled_until};
use fanfare_core::resource::Resource;
use fanfare_core::test_event::SOURCE;
use serde_json::{Map, Value};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Operation, note_chosen, read, select};
use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use statement::{CHOOSE, PLAN, SLICE, SUBJECTS};

/// The most deliveries that are judged in one statement.
const JUDGED_AT_ONCE: i64 = 20_000;

/// The remark of an operation that begins when a webhook is resumed.
const HELD: &str = "held while the webhook was paused";

/// A new operation that recovers what was missed.
#[derive(Debug, Clone, Copy)]
pub struct NewRecovery<'a> {
    pub missed: &'a Missed,
    pub note: Option<&'a str>,
    pub rate: Option<Rate>,
    pub canary: bool,
    pub author: &'a Author,
}

/// A part of the time of an operation.
struct Slice<'a> {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    webhook: Option<Uuid>,
    owner_key: Option<&'a str>,
    /// The beginning of the whole time.
    begin: DateTime<Utc>,
}

impl Store {
    /// Counts the deliveries that were asked for by what would become of them now, in at most `most`
    /// slices of the ledger, the oldest first. The second value says whether that was all of the time.
    pub async fn recover_plan(
        &self,
        missed: &Missed,
        most: Option<u32>,
    ) -> Result<(BTreeMap<Verdict, i64>, bool), StoreError> {
        let mut client = self.connection("count what webhooks missed").await?;
        let mut counts = BTreeMap::new();
        // The database has no smaller times, so a slice would never reach a smaller one.
        let (mut from, until) = (missed.from.trunc_subsecs(6), missed.until.trunc_subsecs(6));
        let (begin, mut left) = (from, most.unwrap_or(u32::MAX));
        while from < until && left > 0 {
            left -= 1;
            // One transaction for each slice: nothing is held while the ledger is read.
            let transaction = client.transaction().await?;
            let mut slice = Slice {
                from,
                until,
                webhook: missed.webhook.map(|id| id.0),
                owner_key: missed.owner.as_ref().map(Name::key),
                begin,
            };
            slice.until = end(&transaction, &slice).await?;
            for (verdict, deliveries) in judge(&transaction, &slice, None).await? {
                *counts.entry(verdict).or_default() += deliveries;
            }
            transaction.commit().await?;
            from = slice.until;
        }
        Ok((counts, from >= until))
    }

    /// Stores an operation that recovers what was missed. It is running, and its deliveries are chosen
    /// step by step.
    pub async fn recover_ask(&self, new: &NewRecovery<'_>) -> Result<Operation, StoreError> {
        let mut client = self.connection("store an operation").await?;
        let transaction = client.transaction().await?;
        let operation = add(&transaction, new).await?;
        transaction.commit().await?;
        Ok(operation)
    }
}

/// Begins to recover what a webhook holds, in the transaction that resumes it and before that changes it.
pub(crate) async fn recover_held(
    transaction: &Transaction<'_>,
    webhook: WebhookId,
    author: &Author,
) -> Result<(), StoreError> {
    const SQL: &str = "-- webhook_held
        select held_since, clock_timestamp() as now from webhooks
        where id = $1 and held_since is not null";
    let Some(row) = transaction.query_opt(SQL, &[&webhook.0]).await? else { return Ok(()) };
    let (since, now): (DateTime<Utc>, DateTime<Utc>) =
        (row.column("held_since")?, row.column("now")?);
    // A router that sees the webhook paused may have begun before the pause, or may end after this.
    let missed = Missed {
        webhook: Some(webhook),
        owner: None,
        from: since - ROUTED_WITHIN,
        until: now + ROUTED_WITHIN,
    };
    let new = NewRecovery { missed: &missed, note: Some(HELD), rate: None, canary: false, author };
    add(transaction, &new).await.map(drop)
}

async fn add(
    transaction: &Transaction<'_>,
    new: &NewRecovery<'_>,
) -> Result<Operation, StoreError> {
    const ADD: &str = "-- recover_ask
        insert into operations (id, kind, filter, note, rate, canary, asked_by, door, address,
                                correlation, total, webhook, owner_key, missed_from, missed_until,
                                chosen_to)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $12, $13, $14, $13)";
    const SHOW: &str = select!("recover_asked", "where id = $1");
    let NewRecovery { missed, note, rate, canary, author } = *new;
    let id = Uuid::now_v7();
    let filter = filter(missed);
    let per_second = rate.map(|rate| i32::try_from(rate.letters_per_second()).unwrap_or(i32::MAX));
    let values: [&(dyn ToSql + Sync); 14] = [
        &id,
        &Kind::Recover.code(),
        &filter,
        &note,
        &per_second,
        &canary,
        &author.actor,
        &author.via.door.code(),
        &author.via.address,
        &author.via.correlation,
        &missed.webhook.map(|id| id.0),
        &missed.owner.as_ref().map(Name::key),
        &missed.from,
        &missed.until,
    ];
    transaction.execute(ADD, &values).await?;
    let operation = read(&transaction.query_one(SHOW, &[&id]).await?)?;
    let begun =
        OperationBegun { kind: Kind::Recover, filter: &filter, note, total: 0, rate, canary };
    audit::add(transaction, author, &[Entry::operation_begun(id, &begun)]).await?;
    Ok(operation)
}

/// Chooses the deliveries of the next slice, and counts what is not chosen. Returns whether there was a
/// slice.
pub(super) async fn choose(
    transaction: &Transaction<'_>,
    operation: &mut Operation,
) -> Result<bool, StoreError> {
    const LEFT: &str = "-- recover_left
        select o.webhook, o.owner_key, o.missed_from, o.missed_until, o.chosen_to,
               clock_timestamp() as now, s.hold is not null as held,
               (select coalesce(max(position), 0) from operation_letters
                where operation = o.id) as position
        from operations o cross join directory_state s where o.id = $1";
    // Enough for the next steps.
    if operation.counts.waiting() >= i64::from(STEP) * 4 {
        return Ok(false);
    }
    let row = transaction.query_one(LEFT, &[&operation.id]).await?;
    let from: DateTime<Utc> = row.column("chosen_to")?;
    let until = settled_until(row.column("missed_until")?, row.column("now")?);
    // Nobody can say who may read while the directory is incomplete.
    if until <= from || row.column("held")? {
        return Ok(false);
    }
    let mut slice = Slice {
        from,
        until,
        webhook: row.column("webhook")?,
        owner_key: row.column("owner_key")?,
        begin: row.column("missed_from")?,
    };
    slice.until = end(transaction, &slice).await?;
    let position: i64 = row.column("position")?;
    let counts = &mut operation.counts;
    for (verdict, deliveries) in judge(transaction, &slice, Some((operation.id, position))).await? {
        counts.total += deliveries;
        if verdict != Verdict::Send {
            *counts.refused.entry(verdict.code().to_owned()).or_default() += deliveries;
        }
    }
    note_chosen(transaction, operation, slice.until).await?;
    Ok(true)
}

/// The end of the slice that begins where this one does.
async fn end(
    transaction: &Transaction<'_>,
    slice: &Slice<'_>,
) -> Result<DateTime<Utc>, StoreError> {
    let Slice { from, until, webhook, owner_key, .. } = slice;
    let values: crate::statement::Values<'_> = &[from, until, webhook, owner_key, &JUDGED_AT_ONCE];
    transaction.query_one(SLICE, values).await?.column("until")
}

/// Judges the deliveries of a slice, and chooses those to send for an operation, after a position.
async fn judge(
    transaction: &Transaction<'_>,
    slice: &Slice<'_>,
    chosen_for: Option<(Uuid, i64)>,
) -> Result<Vec<(Verdict, i64)>, StoreError> {
    let Slice { from, until, webhook, owner_key, begin } = slice;
    let mut values: Vec<&(dyn ToSql + Sync)> =
        vec![from, until, webhook, owner_key, &SOURCE, begin];
    let rows = transaction.query(SUBJECTS, &values).await?;
    let (mut subjects, mut scopes, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let subject: &str = row.column("subject")?;
        // The ledger has no other subjects. About one that can't be read nothing is granted.
        let Ok(resource) = Resource::parse(subject) else { continue };
        for (scope, target) in resource.read_scopes() {
            subjects.push(subject);
            scopes.push(scope.name());
            targets.push(target.to_owned());
        }
    }
    let administrator = administrator_key();
    let of_access: [&(dyn ToSql + Sync); 4] = [&subjects, &scopes, &targets, &administrator];
    values.extend(of_access);
    let rows = match &chosen_for {
        None => transaction.query(PLAN, &values).await?,
        Some((operation, position)) => {
            values.push(operation);
            values.push(position);
            transaction.query(CHOOSE, &values).await?
        }
    };
    let verdict = |row: &Row| {
        let verdict = Verdict::parse(row.column("verdict")?);
        let inconsistent = StoreError::Inconsistent { table: "judged", column: "verdict" };
        Ok((verdict.ok_or(inconsistent)?, row.column("deliveries")?))
    };
    rows.iter().map(verdict).collect()
}

/// What was asked for, as people read it.
fn filter(missed: &Missed) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: String| drop(members.insert(name.to_owned(), value.into()));
    if let Some(webhook) = missed.webhook {
        put("webhook", webhook.to_string());
    }
    if let Some(owner) = &missed.owner {
        put("owner", owner.as_str().to_owned());
    }
    put("since", missed.from.to_rfc3339());
    put("until", missed.until.to_rfc3339());
    Value::Object(members)
}
