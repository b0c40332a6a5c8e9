//! Replays and discards of many letters: each call is one transaction, with an entry of the audit trail for
//! each letter. What was done is in the ledger when the call returns; the messages follow.

use std::collections::HashMap;

use fanfare_core::audit::{Author, Entry};
use fanfare_core::dead_letter::{DiedBy, Letter};
use fanfare_core::ids::WebhookId;
use fanfare_core::job::{AttemptRef, Restart};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::attempts::delivery_key;
use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::kept::RETURN_MARGIN;
use crate::located::Located;
use crate::pool::Store;
use crate::rows::Columns as _;

/// A dead event that is about to be published for the routers again.
#[derive(Debug, Clone)]
pub struct ReplayedEvent {
    /// The id of its row, and of its letter.
    pub id: Uuid,
    /// Its properties, as AMQP encodes them.
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

/// The replay of some dead events, in a transaction that is not committed yet.
pub struct EventReplay {
    /// Those that are replayed. The others were settled meanwhile.
    pub events: Vec<ReplayedEvent>,
}

/// The entry of the audit trail about a letter.
type EntryOf<'a> = &'a (dyn Fn(&Letter) -> Entry + Sync);

impl Store {
    /// Begins new series of attempts for dead deliveries. Returns the result of each letter, in their
    /// order. A letter that is not of a delivery in the ledger has none.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: all of the series may have begun, or none; routers then publish their jobs.
    pub async fn letters_restart(
        &self,
        letters: &[Letter],
        author: &Author,
        entry: EntryOf<'_>,
    ) -> Result<Vec<Option<Restart>>, StoreError> {
        // All transactions lock rows in the same order.
        let mut asked: Vec<DiedBy> = letters.iter().filter_map(|letter| letter.died_by).collect();
        asked.sort_unstable_by_key(|died| (died.batch.0, died.webhook.0));
        let mut client = self.connection("replay dead letters").await?;
        let transaction = client.transaction().await?;
        let restarts = restart(&transaction, &asked, 0).await?;
        let of = |letter: &Letter| {
            let died = letter.died_by?;
            restarts.get(&(died.batch.0, died.webhook.0, died.entry)).copied()
        };
        // Also those that have moved on: their letters leave the queue.
        let is_settled =
            |letter: &&Letter| matches!(of(letter), Some(Restart::Begun(_) | Restart::MovedOn));
        let settled: Vec<&Letter> = letters.iter().filter(is_settled).collect();
        let entries: Vec<Entry> = settled.iter().map(|letter| entry(letter)).collect();
        audit::add(&transaction, author, &entries).await?;
        let ids: Vec<&str> = settled.iter().map(|letter| letter.id.as_str()).collect();
        close(&transaction, &ids, "replayed").await?;
        transaction.commit().await?;
        Ok(letters.iter().map(of).collect())
    }

    /// Records that dead events are about to be published for the routers again, and returns them. One
    /// that does not reach the routers is published once more. `died_at` reads from the properties of a
    /// letter the time of death that its message has in its header.
    ///
    /// A router may refuse an event again at once, and then the row is that of a dead letter as before,
    /// with another time of death. So it is said before the event is published.
    pub async fn letters_replay_events(
        &self,
        letters: &[Letter],
        author: &Author,
        entry: EntryOf<'_>,
        died_at: fn(&[u8]) -> Option<String>,
    ) -> Result<EventReplay, StoreError> {
        const SQL: &str = include_str!("../sql/letters_replay_events.sql");
        let by_id: HashMap<Uuid, &Letter> =
            letters.iter().filter_map(|letter| Some((kept_id(letter)?, letter))).collect();
        let ids: Vec<Uuid> = by_id.keys().copied().collect();
        let mut client = self.connection("replay dead letters").await?;
        let transaction = client.transaction().await?;
        let rows = transaction.query(SQL, &[&ids, &RETURN_MARGIN.as_secs_f64()]).await?;
        let event = |row: &Row| {
            Ok::<_, StoreError>(ReplayedEvent {
                id: row.column("id")?,
                properties: row.column("properties")?,
                body: row.column("body")?,
            })
        };
        let events: Vec<_> = rows.iter().map(event).collect::<Result<_, _>>()?;
        let entries: Vec<Entry> =
            events.iter().filter_map(|it| by_id.get(&it.id)).map(|letter| entry(letter)).collect();
        audit::add(&transaction, author, &entries).await?;
        let died = |it: &ReplayedEvent| (letter_id(it.id), died_at(&it.properties));
        leave(&transaction, events.iter().map(died)).await?;
        transaction.commit().await?;
        Ok(EventReplay { events })
    }

