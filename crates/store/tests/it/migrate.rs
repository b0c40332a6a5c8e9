//! Migrations beside other transactions.

use std::time::Duration;

use fanfare_store::PlanMode;
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::wait::eventually;

use crate::support::{connect, store};

const SOON: Duration = Duration::from_mins(1);

#[tokio::test]
async fn migration_gives_way_while_another_transaction_holds_a_table() {
    let sandbox = Sandbox::new().await;
    let url = &sandbox.database_url;
    let (mut other, watcher) = (connect(url).await, connect(url).await);
    // A migration notes itself in this table, so that it waits for the lock at its end.
    let history = "create table refinery_schema_history
                   (version int4 primary key, name varchar(255), applied_on varchar(255),
                    checksum varchar(255))";
    other.batch_execute(history).await.unwrap();
    let held = other.transaction().await.unwrap();
    held.batch_execute("lock table refinery_schema_history in share mode").await.unwrap();
    let store = store(url, PlanMode::Custom, 2);
    let waits = "select count(*) from pg_stat_activity
                 where wait_event_type = 'Lock' and datname = current_database()";
    let waiting = async || {
        let count: i64 = watcher.query_one(waits, &[]).await.unwrap().try_get(0).unwrap();
        count > 0
    };
    let (migrated, ()) = tokio::join!(store.migrate(), async {
        eventually("the migration waits", SOON, async || waiting().await.then_some(())).await;
        eventually("the migration gives way", SOON, async || (!waiting().await).then_some(()))
            .await;
        held.rollback().await.unwrap();
    });
    assert_eq!(migrated.unwrap().applied.first().map(String::as_str), Some("V1__first_release"));
}
