//! The jobs that the reconciler finds, and those that it leaves alone.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::ids::BatchKey;
use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::State;
use fanfare_core::webhook::Webhook;
use fanfare_store::PlanMode;
use fanfare_store::attempts::Entry;
use fanfare_store::claims::Lease;
use fanfare_store::reconcile::{Found, Passed};
use fanfare_store::routing::{RouteRules, Routed, Routing};
use serde_json::{Value, json};

use crate::access::{arrival, parse, webhook};
use crate::support::{Database, document, reads};

const LIMIT: i64 = 10;
const RULES: RouteRules = RouteRules { gap_wait: None, recognition: None };

pub(crate) fn event(id: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/tests", "type": "tasks.execute",
        "subject": "tasks/t1", "data": data
    })
}

/// A database with a webhook that gets every event.
pub(crate) async fn database() -> (Database, Webhook) {
    let database = Database::new().await;
    let hook = webhook("anna", &[], false);
    database.store.webhook_add(&hook).await.unwrap();
    let anna = json!({ "name": "anna", "permissions": [reads("task", "t1")] });
    let anna = document(fanfare_core::directory::Kind::User, 1, &anna);
    database.store.directory_apply(&[anna]).await.unwrap();
    (database, hook)
}

pub(crate) async fn route(database: &Database, id: &str) -> BatchKey {
    let event = parse(&event(id, &json!({})));
    let routed = database.store.route(&[arrival(&event)], None).await.unwrap();
    assert!(matches!(&routed[..], [Routed::Accepted { .. }]), "{routed:?}");
    BatchKey::single(event.key)
}

/// Makes events older by some seconds.
async fn age(database: &Database, batches: &[BatchKey], seconds: i32) {
    let batches: Vec<uuid::Uuid> = batches.iter().map(|batch| batch.0).collect();
    let sql = "update events set queued_at = queued_at - make_interval(secs => $2::int),
                                 look_at = look_at - make_interval(secs => $2::int)
               where batch = any($1)";
    database.client.execute(sql, &[&batches, &seconds]).await.unwrap();
}

async fn reconcile(database: &Database, passed: Passed) -> Found {
    database.store.reconcile(LIMIT, passed).await.unwrap().unwrap()
}

/// The progress of queues that have passed everything up to `seconds` ago.
async fn passed(database: &Database, seconds: i64) -> Passed {
    let row = database.client.query_one("select now()", &[]).await.unwrap();
    let now: DateTime<Utc> = row.try_get(0).unwrap();
    let at = Some(now - TimeDelta::seconds(seconds));
    Passed { deliveries: at, retries: at }
}

pub(crate) fn entry(
    due: AttemptRef,
    state: State,
    next_attempt_at: Option<DateTime<Utc>>,
) -> Entry {
    let now = Utc::now();
    Entry {
        due,
        attempt: 1,
        tries: 1,
        since: now,
        state,
        reason: None,
        detail: None,
        post: None,
        at: now,
        next_attempt_at,
        revision: 1,
    }
}

#[tokio::test]
async fn job_is_lost_when_its_queue_has_passed_it_without_a_trace() {
    let (database, hook) = database().await;
    let (old, young) = (route(&database, "old").await, route(&database, "young").await);
    age(&database, &[old], 100).await;
    age(&database, &[young], 50).await;
    let due = |batch| AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    let nothing = reconcile(&database, Passed { deliveries: None, retries: None }).await;
    assert_eq!((nothing.checked, nothing.unattempted.len()), (0, 0));
    let found = reconcile(&database, passed(&database, 70).await).await;
    assert_eq!((found.checked, found.unattempted), (1, vec![due(old)]));
    // It is leased to the router that found it, which publishes its jobs.
    let again = reconcile(&database, passed(&database, 70).await).await;
    assert_eq!(again.checked, 0);
    // The publishing was not recorded, so it is found again after the lease.
    age(&database, &[old], 11).await;
    let again = reconcile(&database, passed(&database, 70).await).await;
    assert_eq!(again.unattempted, [due(old)]);
    // Now it waits in the other queue, until that has passed this time.
    database.store.reconcile_published(&[due(old)], found.at).await.unwrap();
    let now = passed(&database, 0).await;
    let all = reconcile(&database, now).await;
    assert_eq!((all.unattempted, all.overdue), (vec![due(young)], vec![]));
    age(&database, &[old], 30).await;
    let deliveries = reconcile(&database, Passed { retries: None, ..now }).await;
    assert_eq!(deliveries.checked, 0);
    let retries = reconcile(&database, Passed { deliveries: None, ..now }).await;
    assert_eq!(retries.overdue, [due(old)]);
}