    /// Takes that back for an event that was not published.
    pub async fn letter_not_replayed(&self, id: Uuid) -> Result<(), StoreError> {
        const STAYS: &str = "-- letter_stays
            update dead_letters set gone = '{}', copies = greatest(copies - 1, 1) where id = $1";
        self.kept_not_replayed(Some(id)).await?;
        let client = self.connection("record that a dead letter was not replayed").await?;
        client.execute(STAYS, &[&letter_id(id)]).await.map(drop)
    }

    /// Records that a person discarded letters, and returns how many were still open.
    pub async fn letters_discard(
        &self,
        letters: &[Letter],
        author: &Author,
        entry: EntryOf<'_>,
    ) -> Result<Vec<String>, StoreError> {
        const OPEN: &str = "-- letters_lock
            select id from dead_letters where id = any($1) and settled_at is null
            order by id for update";
        // A router settles an event's row, and then its letter.
        const KEPT: &str = "-- letters_lock_events
            select id from kept_messages where id = any($1) order by id for update";
        let ids: Vec<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
        let kept: Vec<Uuid> = letters.iter().filter_map(kept_id).collect();
        let mut client = self.connection("discard dead letters").await?;
        let transaction = client.transaction().await?;
        transaction.execute(KEPT, &[&kept]).await?;
        let rows = transaction.query(OPEN, &[&ids]).await?;
        let open: Vec<String> =
            rows.iter().map(|row| row.column("id")).collect::<Result<_, _>>()?;
        let is_open = |letter: &&Letter| open.binary_search(&letter.id).is_ok();
        let mut chosen: Vec<&Letter> = letters.iter().filter(is_open).collect();
        chosen.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        chosen.dedup_by(|a, b| a.id == b.id);
        let entries: Vec<Entry> = chosen.iter().map(|letter| entry(letter)).collect();
        audit::add(&transaction, author, &entries).await?;
        discard(&transaction, &chosen).await?;
        let ids: Vec<&str> = chosen.iter().map(|letter| letter.id.as_str()).collect();
        close(&transaction, &ids, "discarded").await?;
        transaction.commit().await?;
        Ok(open)
    }

    /// Records that a letter, which only its queue had, has left it.
    pub async fn letter_taken(&self, id: &str, settled_as: &'static str) -> Result<(), StoreError> {
        const SQL: &str = "-- letter_taken
            update dead_letters
            set copies = greatest(copies - 1, 0),
                settled_at = case when copies <= 1 then coalesce(settled_at, now()) else settled_at end,
                settled_as = case when copies <= 1 then coalesce(settled_as, $2) else settled_as end
            where id = $1";
        let client = self.connection("record that a dead letter has left its queue").await?;
        client.execute(SQL, &[&id, &settled_as]).await.map(drop)
    }

