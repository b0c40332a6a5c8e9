//! Pages over many partitions: they open those of the newest days only, and find older rows all the same.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::State;
use fanfare_core::resource::Resource;
use fanfare_store::PlanMode;
use fanfare_store::deliveries::{Delivery, DeliveryFilter};
use fanfare_store::events::{EventFilter, EventSummary};
use fanfare_store::statistics::StatisticsFilter;
use fanfare_store::webhooks::grid::{Column, GridFilter};
use uuid::Uuid;

use crate::partitions::age_ledger;
use crate::reconcile::{database, entry, route};
use crate::support::Database;

const SOON: Duration = Duration::from_mins(1);

/// Routes an event, and stores one attempt of its delivery, which was made just now.
async fn attempted(database: &Database, webhook: WebhookId, id: &str, state: State) -> AttemptRef {
    let batch = route(database, id).await;
    let due = AttemptRef { batch, webhook, sequence: 1, received_at: None };
    database.store.attempts_record(&[entry(due, state, None)]).await.unwrap();
    let made = "update attempts set outcome = 'status', status = 200, since = received_at
                where batch = $1";
    database.client.execute(made, &[&batch.0]).await.unwrap();
    due
}

fn list(limit: i64) -> DeliveryFilter {
    DeliveryFilter { limit, ..DeliveryFilter::default() }
}

fn events(limit: i64) -> EventFilter {
    EventFilter { limit, ..EventFilter::default() }
}

/// Reads all pages of events.
async fn all_events(database: &Database, mut filter: EventFilter) -> (Vec<EventSummary>, usize) {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = database.store.events_page(&filter).await.unwrap();
        pages += 1;
        found.extend(page.events);
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return (found, pages),
        }
    }
}

fn statistics() -> StatisticsFilter {
    let longest_chain = Duration::from_hours(72);
    StatisticsFilter { webhook: None, owner: None, hours: 24, longest_chain }
}

/// A statement that opens a partition, even if only to plan it, waits for its lock.
#[tokio::test]
async fn pages_of_what_is_new_do_not_open_the_partition_of_an_old_day() {
    let (database, hook) = database().await;
    attempted(&database, hook.id, "old", State::Delivered).await;
    age_ledger(&database, 40).await;
    for id in ["1", "2", "3"] {
        attempted(&database, hook.id, id, State::Delivered).await;
    }
    let count = Duration::ZERO;
    database.store.health_count(count).await.unwrap();
    attempted(&database, hook.id, "4", State::Delivered).await;
    let mut other = database.connect().await;
    let transaction = other.transaction().await.unwrap();
    let lock = "do $$
        declare
            old text;
        begin
            for old in select name from ledger_partitions
                       where until < now() - interval '30 days' and parent <> 'event_keys' loop
                execute format('lock table %I in access exclusive mode', old);
            end loop;
        end $$";
    transaction.batch_execute(lock).await.unwrap();
    let store = database.another(PlanMode::Interactive, 1);
    let read = async {
        let of_webhook = DeliveryFilter { webhook: Some(hook.id), ..list(3) };
        for filter in [list(3), of_webhook] {
            assert_eq!(store.deliveries_page(&filter).await.unwrap().deliveries.len(), 3);
        }
        assert_eq!(store.events_page(&events(3)).await.unwrap().events.len(), 3);
        let grid = GridFilter {
            owner: None,
            words: Vec::new(),
            column: Column::Last,
            descending: false,
            anchor: None,
            limit: 10,
        };
        assert_eq!(store.webhooks_grid(&grid).await.unwrap().webhooks.len(), 1);
        let health = store.health(&[hook.id]).await.unwrap().unwrap();
        assert!(health[&hook.id].last.is_some());
    };
    tokio::time::timeout(SOON, read).await.expect("a page waits for the lock of an old day");
    transaction.rollback().await.unwrap();
    // What is not on these pages is found all the same.
    let found = database.store.deliveries_page(&list(10)).await.unwrap().deliveries;
    let ids: Vec<&str> = found.iter().flat_map(|one| &one.events).map(String::as_str).collect();
    assert_eq!(ids, ["4", "3", "2", "1", "old"]);
    let (found, _) = all_events(&database, events(2)).await;
    assert_eq!(found.iter().map(|it| &it.id[..]).collect::<Vec<_>>(), ["4", "3", "2", "1", "old"]);
}