#[tokio::test]
async fn each_kind_of_job_is_lost_by_the_progress_of_its_own_queue() {
    let (database, hook) = database().await;
    let (retried, deferred, done) = (
        route(&database, "retried").await,
        route(&database, "deferred").await,
        route(&database, "done").await,
    );
    age(&database, &[retried, deferred, done], 100).await;
    let due =
        |batch, entry| AttemptRef { batch, webhook: hook.id, sequence: entry, received_at: None };
    let at = Utc::now() - TimeDelta::seconds(60);
    let entries = [
        entry(due(retried, 1), State::Retrying, Some(at)),
        entry(due(done, 1), State::Delivered, None),
    ];
    database.store.attempts_record(&entries).await.unwrap();
    database.store.claims_defer(&[(due(deferred, 1), Duration::from_secs(4))]).await.unwrap();
    let long_ago = passed(&database, 90).await;
    let now = passed(&database, 0).await;
    let first =
        reconcile(&database, Passed { deliveries: now.deliveries, retries: long_ago.retries })
            .await;
    assert_eq!((first.checked, first.settled), (3, 1));
    assert_eq!((first.unattempted, first.overdue), (vec![], vec![]));
    // A long queue of first attempts does not hide a lost retry.
    age(&database, &[retried, deferred], 100).await;
    database
        .client
        .execute(
            "update claims set until = until - interval '1 minute',
                               deferred_until = until - interval '50 seconds'",
            &[],
        )
        .await
        .unwrap();
    let second =
        reconcile(&database, Passed { deliveries: long_ago.deliveries, retries: now.retries })
            .await;
    let mut overdue = second.overdue;
    overdue.sort_by_key(|due| due.sequence);
    assert_eq!(overdue, [due(deferred, 1), due(retried, 2)]);
}

#[tokio::test]
async fn events_that_never_settle_do_not_keep_others_from_being_found() {
    let (database, hook) = database().await;
    let mut stuck = Vec::new();
    for number in 0..2 * LIMIT {
        stuck.push(route(&database, &format!("stuck {number}")).await);
    }
    age(&database, &stuck, 1000).await;
    let good = route(&database, "good").await;
    age(&database, &[good], 100).await;
    let mut found = Vec::new();
    for _ in 0..3 {
        // The jobs are never published.
        found.extend(reconcile(&database, passed(&database, 0).await).await.unattempted);
    }
    assert!(
        found.contains(&AttemptRef {
            batch: good,
            webhook: hook.id,
            sequence: 1,
            received_at: None
        }),
        "{found:?}"
    );
}

#[tokio::test]
async fn route_own_returns_only_the_rows_of_its_routing() {
    let (database, hook) = database().await;
    let (own, others) = (parse(&event("1", &json!({}))), parse(&event("2", &json!({}))));
    let (mark, other) = (Routing::new().unwrap(), Routing::new().unwrap());
    database.store.route_as(other, &[arrival(&others)], RULES).await.unwrap();
    let arrivals = [arrival(&own), arrival(&others)];
    let first = database.store.route_as(mark, &arrivals, RULES).await.unwrap();
    let second = database.store.route_as(mark, &arrivals, RULES).await.unwrap();
    assert_eq!(second, [Routed::Known, Routed::Known]);
    let keys = [own.key, others.key];
    let written = database.store.route_own(mark, &keys).await.unwrap();
    assert_eq!(written.len(), 1);
    assert_eq!(written.get(&own.key), Some(&first[0]));
    assert!(matches!(&first[0], Routed::Accepted { webhooks, .. } if *webhooks == [hook.id]));
}

#[tokio::test]
async fn routers_with_the_same_events_in_opposite_orders_do_not_deadlock() {
    let (database, _) = database().await;
    let another = database.another(PlanMode::Generic, 1);
    for round in 0..20 {
        let event = |n| parse(&event(&format!("{round}-{n}"), &json!({})));
        let events: Vec<_> = (0..300).map(event).collect();
        let forward: Vec<_> = events.iter().map(arrival).collect();
        let backward: Vec<_> = events.iter().rev().map(arrival).collect();
        let (one, other) =
            tokio::join!(database.store.route(&forward, None), another.route(&backward, None));
        let taken = [one.unwrap(), other.unwrap()].concat();
        let new = taken.iter().filter(|it| matches!(it, Routed::Accepted { .. })).count();
        assert_eq!(new, events.len());
    }
}

#[tokio::test]
async fn queue_progress_only_rises_and_not_beyond_now() {
    let database = Database::new().await;
    let at = |second| DateTime::from_timestamp(second, 0).unwrap();
    let future = Utc::now() + TimeDelta::days(1);
    for passed in [("a", at(1000)), ("a", at(500)), ("b", future)] {
        database.store.queue_progress_note(&[passed]).await.unwrap();
    }
    let progress = database.store.queue_progress().await.unwrap();
    assert_eq!(progress.passed.get("a"), Some(&at(1000)));
    assert!(progress.passed.get("b").is_some_and(|passed| *passed <= progress.at));
}

#[tokio::test]
async fn claims_sweep_goes_through_the_table_in_parts() {
    let (database, hook) = database().await;
    let dues = |from: u128, count| -> Vec<AttemptRef> {
        (from..from + count)
            .map(|n| AttemptRef {
                batch: BatchKey(uuid::Uuid::from_u128(n)),
                webhook: hook.id,
                sequence: 1,
                received_at: None,
            })
            .collect()
    };
    let lease = Lease::new(Duration::from_mins(1), true);
    database.store.attempts_claim(&dues(0, 2000), lease).await.unwrap();
    // These were released. A claim of an attempt that was never recorded would be kept.
    let past = "update claims set until = now() - interval '1 hour', token = null";
    database.client.execute(past, &[]).await.unwrap();
    database.store.attempts_claim(&dues(5000, 10), lease).await.unwrap();
    let (mut page, mut parts) = (0, 0);
    loop {
        page = database.store.claims_sweep(page, 5).await.unwrap();
        parts += 1;
        if page == 0 {
            break;
        }
    }
    assert!(parts > 2, "{parts} parts");
    let left = database.client.query_one("select count(*) from claims", &[]).await.unwrap();
    assert_eq!(left.try_get::<_, i64>(0).unwrap(), 10);
}
