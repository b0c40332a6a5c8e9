//! A step of an operation.

use chrono::{DateTime, Utc};
use fanfare_core::audit::Author;
use fanfare_core::job::AttemptRef;
use fanfare_core::operation::{Allowance, Canary, Kind, Refusal, Rest, State, canary, end};
use serde_json::json;
use uuid::Uuid;

use super::observe::{Observed, observe, receivers};
use super::settle::{DiedAt, Settled, settle};
use super::{KEEP_LETTERS, Operation, missed, read, resend, select, set_state};
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::kept::Kept;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The most bytes of dead events in one step, beyond the first.
const EVENT_BYTES: i64 = 8 * 1024 * 1024;

/// What a step has done.
#[derive(Debug, Default)]
pub struct Stepped {
    /// The first attempts of new series, whose jobs are to be published.
    pub due: Vec<AttemptRef>,
    /// Dead events to publish for the routers.
    pub events: Vec<Kept>,
    /// Whether anything changed, so that the next step may follow at once.
    pub has_advanced: bool,
}

impl Store {
    /// The operations that need steps: the running ones, and those that have letters under way whose
    /// outcome is not known. The second value says whether it is running.
    pub async fn operations_due(&self) -> Result<Vec<(Uuid, bool)>, StoreError> {
        const SQL: &str = "-- operations_due
            select id, state = 'running' as is_running from operations
            where state = 'running'
               or (kind <> 'discard' and settled > delivered + failed + dropped
                   and (ended_at is null or ended_at > now() - make_interval(secs => $1)))
            order by id";
        let client = self.connection("look for operations").await?;
        let rows = client.query(SQL, &[&KEEP_LETTERS.as_secs_f64()]).await?;
        rows.iter().map(|row| Ok((row.column("id")?, row.column("is_running")?))).collect()
    }

    /// Makes a step of an operation: it writes down the outcomes of its letters, and settles further
    /// ones if it is running. There is nothing to publish while another process makes a step.
    pub async fn operation_step(&self, id: Uuid, died_at: DiedAt) -> Result<Stepped, StoreError> {
        const TAKE: &str = select!("operation_take", "where id = $1 for update of o skip locked");
        let mut client = self.connection("make a step of an operation").await?;
        let transaction = client.transaction().await?;
        let Some(row) = transaction.query_opt(TAKE, &[&id]).await? else {
            return Ok(Stepped::default());
        };
        let stepped = step(&transaction, read(&row)?, died_at).await?;
        transaction.commit().await?;
        Ok(stepped)
    }
}

async fn step(
    transaction: &Transaction<'_>,
    mut operation: Operation,
    died_at: DiedAt,
) -> Result<Stepped, StoreError> {
    let mut observed = Observed::default();
    if operation.kind.sends() {
        observed = observe(transaction, &mut operation).await?;
    }
    let mut has_advanced = observed.any;
    if operation.state != State::Running {
        return Ok(Stepped { has_advanced, ..Stepped::default() });
    }
    has_advanced |= match operation.kind {
        Kind::Recover => missed::choose(transaction, &mut operation).await?,
        Kind::Resend => resend::choose(transaction, &mut operation).await?,
        Kind::Replay | Kind::Discard => false,
    };
    let mut allowance = allowance(transaction, &operation).await?;
    if operation.kind == Kind::Resend {
        allowance = allowance.within_window(observed.untried);
    }
    let positions = if operation.canary && operation.kind.sends() {
        let mut positions = canaries(transaction, &mut operation, allowance.letters).await?;
        let taken = u32::try_from(positions.len()).unwrap_or(u32::MAX);
        let left = allowance.letters.saturating_sub(taken);
        positions.extend(next(transaction, &operation, left, true).await?);
        positions
    } else {
        next(transaction, &operation, allowance.letters, false).await?
    };
    let settled = settle(transaction, &operation, &positions, died_at).await?;
    has_advanced |= !positions.is_empty();
    let taken = u32::try_from(positions.len()).unwrap_or(allowance.letters);
    let used_to = allowance.after(operation.rate, taken);
    let Settled { due, events, .. } = note(transaction, &mut operation, settled, used_to).await?;
    if let Some(state) = ended(transaction, &operation, observed.untried).await? {
        set_state(transaction, &operation, state, &Author::system()).await?;
        has_advanced = true;
    }
    Ok(Stepped { due, events, has_advanced })
}

async fn allowance(
    transaction: &Transaction<'_>,
    operation: &Operation,
) -> Result<Allowance, StoreError> {
    const SQL: &str = "-- operation_allowance
        select used_to, clock_timestamp() as now from operations where id = $1";
    let row = transaction.query_one(SQL, &[&operation.id]).await?;
    let used_to: Option<DateTime<Utc>> = row.column("used_to")?;
    Ok(Allowance::at(operation.rate, used_to, row.column("now")?))
}

