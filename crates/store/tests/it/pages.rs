//! The cost of a page of deliveries, which is bounded whatever the number of others' deliveries.

use std::time::Duration;

use chrono::Utc;
use fanfare_core::ids::WebhookId;
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use fanfare_store::PlanMode;
use fanfare_store::deliveries::{Delivery, DeliveryFilter};
use fanfare_testkit::wait::eventually;

use crate::access::webhook;
use crate::support::Database;

const SOON: Duration = Duration::from_mins(1);

impl Database {
    /// Adds events for another webhook, one for each millisecond up to now. Half of them are open,
    /// the others dead.
    async fn fill(&self, other: WebhookId, number: i64) {
        // Autovacuum counts as reading. In such small tables the planner prefers to read all open
        // events instead of a part of them in order.
        let settings = "
            drop index events_check_first, events_check_later;
            do $$
            declare
                partition text;
            begin
                for partition in select name from ledger_partitions loop
                    execute format('alter table %I set (autovacuum_enabled = off)', partition);
                end loop;
                execute format('alter database %I set enable_seqscan = off', current_database());
            end $$";
        self.client.batch_execute(settings).await.unwrap();
        let events = format!(
            "insert into events (key, batch, position, source, event_id, event_type, subject,
                                 decided_revision, notification, webhooks, received_at, look_at)
             select key, key, 0, '/tests', n::text, 'tasks.execute', 'tasks/t1', 1,
                    repeat('x', 200), array[$1::uuid], at, case when n % 2 = 0 then at end
             from (select gen_random_uuid() as key, n,
                          now() - n * interval '1 millisecond' as at
                   from generate_series(1, {number}) n) e"
        );
        self.client.execute(&events, &[&other.0]).await.unwrap();
        let attempts = "insert into attempts (batch, webhook, entry, attempt, tries, since, state,
                                              reason, at, outcome, revision, received_at)
                        select batch, $1, 1, 1, 1, received_at, 'dead', 'exhausted', received_at,
                               'timeout', 1, received_at
                        from events where look_at is null";
        self.client.execute(attempts, &[&other.0]).await.unwrap();
        self.client.batch_execute("vacuum analyze events, attempts").await.unwrap();
    }

    /// The number of the stores' connections.
    async fn connections(&self) -> i64 {
        let sql = "select count(*) from pg_stat_activity where application_name = 'fanfare tests'";
        self.client.query_one(sql, &[]).await.unwrap().try_get(0).unwrap()
    }

    /// The number of the ledger's blocks that were read so far, by connections that have ended.
    async fn blocks(&self) -> i64 {
        // This connection's own reads are reported here, before the difference is taken.
        self.client.batch_execute("select pg_stat_force_next_flush()").await.unwrap();
        let sql =
            "select sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                   from pg_statio_user_tables join ledger_partitions on name = relname";
        self.client.query_one(sql, &[]).await.unwrap().try_get(0).unwrap()
    }

    /// Reads all pages of deliveries, and returns the deliveries and the number of pages.
    async fn all(&self, filter: &DeliveryFilter) -> (Vec<Delivery>, usize) {
        let (mut filter, mut found, mut pages) = (filter.clone(), Vec::new(), 0);
        loop {
            let page = self.store.deliveries_page(&filter).await.unwrap();
            pages += 1;
            found.extend(page.deliveries);
            match page.next {
                Some(next) => filter.after = Some(next),
                None => return (found, pages),
            }
        }
    }
}

impl Database {
    /// The number of blocks that an empty page reads, and the number of such pages.
    async fn empty_pages(&self, filter: &DeliveryFilter) -> (i64, usize) {
        let (before, connections) = (self.blocks().await, self.connections().await);
        let store = self.another(PlanMode::Interactive, 1);
        let page = store.deliveries_page(filter).await.unwrap();
        assert!(page.deliveries.is_empty());
        drop(store);
        // A connection reports its reads when it ends, at the latest.
        eventually("the connection has ended", SOON, async || {
            let left = self.connections().await;
            if left <= connections { Ok(()) } else { Err(left) }
        })
        .await;
        let blocks = self.blocks().await - before;
        let (found, pages) = self.all(filter).await;
        assert!(found.is_empty());
        (blocks, pages)
    }
}