#[tokio::test]
async fn events_among_many_others_are_found_page_by_page_in_order() {
    const EVENTS: i32 = 35_000;
    let (database, hook) = database().await;
    let fill = format!(
        "insert into events (key, batch, position, source, event_id, event_type, subject,
                             decided_revision, notification, webhooks, received_at)
         select key, key, 0, '/tests', n::text, 'tasks.execute',
                'tasks/t' || (n % 10000 = 7)::int, 1, '{{}}', array[$1::uuid],
                now() - n * interval '5 seconds'
         from (select gen_random_uuid() as key, n from generate_series(1, {EVENTS}) n) e"
    );
    database.client.execute(&fill, &[&hook.id.0]).await.unwrap();
    let subject = Some(Resource::parse("tasks/t1").unwrap());
    let filter = EventFilter { subject, ..events(100) };
    let (found, pages) = all_events(&database, filter.clone()).await;
    let ids: Vec<&str> = found.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["7", "10007", "20007", "30007"]);
    assert!((4..=5).contains(&pages), "{pages} pages");
    let since = Some(Duration::from_hours(1));
    let (found, pages) = all_events(&database, EventFilter { since, ..filter.clone() }).await;
    assert_eq!((found.len(), pages), (1, 1));
    // A cursor may be of any time.
    for after in [DateTime::<Utc>::MIN_UTC + TimeDelta::days(1), DateTime::UNIX_EPOCH] {
        let mut position = found[0].position();
        position.received_at = after;
        let filter = EventFilter { after: Some(position), ..filter.clone() };
        let page = database.store.events_page(&filter).await;
        assert!(page.map_or(true, |page| page.events.is_empty()), "{after}");
    }
}

/// An event's row is missing after a backup was restored, or when a person deleted it.
#[tokio::test]
async fn delivery_whose_event_is_missing_is_listed_with_what_is_known() {
    let (database, hook) = database().await;
    let known = attempted(&database, hook.id, "1", State::Dead).await;
    database.client.batch_execute("delete from events").await.unwrap();
    let unknown = BatchKey(Uuid::from_u128(7));
    let unknown = AttemptRef { batch: unknown, webhook: hook.id, sequence: 1, received_at: None };
    database.store.attempts_record(&[entry(unknown, State::Dead, None)]).await.unwrap();
    let wanted: Vec<DeliveryId> = vec![unknown.id(), known.id()];
    let ids = |found: &[Delivery]| found.iter().map(|one| one.id).collect::<Vec<_>>();
    let dead = DeliveryFilter { state: Some(State::Dead), ..list(10) };
    let of_webhook = DeliveryFilter { webhook: Some(hook.id), ..list(10) };
    for filter in [dead, of_webhook] {
        let found = database.store.deliveries_page(&filter).await.unwrap().deliveries;
        assert_eq!(ids(&found), wanted, "{filter:?}");
        assert!(found.iter().all(|one| one.events.is_empty() && one.state == State::Dead));
    }
}

#[tokio::test]
async fn last_attempt_is_found_whether_it_is_counted_newer_or_old() {
    let (database, hook) = database().await;
    let last = async || {
        let statistics = database.store.statistics(&statistics()).await.unwrap();
        statistics.last.map(|last| last.delivery)
    };
    assert_eq!(last().await, None);
    let first = attempted(&database, hook.id, "1", State::Delivered).await;
    assert_eq!(last().await, Some(first.id()));
    database.store.health_count(Duration::ZERO).await.unwrap();
    assert_eq!(last().await, Some(first.id()));
    let second = attempted(&database, hook.id, "2", State::Delivered).await;
    assert_eq!(last().await, Some(second.id()));
    database.store.health_count(Duration::ZERO).await.unwrap();
    age_ledger(&database, 40).await;
    let age = "update webhook_health set at = at - interval '40 days'";
    database.client.batch_execute(age).await.unwrap();
    assert_eq!(last().await, Some(second.id()));
}
