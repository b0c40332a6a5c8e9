//! Statements that nobody waits for any more, or that take too long.

use std::time::Duration;

use fanfare_store::{PlanMode, cancel_on_drop};
use fanfare_testkit::wait::eventually;
use tokio::time::timeout;

use crate::support::Database;

const SOON: Duration = Duration::from_mins(1);

impl Database {
    /// How many statements of this name are under way.
    async fn under_way(&self, name: &str) -> i64 {
        // Within a transaction the view would not change otherwise.
        self.client.batch_execute("select pg_stat_clear_snapshot()").await.unwrap();
        let sql = "select count(*) from pg_stat_activity
                   where datname = current_database() and state = 'active' and query like $1 || '%'";
        self.client.query_one(sql, &[&format!("-- {name}")]).await.unwrap().try_get(0).unwrap()
    }

    /// Keeps everybody from reading webhooks until the transaction of the client ends.
    async fn lock_webhooks(&self) {
        let lock = "begin; lock table webhooks in access exclusive mode";
        self.client.batch_execute(lock).await.unwrap();
    }
}

#[tokio::test]
async fn a_statement_ends_when_the_request_that_it_is_for_is_dropped() {
    let database = Database::new().await;
    // Without a limit of time: the statements would wait for the lock for ever.
    let store = database.another(PlanMode::Custom, 2);
    database.lock_webhooks().await;
    // More than there are connections: each takes the place of one that was abandoned.
    for _ in 0..24 {
        let asked = cancel_on_drop(store.webhooks_list(None));
        assert!(timeout(Duration::from_millis(20), asked).await.is_err());
    }
    // Somebody else is not kept waiting by them.
    timeout(SOON, store.ping()).await.unwrap().unwrap();
    eventually("no statement goes on", SOON, async || {
        let left = database.under_way("webhooks_list").await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    database.client.batch_execute("rollback").await.unwrap();
    assert!(store.webhooks_list(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_statement_that_takes_too_long_ends_for_people_and_goes_on_for_queues() {
    let database = Database::new().await;
    database.lock_webhooks().await;
    let people = database.another(PlanMode::Interactive, 1);
    let error = timeout(SOON, people.webhooks_list(None)).await.unwrap().unwrap_err();
    assert!(error.is_cancelled(), "{}", error.chain());
    let queue = database.store.webhooks_list(None);
    assert!(timeout(Duration::from_secs(12), queue).await.is_err());
}
