//! The letters of an operation: which are chosen, and which of them it would keep.

use fanfare_core::audit::entry::OperationBegun;
use fanfare_core::audit::{Author, Entry};
use fanfare_core::dead_letter::Choice;
use fanfare_core::operation::{Kind, Rate};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Operation, read, select};
use crate::audit;
use crate::error::StoreError;
use crate::letters::Conditions;
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

impl Store {
    /// Stores an operation with the letters of a choice. It is running, and makes no step yet.
    pub async fn operation_ask(&self, new: &NewOperation<'_>) -> Result<Operation, StoreError> {
        const SHOW: &str = select!("operation_asked", "where id = $1");
        let id = Uuid::now_v7();
        let filter = filter(new.choice);
        let NewOperation { kind, note, rate, canary, author, .. } = *new;
        let (sql, conditions) = asking(id, &filter, new);
        let mut client = self.connection("store an operation").await?;
        let transaction = client.transaction().await?;
        transaction.execute(&sql, &conditions.values()).await?;
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
        let (chosen, mut conditions) = chosen(choice);
        let kind = conditions.parameter(kind.code());
        let sql = format!(
            "-- operation_plan
            with chosen as ({chosen})
            select case
                       when c.source <> 'ledger' then 'only-in-queue'
                       when {kind} = 'discard' or c.kind = 'events' then null
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
        let client = self.connection("count the letters of an operation").await?;
        let rows = client.query(&sql, &conditions.values()).await?;
        rows.iter().map(|row| Ok((row.column("refusal")?, row.column("letters")?))).collect()
    }
}

/// The statement that chooses the open letters of a choice, the oldest first, with its parameters.
fn chosen(choice: &Choice) -> (String, Conditions) {
    let mut conditions = Conditions::of(choice);
    conditions.add("died_at < now()");
    let most = conditions.parameter(MOST_LETTERS);
    let sql = format!(
        "select id as letter, kind, source, batch, webhook, entry, received_at, reason,
                row_number() over (order by died_at, id) as position
         from dead_letters where {} order by died_at, id limit {most}",
        conditions.sql()
    );
    (sql, conditions)
}

/// The statement that stores an operation with its letters, with its parameters.
fn asking(id: Uuid, filter: &Value, new: &NewOperation<'_>) -> (String, Conditions) {
    let NewOperation { kind, choice, note, rate, canary, author } = *new;
    let rate = rate.map(|rate| i32::try_from(rate.letters_per_second()).unwrap_or(i32::MAX));
    let (chosen, mut conditions) = chosen(choice);
    let id = conditions.parameter(id);
    let of_row = [
        conditions.parameter(kind.code()),
        conditions.parameter(filter.clone()),
        conditions.parameter(note.map(str::to_owned)),
        conditions.parameter(rate),
        conditions.parameter(canary),
        conditions.parameter(author.actor.clone()),
        conditions.parameter(author.via.door.code()),
        conditions.parameter(author.via.address.clone()),
        conditions.parameter(author.via.correlation.clone()),
    ]
    .join(", ");
    let sql = format!(
        "-- operation_ask
        with chosen as ({chosen}), made as (
            insert into operation_letters (operation, position, letter, batch, webhook, entry,
                                           received_at, reason, state, refusal)
            select {id}, position, letter, batch, webhook, entry, received_at, reason,
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
        select {id}, {of_row}, total,
               case when refused > 0 then jsonb_build_object('only-in-queue', refused)
                    else '{{}}' end
        from counted"
    );
    (sql, conditions)
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
