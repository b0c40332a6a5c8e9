//! Retention: days that are no longer kept are dropped, and what must stay stays.

use std::time::Duration;

use fanfare_core::audit::entry::Letter;
use fanfare_core::audit::{Action, Author, Entry};
use fanfare_core::ids::DeliveryId;
use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::State;
use fanfare_store::PlanMode;
use fanfare_store::retention::{Keep, Step};
use fanfare_testkit::wait::eventually;

use crate::partitions::age_ledger;
use crate::reconcile::{database, entry, route};
use crate::support::Database;

const SOON: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// As by default.
const KEEP: Keep = Keep {
    facts: Some(Duration::from_hours(24 * 90)),
    payloads: Some(Duration::from_hours(24 * 30)),
    audit: Some(Duration::from_hours(24 * 400)),
    recognition: Some(Duration::from_hours(24 * 30)),
};

/// Makes steps until nothing is left to do, and returns the number of partitions that were dropped.
async fn retain(database: &Database, keep: Keep) -> usize {
    let mut dropped = 0;
    loop {
        match database.store.retention_step(keep).await.unwrap() {
            Step::Done => return dropped,
            Step::Dropped { .. } => dropped += 1,
            Step::Swept(_) => {}
            Step::Busy => panic!("no other transaction is open"),
        }
    }
}

/// The ids of the events in the ledger, sorted.
async fn events(database: &Database) -> Vec<String> {
    let sql = "select event_id from events order by 1";
    let rows = database.client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.try_get(0).unwrap()).collect()
}

pub(crate) async fn count(database: &Database, table: &str) -> i64 {
    let sql = format!("select count(*) from {table}");
    database.client.query_one(&sql, &[]).await.unwrap().try_get(0).unwrap()
}

/// The number of keys. Near the end of a week, each is there twice.
async fn keys(database: &Database) -> i64 {
    let sql = "select count(distinct key) from event_keys";
    database.client.query_one(sql, &[]).await.unwrap().try_get(0).unwrap()
}

/// Records how a delivery ended, and settles its event.
async fn ended(database: &Database, due: AttemptRef, state: State) {
    database.store.attempts_record(&[entry(due, state, None)]).await.unwrap();
    let settle = "update events set look_at = null where batch = $1";
    database.client.execute(settle, &[&due.batch.0]).await.unwrap();
}

/// Discards the dead letter of a delivery.
pub(crate) async fn discard(database: &Database, died: AttemptRef) {
    let letter = Letter {
        id: "letter",
        queue: "deliveries",
        reason: "exhausted",
        event: None,
        delivery: Some(died.id()),
        webhook: Some(died.webhook),
    };
    let entry = Entry::dead_letter(Action::DeadLetterDiscarded, &letter);
    database.store.delivery_discard(died, &Author::system(), &entry).await.unwrap();
}

#[tokio::test]
async fn dropped_day_keeps_what_is_unsettled_or_dead_until_it_is_decided() {
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
    age_ledger(&database, 100).await;
    route(&database, "new").await;
    // A day, and the week of its keys.
    assert_eq!(retain(&database, KEEP).await, 2);
    assert_eq!(events(&database).await, ["dead", "new", "unsettled"]);
    assert_eq!((count(&database, "attempts").await, keys(&database).await), (1, 3));
    // They are found by their Ids, and their attempts go on.
    let id = DeliveryId::of(dues[0].batch, hook.id);
    let (delivery, _) = database.store.delivery_show(id).await.unwrap().unwrap();
    assert_eq!(delivery.state, State::Dead);
    ended(&database, dues[3], State::Delivered).await;
    discard(&database, dues[0]).await;
    let old = "update discards set discarded_at = discarded_at - interval '100 days'";
    database.client.batch_execute(old).await.unwrap();
    assert_eq!(retain(&database, KEEP).await, 0);
    assert_eq!(events(&database).await, ["new"]);
    assert_eq!(keys(&database).await, 1);
    for (table, left) in [("attempts", 0), ("discards", 0)] {
        assert_eq!(count(&database, table).await, left, "{table}");
    }
}

#[tokio::test]
async fn nothing_is_dropped_that_is_young_or_kept_for_ever() {
    let (database, hook) = database().await;
    let batch = route(&database, "1").await;
    let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    ended(&database, due, State::Delivered).await;
    age_ledger(&database, 80).await;
    assert_eq!(retain(&database, KEEP).await, 0);
    age_ledger(&database, 80).await;
    assert_eq!(retain(&database, Keep { facts: None, ..KEEP }).await, 0);
    assert_eq!(events(&database).await, ["1"]);
    let before = database.store.partitions().await.unwrap().len();
    let overdue = database.store.coverage(KEEP).await.unwrap().overdue;
    assert!(overdue > 69 * DAY && overdue <= 70 * DAY, "{overdue:?}");
    assert_eq!(database.store.partitions().await.unwrap().len(), before);
    // Without a horizon of recognition, the keys stay.
    retain(&database, Keep { recognition: None, ..KEEP }).await;
    assert_eq!((events(&database).await.len(), keys(&database).await), (0, 1));
    assert_eq!(database.store.coverage(KEEP).await.unwrap().overdue, Duration::ZERO);
}

