//! The number of rows that routing reads.

use fanfare_core::directory::Kind;
use fanfare_core::event::Event;
use fanfare_store::routing::{Arrival, Routed};
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};
use std::time::Duration;

use crate::access::{arrival, parse, webhook};
use crate::support::{Database, document, reads};

const MEMBERS: i64 = 2_000;
const EVENTS: i64 = 100;

/// The numbers of events written, and of versions of users and roles read, so far. Sessions report
/// both together when they are idle.
async fn written_and_read(database: &Database) -> (i64, i64) {
    const SQL: &str = "
        select (select sum(n_tup_ins)::bigint from pg_stat_user_tables
                join ledger_partitions on name = relname where parent = 'events'),
               coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
        from pg_stat_user_tables where relname = 'directory_versions'";
    let row = database.client.query_one(SQL, &[]).await.unwrap();
    (row.try_get(0).unwrap(), row.try_get(1).unwrap())
}

/// A role may have every user as a member: a read for each event of a batch would take minutes.
#[tokio::test]
async fn members_of_a_role_are_read_once_for_all_events_of_a_batch() {
    let database = Database::new().await;
    let role = json!({ "name": "Readers", "permissions": [reads("any-report", "")] });
    let user = |number| json!({ "name": format!("user{number}"), "roles": ["Readers"] });
    let users: Vec<Value> = (0..MEMBERS).map(user).collect();
    let snapshot = document(Kind::Snapshot, 1, &json!({ "users": users, "roles": [role] }));
    database.store.directory_apply(&[snapshot]).await.unwrap();
    let hook = webhook("user7", &[], false);
    database.store.webhook_add(&hook).await.unwrap();
    database.client.batch_execute("analyze").await.unwrap();
    let (_, before) = written_and_read(&database).await;

    let event = |number| {
        parse(&json!({
            "specversion": "1.0", "id": format!("{number}"), "source": "/tests",
            "type": "reports.edit", "subject": format!("categories/c1/reports/r{number}"),
            "accessrevision": 1, "data": {}
        }))
    };
    let events: Vec<Event> = (0..EVENTS).map(event).collect();
    let arrivals: Vec<Arrival<'_>> = events.iter().map(arrival).collect();
    let routed = database.store.route(&arrivals, None).await.unwrap();
    for routed in routed {
        let Routed::Accepted { webhooks, .. } = routed else { panic!("{routed:?}") };
        assert_eq!(webhooks, [hook.id]);
    }
    let read = eventually("the session reports", Duration::from_mins(2), async || {
        let (written, read) = written_and_read(&database).await;
        (written == EVENTS).then_some(read - before)
    })
    .await;
    assert!(read < 20 * MEMBERS, "{read} versions were read for {MEMBERS} members");
}
