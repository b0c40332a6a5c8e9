//! Payloads that are too old are removed, and facts stay.

use std::time::Duration;

use fanfare_core::audit::Author;
use fanfare_core::ids::{BatchKey, DeliveryId};
use fanfare_core::job::{AttemptRef, Restart};
use fanfare_core::outcome::State;
use fanfare_core::payload::{REMOVED, WhyRemoved};
use fanfare_store::PlanMode;
use fanfare_store::deliveries::RestartScope;
use fanfare_store::payloads::Removed;
use fanfare_store::retention::Keep;

use crate::partitions::{age_ledger, until_waiting};
use crate::reconcile::{database, entry, route};
use crate::retention::{count, discard};
use crate::support::Database;

const DAY: Duration = Duration::from_hours(24);
const AGE: Duration = Duration::from_hours(24 * 30);

/// Records how the first attempt of a delivery ended, with the body of its answer, and settles its
/// event.
async fn ended(database: &Database, due: AttemptRef, state: State) {
    database.store.attempts_record(&[entry(due, state, None)]).await.unwrap();
    let answer =
        "update attempts set response_body = 'private', outcome = 'status' where batch = $1";
    database.client.execute(answer, &[&due.batch.0]).await.unwrap();
    let settle = "update events set look_at = null where batch = $1";
    database.client.execute(settle, &[&due.batch.0]).await.unwrap();
}

/// Makes steps until nothing is left to do, and returns how many events' data was removed.
async fn remove(database: &Database) -> i64 {
    let mut events = 0;
    loop {
        let Removed { events: some, more, .. } =
            database.store.payloads_remove(AGE).await.unwrap().unwrap();
        events += some;
        if !more {
            return events;
        }
    }
}

/// The ids of the events that have their data, sorted.
async fn with_payload(database: &Database) -> Vec<String> {
    let sql = "select event_id from events where notification <> 'null' order by 1";
    let rows = database.client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.try_get(0).unwrap()).collect()
}

