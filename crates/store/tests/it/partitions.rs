//! The ledger in partitions: where rows are stored, how they are found, and how repeated events are
//! recognised.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::audit::Author;
use fanfare_core::ids::{BatchKey, DeliveryId, WebhookId};
use fanfare_core::job::{AttemptRef, Restart};
use fanfare_core::outcome::State;
use fanfare_store::deliveries::RestartScope;
use fanfare_store::retention::DAYS_AHEAD;
use fanfare_store::routing::{RouteRules, Routed, Routing};
use fanfare_store::{PlanMode, Remedy};
use fanfare_testkit::wait::eventually;
use serde_json::json;

use crate::access::{arrival, parse};
use crate::reconcile::{database, entry, event, route};
use crate::support::Database;

const SOON: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// Makes all that the ledger has older by some days, as if it had been stored in the partitions of
/// that time.
pub(crate) async fn age_ledger(database: &Database, days: i32) {
    let sql = format!(
        "select make_partition('events', 'received_at', day, day + interval '24 hours'),
                make_partition('attempts', 'received_at', day, day + interval '24 hours')
         from (select distinct date_trunc('day', received_at - interval '{days} days', 'UTC') as day
               from events) days;
         select make_partition('event_keys', 'week', week, week + interval '168 hours')
         from (select distinct date_trunc('week', received_at - interval '{days} days', 'UTC') as week
               from event_keys) weeks;
         -- Near the end of a week, a key is in two of them.
         delete from event_keys k
         where exists (select from event_keys o where o.key = k.key and o.week < k.week);
         update events set received_at = received_at - interval '{days} days';
         update attempts set received_at = received_at - interval '{days} days',
                             since = since - interval '{days} days', at = at - interval '{days} days';
         update event_keys set received_at = received_at - interval '{days} days',
                week = date_trunc('week', received_at - interval '{days} days', 'UTC')"
    );
    database.client.batch_execute(&sql).await.unwrap();
}

/// The partitions of a table that have rows.
async fn filled(database: &Database, table: &str) -> Vec<String> {
    let sql = format!("select distinct tableoid::regclass::text from {table} order by 1");
    let rows = database.client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.try_get(0).unwrap()).collect()
}

/// Routes an event again, with this horizon of recognition.
async fn again(database: &Database, id: &str, recognition: Option<Duration>) -> Routed {
    let event = parse(&event(id, &json!({})));
    let rules = RouteRules { gap_wait: None, recognition };
    let mark = Routing::new().unwrap();
    database.store.route_as(mark, &[arrival(&event)], rules).await.unwrap().remove(0)
}

#[tokio::test]
async fn repeated_event_is_recognised_in_the_partitions_of_earlier_weeks() {
    let (database, _) = database().await;
    route(&database, "1").await;
    for days in [1, 7, 21] {
        age_ledger(&database, days).await;
        assert_eq!(again(&database, "1", Some(30 * DAY)).await, Routed::Known, "{days}");
    }
}

#[tokio::test]
async fn event_older_than_the_horizon_is_routed_again() {
    let (database, hook) = database().await;
    let batch = route(&database, "1").await;
    age_ledger(&database, 31).await;
    assert_eq!(again(&database, "1", None).await, Routed::Known);
    let Routed::Accepted { received_at, .. } = again(&database, "1", Some(30 * DAY)).await else {
        panic!("not routed");
    };
    assert_eq!(filled(&database, "events").await.len(), 2);
    // It is a delivery of its own, although its Id is the same.
    let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    let history = database.store.delivery_histories(&[due], 1000).await.unwrap().remove(0);
    assert_eq!(history.events.len(), 1);
    assert_eq!(history.events[0].received_at, received_at);
}

/// The horizon is not rounded to the week of a key.
#[tokio::test]
async fn event_older_than_the_horizon_is_routed_again_within_its_week() {
    let (database, _) = database().await;
    route(&database, "1").await;
    let older = "update event_keys set received_at = received_at - interval '25 hours'";
    database.client.batch_execute(older).await.unwrap();
    assert_eq!(again(&database, "1", Some(30 * DAY)).await, Routed::Known);
    assert!(matches!(again(&database, "1", Some(DAY)).await, Routed::Accepted { .. }));
    assert_eq!(again(&database, "1", Some(DAY)).await, Routed::Known);
}

/// Another router that has the event writes its key for the next week as well when that is near.
#[tokio::test]
async fn router_waits_for_another_one_with_the_same_event_and_another_week() {
    let (database, _) = database().await;
    let key = parse(&event("1", &json!({}))).key;
    let mut other = database.connect().await;
    let transaction = other.transaction().await.unwrap();
    let insert = "insert into event_keys (week, key, batch, received_at)
                  select date_trunc('week', now(), 'UTC') + n * interval '168 hours', $1, $1, now()
                  from generate_series(-1, 1) n";
    transaction.execute(insert, &[&key.0]).await.unwrap();
    let (routed, ()) = tokio::join!(again(&database, "1", Some(30 * DAY)), async {
        until_waiting(&database).await;
        transaction.commit().await.unwrap();
    });
    assert_eq!(routed, Routed::Known);
}

/// Drops all partitions but the default ones.
async fn drop_partitions(database: &Database) {
    let drop = "do $$
        declare
            partition text;
        begin
            for partition in select name from ledger_partitions where not is_default loop
                execute format('drop table %I', partition);
            end loop;
        end $$";
    database.client.batch_execute(drop).await.unwrap();
}

