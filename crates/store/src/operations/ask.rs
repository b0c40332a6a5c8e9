//! The letters of an operation: which are chosen, and which of them it would keep.

use fanfare_core::audit::entry::OperationBegun;
use fanfare_core::audit::{Author, Entry};
use fanfare_core::dead_letter::{Choice, Kind as Queue};
use fanfare_core::name::Name;
use fanfare_core::operation::{Kind, Rate};
use serde_json::{Map, Value};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Operation, read, select};
use crate::audit;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The most letters of one operation. Further ones need another operation.
pub const MOST_LETTERS: i64 = 500_000;

/// A new operation.
#[derive(Debug, Clone, Copy)]
pub struct NewOperation<'a> {
    pub kind: Kind,
    /// The letters, without an id for all that the other conditions choose.
    pub choice: &'a Choice,
    pub note: Option<&'a str>,
    pub rate: Option<Rate>,
    pub canary: bool,
    pub author: &'a Author,
}

/// The open letters of a choice, the oldest first. Its parameters are those of [`Conditions`].
macro_rules! chosen {
    () => {
        "select d.id as letter, d.kind, d.source, d.batch, d.webhook, d.entry, d.received_at, d.reason,
                row_number() over (order by d.died_at, d.id) as position
         from dead_letters d
         where d.settled_at is null and d.died_at < now()
           and (cardinality($1::text[]) = 0 or d.id = any($1))
           and ($2::text is null or d.kind = $2)
           and ($3::text is null or d.reason = $3)
           and ($4::uuid is null or d.webhook = $4)
           and ($5::text is null or d.owner_key = $5)
           and ($6::text is null or d.host = lower($6))
           and ($7::text is null or lower(d.event_type) = lower($7))
           and ($8::integer is null or d.status = $8)
           and ($9::text is null or d.cause = $9)
           and ($10::timestamptz is null or d.died_at >= $10)
           and ($11::timestamptz is null or d.died_at < $11)
           and ($12::text is null
                or position(lower($12) in lower(concat_ws(' ', d.id, d.webhook, d.owner, d.host,
                                                          d.event_type, d.event_id, d.reason, d.error,
                                                          d.detail))) > 0)
         order by d.died_at, d.id
         limit $13"
    };
}

/// The parameters of a choice, in their order.
struct Conditions<'a> {
    choice: &'a Choice,
    kind: Option<&'static str>,
    webhook: Option<Uuid>,
    owner: Option<&'a str>,
    most: i64,
}

impl<'a> Conditions<'a> {
    fn new(choice: &'a Choice, most: i64) -> Self {
        Self {
            choice,
            kind: choice.kind.map(Queue::name),
            webhook: choice.webhook.map(|id| id.0),
            owner: choice.owner.as_ref().map(Name::key),
            most,
        }
    }

    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        let choice = self.choice;
        vec![
            &choice.ids,
            &self.kind,
            &choice.reason,
            &self.webhook,
            &self.owner,
            &choice.host,
            &choice.event_type,
            &choice.status,
            &choice.cause,
            &choice.since,
            &choice.until,
            &choice.text,
            &self.most,
        ]
    }
}

impl Store {
    /// Stores an operation with the letters of a choice. It is running, and makes no step yet.
    pub async fn operation_ask(&self, new: &NewOperation<'_>) -> Result<Operation, StoreError> {
        const ASK: &str = concat!(
            "-- operation_ask
            with chosen as (",
            chosen!(),
            "), made as (
                insert into operation_letters (operation, position, letter, batch, webhook, entry,
                                               received_at, reason, state, refusal)
                select $14, position, letter, batch, webhook, entry, received_at, reason,
                       case source when 'ledger' then 'waiting' else 'refused' end,
                       case source when 'ledger' then null else 'only-in-queue' end
                from chosen
                returning state
            ), counted as (
                select count(*) as total, count(*) filter (where state = 'refused') as refused
                from made
            )
            insert into operations (id, kind, filter, note, rate, canary, asked_by, door, address,
                                    correlation, total, refused)
            select $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, total,
                   case when refused > 0 then jsonb_build_object('only-in-queue', refused)
                        else '{}' end
            from counted"
        );
        const SHOW: &str = select!("operation_asked", "where id = $1");
        let id = Uuid::now_v7();
        let filter = filter(new.choice);
        let NewOperation { kind, choice, note, rate, canary, author } = *new;
        let per_second =
            rate.map(|rate| i32::try_from(rate.letters_per_second()).unwrap_or(i32::MAX));
        let conditions = Conditions::new(choice, MOST_LETTERS);
        let (kind_code, door) = (kind.code(), author.via.door.code());
        let mut values = conditions.values();
        let of_row: [&(dyn ToSql + Sync); 10] = [
            &id,
            &kind_code,
            &filter,
            &note,
            &per_second,
            &canary,
            &author.actor,
            &door,
            &author.via.address,
            &author.via.correlation,
        ];
        values.extend(of_row);
        let mut client = self.connection("store an operation").await?;
        let transaction = client.transaction().await?;
        transaction.execute(ASK, &values).await?;
        let operation = read(&transaction.query_one(SHOW, &[&id]).await?)?;
        let total = operation.counts.total;
        let begun = OperationBegun { kind, filter: &filter, note, total, rate, canary };
        audit::add(&transaction, author, &[Entry::operation_begun(id, &begun)]).await?;
        transaction.commit().await?;
        Ok(operation)
    }

    /// Counts the letters of a choice by what an operation of this kind would do with them now: the
    /// reason for which it would keep them, or `None`.
    pub async fn operation_plan(
        &self,
        kind: Kind,
        choice: &Choice,
    ) -> Result<Vec<(Option<String>, i64)>, StoreError> {
        const SQL: &str = concat!(
            "-- operation_plan
            with chosen as (",
            chosen!(),
            ")
            select case
                       when c.source <> 'ledger' then 'only-in-queue'
                       when $14 = 'discard' or c.kind = 'events' then null
                       when w.id is null or w.deleted_at is not null then 'webhook-deleted'
                       when w.paused then 'webhook-paused'
                       when exists (select from events e
                                    where e.batch = c.batch and e.received_at = c.received_at
                                      and c.webhook = any(e.webhooks)
                                      and e.payload_removed is not null) then 'payload-removed'
                   end as refusal, count(*) as letters
            from chosen c left join webhooks w on w.id = c.webhook
            group by 1 order by 1 nulls first"
        );
        let conditions = Conditions::new(choice, MOST_LETTERS);
        let code = kind.code();
        let mut values = conditions.values();
        values.push(&code);
        let client = self.connection("count the letters of an operation").await?;
        let rows = client.query(SQL, &values).await?;
        rows.iter().map(|row| Ok((row.column("refusal")?, row.column("letters")?))).collect()
    }
}

/// A choice as people read it: a member for each condition.
fn filter(choice: &Choice) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    put("ids", (!choice.ids.is_empty()).then(|| Value::from(choice.ids.clone())));
    put("queue", choice.kind.map(|kind| Value::from(kind.name())));
    put("reason", text(&choice.reason));
    put("webhook", choice.webhook.map(|id| Value::from(id.to_string())));
    put("owner", choice.owner.as_ref().map(|owner| Value::from(owner.as_str())));
    put("host", text(&choice.host));
    put("type", text(&choice.event_type));
    put("status", choice.status.map(Value::from));
    put("cause", text(&choice.cause));
    put("since", choice.since.map(|at| Value::from(at.to_rfc3339())));
    put("until", choice.until.map(|at| Value::from(at.to_rfc3339())));
    put("text", text(&choice.text));
    Value::Object(members)
}
