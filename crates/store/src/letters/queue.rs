//! The index beside the queues: which letters a queue should have, which have to leave it, and which the
//! ledger did not know.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::dead_letter::{Kind, Letter};
use fanfare_core::name;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::error::{Remedy, StoreError};
use crate::pool::Store;
use crate::retry::REPEATS;
use crate::rows::Columns as _;

/// The longest time in which a letter reaches its queue, and the shortest between two walks that both miss it.
const MARGIN: Duration = Duration::from_secs(5);

/// A letter whose message has to leave its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    pub id: String,
    /// Whether every message with this id has to leave: the letter will not be opened again.
    pub is_final: bool,
    /// The times of death of the messages that have to leave, as their headers have them.
    pub gone: Vec<String>,
}

/// Which letters a walk over a whole queue did not find.
#[derive(Debug, Clone, Copy)]
pub enum Missed<'a> {
    /// All but these.
    AllBut(&'a [String]),
    /// These.
    Only(&'a [String]),
}

impl Store {
    /// The number of messages that a queue of dead letters should have.
    pub async fn letters_expected(&self, kind: Kind) -> Result<i64, StoreError> {
        const SQL: &str = "-- letters_expected
            select coalesce(sum(copies), 0)::bigint as expected from dead_letters
            where kind = $1 and copies > 0";
        let client = self.connection("count the letters of a queue").await?;
        client.query_one(SQL, &[&kind.name()]).await?.column("expected")
    }

    /// The database's time.
    pub async fn letters_clock(&self) -> Result<DateTime<Utc>, StoreError> {
        const SQL: &str = "-- letters_clock
            select clock_timestamp() as now";
        let client = self.connection("read the time").await?;
        client.query_one(SQL, &[]).await?.column("now")
    }

    /// Takes the right to say which letters a queue lacks, for at most `lease`, unless another process
    /// has it: that one hides letters while it reads them.
    pub async fn letters_walk_begin(&self, lease: Duration) -> Result<bool, StoreError> {
        const SQL: &str = "-- letters_walk_begin
            update dead_letters_state set walked_until = now() + $1::float8 * interval '1 second'
            where walked_until <= now()";
        let client = self.connection("begin to compare a queue with the ledger").await?;
        client.execute(SQL, &[&lease.as_secs_f64()]).await.map(|rows| rows > 0)
    }

    /// Gives that right back.
    pub async fn letters_walk_end(&self) -> Result<(), StoreError> {
        const SQL: &str = "-- letters_walk_end
            update dead_letters_state set walked_until = now()";
        let client = self.connection("end to compare a queue with the ledger").await?;
        client.execute(SQL, &[]).await.map(drop)
    }

    /// Adds letters that were found in their queue and that the index does not know. A letter that
    /// others took away, or that only its queue has, is opened again.
    pub async fn letters_found(&self, letters: &[Letter]) -> Result<u64, StoreError> {
        const SQL: &str = include_str!("../sql/letters_found.sql");
        let facts = Value::Array(letters.iter().map(facts).collect());
        self.change_letters("add dead letters that a queue has", SQL, &[&facts]).await
    }

    /// Notes how many messages with each id a queue has.
    pub async fn letters_counted(&self, counts: &[(String, i16)]) -> Result<(), StoreError> {
        const SQL: &str = "-- letters_counted
            with changed as (
                select d.id, n.copies from unnest($1::text[], $2::smallint[]) n(id, copies)
                join dead_letters d on d.id = n.id
                where d.copies <> n.copies or d.missed_at is not null
                order by d.id for no key update of d
            )
            update dead_letters d set copies = c.copies, missed_at = null
            from changed c where d.id = c.id";
        let (ids, copies): (Vec<&str>, Vec<i16>) =
            counts.iter().map(|(id, copies)| (id.as_str(), *copies)).unzip();
        self.change_letters("count the messages of a queue", SQL, &[&ids, &copies]).await.map(drop)
    }

    /// Notes which letters a walk that began `ago` did not find. What two walks did not find, some
    /// seconds apart, others have taken.
    pub async fn letters_missed(
        &self,
        kind: Kind,
        missed: Missed<'_>,
        ago: Duration,
    ) -> Result<u64, StoreError> {
        const SQL: &str = include_str!("../sql/letters_missed.sql");
        let (ids, are_others) = match missed {
            Missed::AllBut(ids) => (ids, true),
            Missed::Only(ids) => (ids, false),
        };
        let (ago, margin) = (ago.as_secs_f64(), MARGIN.as_secs_f64());
        let params: [&(dyn ToSql + Sync); 5] = [&kind.name(), &ids, &are_others, &ago, &margin];
        self.change_letters("note which letters a queue lacks", SQL, &params).await
    }

    /// The letters whose messages have to leave a queue, at most `most`, the oldest first.
    pub async fn letters_leaving(&self, kind: Kind, most: i64) -> Result<Vec<Leaving>, StoreError> {
        const SQL: &str = "-- letters_leaving
            select id, gone, settled_at is not null and kind = 'deliveries' as is_final
            from dead_letters
            where kind = $1 and copies > 0 and source = 'ledger'
              and (settled_at is not null or gone <> '{}')
              and settled_as is distinct from 'taken'
            order by died_at limit $2";
        let client = self.connection("look for letters that have to leave a queue").await?;
        let leaving = |row: &Row| {
            Ok(Leaving {
                id: row.column("id")?,
                is_final: row.column("is_final")?,
                gone: row.column("gone")?,
            })
        };
        let rows = client.query(SQL, &[&kind.name(), &most]).await?;
        rows.iter().map(leaving).collect()
    }

    /// Whether a letter is settled now.
    pub async fn letter_is_settled(&self, id: &str) -> Result<bool, StoreError> {
        const SQL: &str = "-- letter_is_settled
            select exists (select from dead_letters where id = $1 and settled_at is not null)
                   as is_settled";
        let client = self.connection("read whether a letter is settled").await?;
        client.query_one(SQL, &[&id]).await?.column("is_settled")
    }

    /// Notes that messages have left their queue: the ids of their letters, and their times of death.
    pub async fn letters_left(&self, left: &[(String, String)]) -> Result<(), StoreError> {
        const SQL: &str = "-- letters_left
            with left_it as (
                select id, count(*)::smallint as copies, array_agg(died) as died
                from unnest($1::text[], $2::text[]) u(id, died) group by id
            ), changed as (
                select d.id, l.copies, l.died from left_it l join dead_letters d on d.id = l.id
                order by d.id for no key update of d
            )
            update dead_letters d
            set copies = greatest(d.copies - c.copies, 0),
                gone = array(select g from unnest(d.gone) g where g <> all(c.died))
            from changed c where d.id = c.id";
        let (ids, died): (Vec<&str>, Vec<&str>) =
            left.iter().map(|(id, died)| (id.as_str(), died.as_str())).unzip();
        self.change_letters("note that letters have left their queue", SQL, &[&ids, &died])
            .await
            .map(drop)
    }

    /// Executes a statement that changes many letters, which it locks by their ids. Deliveries that end
    /// at the same moment lock their letters in another order. So it may lose a deadlock; then nothing
    /// was changed, and it is executed again.
    async fn change_letters(
        &self,
        doing: &'static str,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        let client = self.connection(doing).await?;
        for _ in 0..REPEATS {
            match client.execute(sql, params).await {
                Err(error) if error.remedy() == Remedy::Repeat => {}
                answered => return answered,
            }
        }
        client.execute(sql, params).await
    }

    /// Removes what was settled long ago, at most `most` rows. Returns how many.
    pub async fn letters_trim(&self, older: Duration, most: i64) -> Result<u64, StoreError> {
        const SQL: &str = "-- letters_trim
            delete from dead_letters where id in (
                select id from dead_letters
                where settled_at < now() - $1::float8 * interval '1 second'
                order by settled_at limit $2)";
        let client = self.connection("remove old dead letters").await?;
        client.execute(SQL, &[&older.as_secs_f64(), &most]).await
    }
}

/// What the index says about a letter of a queue. PostgreSQL stores no NUL.
fn facts(letter: &Letter) -> Value {
    let text = |text: &str| text.replace('\0', "\u{fffd}");
    let optional = |it: &Option<String>| it.as_deref().map(text);
    let owner_key = letter.owner.as_deref().map(|owner| text(&name::fold(owner)));
    json!({
        "id": letter.id,
        "kind": letter.kind.name(),
        "webhook": letter.webhook.map(|id| id.0),
        "owner": optional(&letter.owner),
        "owner_key": owner_key,
        "event_type": optional(&letter.event_type),
        "event_id": optional(&letter.event),
        "reason": text(&letter.reason),
        "detail": text(&letter.detail),
        "status": letter.last_status,
        "attempts": letter.attempts,
        "died_at": letter.died_at,
    })
}