#[tokio::test]
async fn reader_of_the_ledger_delays_dropping_and_not_routing() {
    let (database, hook) = database().await;
    let batch = route(&database, "1").await;
    let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    ended(&database, due, State::Delivered).await;
    age_ledger(&database, 100).await;
    let mut client = database.connect().await;
    let reader = client.transaction().await.unwrap();
    reader.batch_execute("select count(*) from events, attempts").await.unwrap();
    assert_eq!(database.store.retention_step(KEEP).await.unwrap(), Step::Busy);
    // While a router tries again and again, others route.
    let tries = async {
        for _ in 0..5 {
            assert_eq!(database.store.retention_step(KEEP).await.unwrap(), Step::Busy);
        }
    };
    let routes = async {
        for id in 0..5 {
            route(&database, &format!("during {id}")).await;
        }
    };
    tokio::time::timeout(SOON, async { tokio::join!(tries, routes) }).await.unwrap();
    assert_eq!(database.store.partitions_make(20).await.unwrap(), None);
    reader.rollback().await.unwrap();
    eventually("the day is dropped", SOON, async || {
        matches!(database.store.retention_step(KEEP).await, Ok(Step::Dropped { .. })).then_some(())
    })
    .await;
    assert_eq!(events(&database).await.len(), 5);
}

#[tokio::test]
async fn step_is_busy_and_not_done_while_another_process_makes_one() {
    let (database, hook) = database().await;
    let batch = route(&database, "1").await;
    let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    ended(&database, due, State::Delivered).await;
    age_ledger(&database, 100).await;
    let mut client = database.connect().await;
    let other = client.transaction().await.unwrap();
    let lock = "select pg_advisory_xact_lock(hashtext('fanfare.partitions'))";
    other.batch_execute(lock).await.unwrap();
    assert_eq!(database.store.retention_step(KEEP).await.unwrap(), Step::Busy);
    other.rollback().await.unwrap();
    assert_eq!(retain(&database, KEEP).await, 2);
    assert_eq!(events(&database).await.len(), 0);
}

#[tokio::test]
async fn sizes_have_what_a_whole_day_has_added() {
    let (database, hook) = database().await;
    let now = database.store.sizes().await.unwrap();
    assert_eq!(now.per_day(), None, "today has not ended: {now:?}");
    let batch = route(&database, "1").await;
    let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
    ended(&database, due, State::Delivered).await;
    age_ledger(&database, 2).await;
    let sizes = database.store.sizes().await.unwrap();
    assert_eq!(sizes.kinds.len(), 5);
    assert!(sizes.kinds.iter().all(|kind| kind.bytes > 0), "{sizes:?}");
    let per_day = u64::try_from(sizes.per_day().unwrap()).unwrap();
    assert!(per_day > 0, "{sizes:?}");
    // The oldest day has been there for two days or three, so that it goes after 88 more at most.
    let free = |days| u64::try_from(sizes.bytes()).unwrap() + per_day * days + per_day / 2;
    let full = sizes.full_on(KEEP, free(10)).unwrap() - sizes.at;
    assert_eq!(full.num_days(), 10);
    assert_eq!(sizes.full_on(KEEP, free(100)), None);
    let forever = Keep { facts: None, payloads: None, audit: None, recognition: None };
    assert_eq!((sizes.full_on(forever, free(100)).unwrap() - sizes.at).num_days(), 100);
}

#[tokio::test]
async fn routers_that_drop_at_the_same_time_drop_each_day_once() {
    let (database, hook) = database().await;
    for id in 0..3 {
        let batch = route(&database, &id.to_string()).await;
        let due = AttemptRef { batch, webhook: hook.id, sequence: 1, received_at: None };
        ended(&database, due, State::Delivered).await;
        age_ledger(&database, 40).await;
    }
    let another = database.another(PlanMode::Generic, 2);
    let drops = async |store: &fanfare_store::Store| {
        let mut dropped = 0;
        for _ in 0..20 {
            if let Step::Dropped { kept, .. } = store.retention_step(KEEP).await.unwrap() {
                assert_eq!(kept, 0);
                dropped += 1;
            }
        }
        dropped
    };
    let (first, second) = tokio::join!(drops(&database.store), drops(&another));
    // The day of 120 days ago, and the week of its keys.
    assert_eq!(first + second + retain(&database, KEEP).await, 2, "{first} {second}");
    assert_eq!(events(&database).await.len(), 2);
}