/// Waits until a statement waits for a lock.
pub(crate) async fn until_waiting(database: &Database) {
    // Other tests use the same server.
    let waits = "select count(*) > 0 from pg_stat_activity
                 where wait_event_type = 'Lock' and datname = current_database()";
    eventually("a statement waits for a lock", SOON, async || {
        let waits: bool = database.client.query_one(waits, &[]).await.unwrap().try_get(0).unwrap();
        waits.then_some(())
    })
    .await;
}

/// PostgreSQL refuses a row that waited for the default partition and does not belong there any more.
#[tokio::test]
async fn event_whose_partition_is_made_at_the_same_moment_is_routed_by_the_next_try() {
    let (database, _) = database().await;
    drop_partitions(&database).await;
    let mut other = database.connect().await;
    let transaction = other.transaction().await.unwrap();
    let make = "select make_partition('events', 'received_at', day, day + interval '24 hours')
                from date_trunc('day', now(), 'UTC') day";
    transaction.execute(make, &[]).await.unwrap();
    let event = parse(&event("1", &json!({})));
    let arrivals = [arrival(&event)];
    let (routed, ()) = tokio::join!(database.store.route(&arrivals, None), async {
        until_waiting(&database).await;
        transaction.commit().await.unwrap();
    });
    assert_eq!(routed.unwrap_err().remedy(), Remedy::Repeat);
    let routed = database.store.route(&arrivals, None).await.unwrap();
    assert!(matches!(&routed[..], [Routed::Accepted { .. }]), "{routed:?}");
}

#[tokio::test]
async fn rows_without_a_partition_are_stored_found_and_moved_when_it_is_made() {
    let (database, hook) = database().await;
    drop_partitions(&database).await;
    let batch = route(&database, "1").await;
    assert_eq!(again(&database, "1", Some(30 * DAY)).await, Routed::Known);
    let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    let row = entry(due, State::Dead, None);
    assert!(database.store.attempts_record(std::slice::from_ref(&row)).await.unwrap().is_empty());
    for table in ["events", "attempts", "event_keys"] {
        assert_eq!(filled(&database, table).await, [format!("{table}_default")]);
    }
    let made = database.store.partitions_make(DAYS_AHEAD).await.unwrap();
    assert!(made.is_some_and(|made| made >= 18), "{made:?}");
    for table in ["events", "attempts", "event_keys"] {
        assert_ne!(filled(&database, table).await, [format!("{table}_default")]);
    }
    assert_eq!(again(&database, "1", Some(30 * DAY)).await, Routed::Known);
    let last = database.store.attempts_last(&[due]).await.unwrap().remove(0);
    assert_eq!(last.map(|last| last.state), Some(State::Dead));
    // The row is recognised where it is now.
    assert!(database.store.attempts_record(&[row]).await.unwrap().is_empty());
    assert_eq!(database.store.partitions_make(DAYS_AHEAD).await.unwrap(), Some(0));
}

/// The delivery of a webhook whose events were routed some days ago, and one of today.
async fn old_and_new(database: &Database, webhook: WebhookId) -> [AttemptRef; 2] {
    let due = |batch: BatchKey| AttemptRef { batch, webhook, sequence: 1, received_at: None };
    let old = due(route(database, "old").await);
    age_ledger(database, 10).await;
    [old, due(route(database, "new").await)]
}

/// Another transaction has locked the partition of the other day: a statement that opens it waits.
#[tokio::test]
async fn delivery_is_found_by_its_id_without_opening_other_days() {
    let (database, hook) = database().await;
    let [old, new] = old_and_new(&database, hook.id).await;
    database.store.attempts_record(&[entry(old, State::Dead, None)]).await.unwrap();
    let days = filled(&database, "events").await;
    let store = database.another(PlanMode::Interactive, 1);
    for (due, locked) in [(new, &days[0]), (old, &days[1])] {
        let mut client = database.connect().await;
        let transaction = client.transaction().await.unwrap();
        let attempts = locked.replace("events", "attempts");
        let lock = format!("lock table {locked}, {attempts} in access exclusive mode");
        transaction.batch_execute(&lock).await.unwrap();
        let id = DeliveryId::of(due.batch, due.webhook);
        let shown = tokio::time::timeout(SOON, store.delivery_show(id)).await.unwrap().unwrap();
        assert!(shown.is_some_and(|(delivery, _)| delivery.id == id));
        transaction.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn job_of_an_earlier_version_finds_its_delivery() {
    let (database, hook) = database().await;
    for due in old_and_new(&database, hook.id).await {
        let received_at = received_at(&database, due).await;
        let with_time = AttemptRef { received_at: Some(received_at), ..due };
        database.store.attempts_record(&[entry(with_time, State::Dead, None)]).await.unwrap();
        let last = database.store.attempts_last(&[due, with_time]).await.unwrap();
        assert!(last[0].is_some() && last[0] == last[1], "{last:?}");
        let (scope, author) = (RestartScope::Dead, Author::system());
        let restart = database.store.delivery_restart(due.batch, due.webhook, scope, &author).await;
        let Restart::Begun(next) = restart.unwrap() else { panic!("not restarted") };
        assert_eq!((next.sequence, next.received_at), (3, Some(received_at)));
    }
}

/// The time at which the events of a delivery were routed.
async fn received_at(database: &Database, due: AttemptRef) -> DateTime<Utc> {
    let history = database.store.delivery_histories(&[due], 0).await.unwrap().remove(0);
    history.events[0].received_at
}