    /// Which of these webhooks are paused. Those that are deleted, or were never registered, are not in
    /// the answer.
    pub async fn webhooks_paused(
        &self,
        ids: &[WebhookId],
    ) -> Result<HashMap<WebhookId, bool>, StoreError> {
        const SQL: &str = "-- webhooks_paused
            select id, paused from webhooks where id = any($1) and deleted_at is null";
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let client = self.connection("read which webhooks are paused").await?;
        let rows = client.query(SQL, &[&ids]).await?;
        rows.iter().map(|row| Ok((WebhookId(row.column("id")?), row.column("paused")?))).collect()
    }
}

/// Begins new series that have made `tries` attempts already, and returns the result for each delivery and
/// the row by which it died.
pub(crate) async fn restart(
    transaction: &Transaction<'_>,
    asked: &[DiedBy],
    tries: i32,
) -> Result<HashMap<(Uuid, Uuid, i32), Restart>, StoreError> {
    const SQL: &str = include_str!("../sql/letters_restart.sql");
    let batches: Vec<Uuid> = asked.iter().map(|died| died.batch.0).collect();
    let webhooks: Vec<Uuid> = asked.iter().map(|died| died.webhook.0).collect();
    let entries: Vec<i32> = asked.iter().map(|died| died.entry).collect();
    let Located { times, oldest, newest } =
        Located::new(asked.iter().map(|died| died.received_at).collect());
    let rows = transaction
        .query(SQL, &[&batches, &webhooks, &entries, &times, &oldest, &newest, &tries])
        .await?;
    let times: HashMap<Uuid, _> =
        asked.iter().map(|died| (died.batch.0, died.received_at)).collect();
    let mut restarts = HashMap::new();
    for row in &rows {
        let (batch, webhook) = delivery_key(row)?;
        let died: i32 = row.column("died")?;
        let restart = match row.column::<Option<i32>>("entry")? {
            Some(sequence) => {
                let received_at = times.get(&batch.0).copied();
                Restart::Begun(AttemptRef { batch, webhook, sequence, received_at })
            }
            None if row.column("is_removed")? => Restart::PayloadRemoved,
            None if row.column("is_wanted")? => Restart::UnderWay,
            None if row.column("is_known")? => Restart::MovedOn,
            None => Restart::Unknown,
        };
        restarts.insert((batch.0, webhook.0, died), restart);
    }
    Ok(restarts)
}

/// Records discards where the content of the letters is: then retention need not keep it any longer.
async fn discard(transaction: &Transaction<'_>, letters: &[&Letter]) -> Result<(), StoreError> {
    const DELIVERIES: &str = "-- letters_discard_deliveries
        insert into discards (batch, webhook, entry)
        select * from unnest($1::uuid[], $2::uuid[], $3::int[]) on conflict do nothing";
    const EVENTS: &str = "-- letters_discard_events
        update kept_messages
        set settled_at = now(), settled_as = 'discarded', properties = '', body = ''
        where id = any($1) and settled_at is null and kind = 'dead'";
    let died: Vec<DiedBy> = letters.iter().filter_map(|letter| letter.died_by).collect();
    if !died.is_empty() {
        let batches: Vec<Uuid> = died.iter().map(|died| died.batch.0).collect();
        let webhooks: Vec<Uuid> = died.iter().map(|died| died.webhook.0).collect();
        let entries: Vec<i32> = died.iter().map(|died| died.entry).collect();
        transaction.execute(DELIVERIES, &[&batches, &webhooks, &entries]).await?;
    }
    let kept: Vec<Uuid> = letters.iter().filter_map(|letter| kept_id(letter)).collect();
    if !kept.is_empty() {
        transaction.execute(EVENTS, &[&kept]).await?;
    }
    Ok(())
}

/// Settles those of these letters that no trigger has settled.
async fn close(
    transaction: &Transaction<'_>,
    ids: &[&str],
    settled_as: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "-- letters_close
        update dead_letters set settled_at = now(), settled_as = $2
        where id = any($1) and settled_at is null and source = 'ledger'";
    transaction.execute(SQL, &[&ids, &settled_as]).await.map(drop)
}

/// Notes which messages of events have to leave their queue, though a new one with the same id may come.
pub(crate) async fn leave(
    transaction: &Transaction<'_>,
    died: impl Iterator<Item = (String, Option<String>)>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- letters_leave
        with leaving as (
            select d.id, n.died from unnest($1::text[], $2::text[]) n(id, died)
            join dead_letters d on d.id = n.id
            where n.died <> all(d.gone)
            order by d.id for no key update of d
        )
        update dead_letters d set gone = d.gone || l.died from leaving l where d.id = l.id";
    let (ids, died): (Vec<String>, Vec<String>) =
        died.filter_map(|(id, died)| Some((id, died?))).unzip();
    transaction.execute(SQL, &[&ids, &died]).await.map(drop)
}

/// The id of the letter of a kept message.
fn letter_id(id: Uuid) -> String {
    id.simple().to_string()
}

/// The row that keeps a dead event.
fn kept_id(letter: &Letter) -> Option<Uuid> {
    use fanfare_core::dead_letter::{Kind, Source};
    let is_kept = letter.kind == Kind::Events && letter.source == Source::Ledger;
    Uuid::parse_str(&letter.id).ok().filter(|_| is_kept)
}