/// The positions of the next letters, or only of the next events. Deliveries that are recovered wait while
/// their webhook is paused and holds.
async fn next(
    transaction: &Transaction<'_>,
    operation: &Operation,
    most: u32,
    only_events: bool,
) -> Result<Vec<i64>, StoreError> {
    macro_rules! sql {
        ($name:literal, $condition:literal) => {
            concat!(
                "-- ",
                $name,
                "\nselect position from (
                    select l.position,
                           sum(l.bytes) over (order by l.position) - l.bytes as before
                    from (select l.position,
                                 case when l.batch is null
                                      then (select d.bytes from dead_letters d where d.id = l.letter)
                                      else 0 end as bytes
                          from operation_letters l
                          where l.operation = $1 and l.state = 'waiting'",
                $condition,
                " order by l.position limit $2) l
                ) sized
                where coalesce(before, 0) < $3 order by position"
            )
        };
    }
    const ANY: &str = sql!("operation_next", "");
    const EVENTS: &str = sql!("operation_next_events", " and l.webhook is null");
    const UNHELD: &str = sql!(
        "operation_next_unheld",
        " and not exists (select from webhooks w where w.id = l.webhook and w.paused and w.hold)"
    );
    if most == 0 {
        return Ok(Vec::new());
    }
    let sql = match operation.kind {
        _ if only_events => EVENTS,
        Kind::Recover => UNHELD,
        Kind::Replay | Kind::Discard | Kind::Resend => ANY,
    };
    let rows = transaction.query(sql, &[&operation.id, &i64::from(most), &EVENT_BYTES]).await?;
    rows.iter().map(|row| row.column("position")).collect()
}

/// The positions of the letters that canaries send now. The letters of receivers that have relapsed are
/// kept.
async fn canaries(
    transaction: &Transaction<'_>,
    operation: &mut Operation,
    most: u32,
) -> Result<Vec<i64>, StoreError> {
    const SQL: &str = "-- operation_canaries
        select l.position
        from unnest($2::uuid[], $3::bigint[]) r (webhook, letters)
        cross join lateral (
            select l.position from operation_letters l
            where l.operation = $1 and l.state = 'waiting' and l.webhook = r.webhook
            order by l.position limit r.letters
        ) l
        where not ($5 and exists (select from webhooks w
                                  where w.id = r.webhook and w.paused and w.hold))
        limit $4";
    const KEEP: &str = "-- operation_relapsed
        update operation_letters set state = 'refused', refusal = 'relapsed'
        where operation = $1 and state = 'waiting' and webhook = any($2)";
    let (mut webhooks, mut letters, mut relapsed) = (Vec::new(), Vec::new(), Vec::new());
    for (webhook, receiver) in receivers(transaction, operation.id).await? {
        match canary(receiver) {
            Canary::Send(0) => {}
            Canary::Send(count) => {
                webhooks.push(webhook);
                letters.push(i64::from(count));
            }
            Canary::Relapsed => relapsed.push(webhook),
        }
    }
    if !relapsed.is_empty() {
        let kept = transaction.execute(KEEP, &[&operation.id, &relapsed]).await?;
        let kept = i64::try_from(kept).unwrap_or(i64::MAX);
        let code = Refusal::Relapsed.code().to_owned();
        *operation.counts.refused.entry(code).or_default() += kept;
    }
    if webhooks.is_empty() || most == 0 {
        return Ok(Vec::new());
    }
    let values: crate::statement::Values<'_> =
        &[&operation.id, &webhooks, &letters, &i64::from(most), &(operation.kind == Kind::Recover)];
    let rows = transaction.query(SQL, values).await?;
    rows.iter().map(|row| row.column("position")).collect()
}

/// Writes the counts of a step.
async fn note(
    transaction: &Transaction<'_>,
    operation: &mut Operation,
    settled: Settled,
    used_to: DateTime<Utc>,
) -> Result<Settled, StoreError> {
    const SQL: &str = "-- operation_note
        update operations set settled = $2, refused = $3, used_to = $4 where id = $1";
    let counts = &mut operation.counts;
    counts.settled += settled.letters;
    for (reason, letters) in &settled.refused {
        *counts.refused.entry(reason.clone()).or_default() += letters;
    }
    let values: crate::statement::Values<'_> =
        &[&operation.id, &counts.settled, &json!(counts.refused), &used_to];
    transaction.execute(SQL, values).await?;
    Ok(settled)
}

/// The state in which the operation ends now. `untried` deliveries of a resend are not attempted yet.
async fn ended(
    transaction: &Transaction<'_>,
    operation: &Operation,
    untried: u32,
) -> Result<Option<State>, StoreError> {
    const SQL: &str = "-- operation_rest
        select exists (select from operation_letters
                       where operation = $1 and state = 'waiting')
               or exists (select from operations
                          where id = $1 and chosen_to < missed_until) as waiting,
               exists (select from operation_letters
                       where operation = $1 and state = 'begun') as open";
    let row = transaction.query_one(SQL, &[&operation.id]).await?;
    let relapsed = operation.counts.refused.contains_key(Refusal::Relapsed.code());
    let (waiting, open): (bool, bool) = (row.column("waiting")?, row.column("open")?);
    let waiting = waiting || untried > 0;
    Ok(end(Rest { waiting, open, canary: operation.canary, relapsed }))
}