fn of(owner: &str, state: Option<State>) -> DeliveryFilter {
    let owner = Some(Name::parse(owner).unwrap());
    DeliveryFilter { owner, state, limit: 100, ..DeliveryFilter::default() }
}

#[tokio::test]
async fn page_of_an_owner_without_deliveries_reads_a_bounded_part_of_the_ledger() {
    let database = Database::new().await;
    for _ in 0..51 {
        database.store.webhook_add(&webhook("anna", &[], false)).await.unwrap();
    }
    let other = webhook("bob", &[], false);
    database.store.webhook_add(&other).await.unwrap();
    database.fill(other.id, 120_000).await;
    let states = [None, Some(State::Delivered), Some(State::Pending), Some(State::Dead)];
    for filter in states.map(|state| of("anna", state)) {
        let (blocks, pages) = database.empty_pages(&filter).await;
        assert!(blocks < 2_500 && pages <= 14, "{filter:?}: {blocks} blocks, {pages} pages");
    }
}

#[tokio::test]
async fn page_of_a_state_that_no_delivery_has_reads_a_bounded_part_of_the_ledger() {
    const EVENTS: u32 = 60_000;
    const LOOKED_UP: u32 = 2_500;
    let database = Database::new().await;
    let other = webhook("bob", &[], false);
    database.store.webhook_add(&other).await.unwrap();
    database.fill(other.id, EVENTS.into()).await;
    // Half of the events are open.
    for (state, among) in [(State::Delivered, EVENTS), (State::Retrying, EVENTS / 2)] {
        let filter = DeliveryFilter { state: Some(state), limit: 100, ..DeliveryFilter::default() };
        let (blocks, pages) = database.empty_pages(&filter).await;
        assert!(blocks < 12_000, "{state:?}: {blocks} blocks");
        assert!(pages.abs_diff((among / LOOKED_UP) as usize) <= 1, "{state:?}: {pages} pages");
    }
    // A delivery costs as much, whether it is one of an event's many or an event's only one.
    let share = "update events set webhooks = array_fill(webhooks[1], array[50])
                 where event_id::int <= 5000";
    database.client.execute(share, &[]).await.unwrap();
    database.client.batch_execute("vacuum analyze events").await.unwrap();
    let filter =
        DeliveryFilter { state: Some(State::Delivered), limit: 100, ..DeliveryFilter::default() };
    let (blocks, pages) = database.empty_pages(&filter).await;
    assert!(blocks < 12_000 && pages > 100, "{blocks} blocks, {pages} pages");
}

#[tokio::test]
async fn deliveries_among_many_of_others_are_found_page_by_page_in_order() {
    let database = Database::new().await;
    let (own, other) = (webhook("anna", &[], false), webhook("bob", &[], false));
    database.store.webhook_add(&own).await.unwrap();
    database.store.webhook_add(&other).await.unwrap();
    database.fill(other.id, 60_000).await;
    // Every 3,001st event is anna's too; open and dead ones alternate.
    let (share, dead) = (
        "update events set webhooks = webhooks || $1::uuid where event_id::int % 3001 = 0",
        "insert into attempts (batch, webhook, entry, attempt, tries, since, state, reason, at,
                               outcome, revision, received_at)
         select batch, $1, 1, 1, 1, received_at, 'dead', 'exhausted', received_at, 'timeout', 1,
                received_at
         from events where look_at is null and $1 = any(webhooks)",
    );
    let shared = database.client.execute(share, &[&own.id.0]).await.unwrap();
    let dead = database.client.execute(dead, &[&own.id.0]).await.unwrap();
    assert_eq!((shared, dead), (19, 10));
    for (state, expected) in [(None, 19), (Some(State::Pending), 9), (Some(State::Dead), 10)] {
        for filter in [of("anna", state), DeliveryFilter { limit: 2, ..of("anna", state) }] {
            let (found, _) = database.all(&filter).await;
            let times: Vec<_> = found.iter().map(|delivery| delivery.created_at).collect();
            assert_eq!(times.len(), expected, "{state:?}");
            assert!(times.is_sorted_by(|newer, older| newer > older), "{state:?}: {times:?}");
            assert!(found.iter().all(|delivery| delivery.webhook == own.id));
        }
    }
    let since = Some(Utc::now() - chrono::TimeDelta::seconds(20));
    let (found, _) = database.all(&DeliveryFilter { since, ..of("anna", None) }).await;
    assert!(found.len() < 19, "{}", found.len());
}