/// Lets the batches that are kept be looked at again.
async fn ten_minutes_later(database: &Database) {
    let sql = "update payloads_kept set checked_at = checked_at - interval '11 minutes'";
    database.client.batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn payloads_go_after_their_age_unless_they_are_needed() {
    let (database, hook) = database().await;
    let due = |batch| AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    let mut dues = Vec::new();
    for id in ["dead", "delivered", "discarded", "unsettled"] {
        dues.push(due(route(&database, id).await));
    }
    ended(&database, dues[0], State::Dead).await;
    ended(&database, dues[1], State::Delivered).await;
    ended(&database, dues[2], State::Dead).await;
    discard(&database, dues[2]).await;
    age_ledger(&database, 31).await;
    let new = due(route(&database, "new").await);
    ended(&database, new, State::Delivered).await;
    assert_eq!(remove(&database).await, 2);
    assert_eq!(with_payload(&database).await, ["dead", "new", "unsettled"]);
    // The facts stay, and say why.
    let id = DeliveryId::of(dues[1].batch, hook.id);
    let (delivery, attempts) = database.store.delivery_show(id).await.unwrap().unwrap();
    assert_eq!(delivery.state, State::Delivered);
    assert_eq!(delivery.payload_removed, Some(WhyRemoved::Age));
    assert_eq!((delivery.events, delivery.attempts), (vec!["delivered".to_owned()], 1));
    assert_eq!(attempts[0].response_body, None);
    assert_eq!(attempts[0].payload_removed, Some(WhyRemoved::Age));
    let dead = DeliveryId::of(dues[0].batch, hook.id);
    let (_, attempts) = database.store.delivery_show(dead).await.unwrap().unwrap();
    assert_eq!(attempts[0].response_body.as_deref(), Some("private"));

    // What was kept goes when it is not needed any more.
    ended(&database, dues[3], State::Delivered).await;
    discard(&database, dues[0]).await;
    assert_eq!(remove(&database).await, 0);
    ten_minutes_later(&database).await;
    assert_eq!(remove(&database).await, 2);
    assert_eq!(with_payload(&database).await, ["new"]);
    assert_eq!(count(&database, "payloads_kept").await, 0);
}

#[tokio::test]
async fn days_that_are_done_are_not_read_again() {
    let (database, hook) = database().await;
    let batch = route(&database, "1").await;
    let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    ended(&database, due, State::Delivered).await;
    age_ledger(&database, 40).await;
    let keep = Keep { facts: None, payloads: Some(AGE), audit: None, recognition: None };
    let overdue = || async { database.store.coverage(keep).await.unwrap().payloads_overdue };
    assert!(overdue().await > 9 * DAY, "{:?}", overdue().await);
    assert_eq!(remove(&database).await, 1);
    assert_eq!(overdue().await, Duration::ZERO);
    let before = database.store.payloads_removed_before().await.unwrap();
    // A longer age moves nothing back.
    database.store.payloads_remove(2 * AGE).await.unwrap().unwrap();
    assert_eq!(database.store.payloads_removed_before().await.unwrap(), before);
    database.client.batch_execute("update events set payload_removed = null").await.unwrap();
    assert_eq!(remove(&database).await, 0);
    assert!(database.store.payloads_removed_before().await.unwrap() >= before);
}

#[tokio::test]
async fn routers_at_the_same_time_remove_each_payload_once() {
    let (database, hook) = database().await;
    for id in 0..5 {
        let batch = route(&database, &id.to_string()).await;
        let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
        ended(&database, due, State::Delivered).await;
    }
    age_ledger(&database, 31).await;
    let another = database.another(PlanMode::Generic, 2);
    let (first, second) =
        tokio::join!(database.store.payloads_remove(AGE), another.payloads_remove(AGE));
    let events = |step: Option<Removed>| step.map_or(0, |step| step.events);
    assert_eq!(events(first.unwrap()) + events(second.unwrap()), 5);
}

#[tokio::test]
async fn delivery_without_its_payload_is_not_sent_again() {
    let (database, hook) = database().await;
    let due = |batch| AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    let delivered = due(route(&database, "delivered").await);
    ended(&database, delivered, State::Delivered).await;
    let dead = due(route(&database, "dead").await);
    ended(&database, dead, State::Dead).await;
    discard(&database, dead).await;
    let since = chrono::DateTime::UNIX_EPOCH;
    assert_eq!(database.store.deliveries_dead(hook.id, since, 10).await.unwrap(), 1);
    age_ledger(&database, 31).await;
    assert_eq!(remove(&database).await, 2);
    let restart = async |batch: BatchKey| {
        let scope = RestartScope::NotPending;
        database.store.delivery_restart(batch, hook.id, scope, &Author::system()).await.unwrap()
    };
    for batch in [delivered.batch, dead.batch] {
        assert_eq!(restart(batch).await, Restart::PayloadRemoved);
    }
    assert_eq!(database.store.deliveries_dead(hook.id, since, 10).await.unwrap(), 0);
    assert_eq!(count(&database, "attempts").await, 2);
    let events = database.store.delivery_events(dead).await.unwrap();
    assert!(events[0].is_removed() && events[0].notification.as_deref() == Some(REMOVED));
}

#[tokio::test]
async fn restart_and_removal_at_the_same_moment_wait_for_each_other() {
    let (database, hook) = database().await;
    let batch = route(&database, "1").await;
    let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    ended(&database, due, State::Delivered).await;
    age_ledger(&database, 31).await;
    let mut client = database.connect().await;
    let removal = client.transaction().await.unwrap();
    removal.batch_execute("select remove_payloads(now() - interval '30 days', 100)").await.unwrap();
    let scope = RestartScope::NotPending;
    let author = Author::system();
    let restart = database.store.delivery_restart(batch, hook.id, scope, &author);
    let commit = async {
        until_waiting(&database).await;
        removal.commit().await.unwrap();
    };
    let (restarted, ()) = tokio::join!(restart, commit);
    assert_eq!(restarted.unwrap(), Restart::PayloadRemoved);
    assert_eq!(count(&database, "attempts").await, 1);
}

#[tokio::test]
async fn months_of_the_audit_trail_are_dropped_after_their_age() {
    let (database, _) = database().await;
    let old = "
        create table audit_2020_01 partition of audit
            for values from ('2020-01-01 00:00:00+00') to ('2020-02-01 00:00:00+00');
        insert into audit (at, door, action, object_kind, object_id)
        values ('2020-01-05', 'cli', 'old', 'webhook', '1'), ('2020-03-05', 'cli', 'old', 'webhook', '2'),
               (now(), 'cli', 'new', 'webhook', '3')";
    database.client.batch_execute(old).await.unwrap();
    let keep = Keep { facts: None, payloads: None, audit: Some(400 * DAY), recognition: None };
    let overdue = || async { database.store.coverage(keep).await.unwrap().audit_overdue };
    assert!(overdue().await > 1000 * DAY);
    let never = Keep { audit: None, ..keep };
    let mut steps = Vec::new();
    for keep in [never, keep, keep] {
        steps.push(format!("{:?}", database.store.retention_step(keep).await.unwrap()));
    }
    assert!(steps[0] == "Done" && steps[1].contains("audit_2020_01") && steps[2] == "Done");
    assert_eq!(overdue().await, Duration::ZERO);
    let left = "select string_agg(action, ' ') from audit where object_kind = 'webhook'";
    let left: String = database.client.query_one(left, &[]).await.unwrap().try_get(0).unwrap();
    assert_eq!(left, "new");
}
