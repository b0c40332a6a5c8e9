//! Statements whose request was dropped, or that take too long.

use std::time::Duration;

use fanfare_store::{PlanMode, cancel_on_drop};
use fanfare_testkit::wait::eventually;
use tokio::time::timeout;

use crate::support::Database;

const SOON: Duration = Duration::from_mins(1);

impl Database {
    /// The number of statements of this name that are under way.
    async fn under_way(&self, name: &str) -> i64 {
        // Without this the view would not change within a transaction.
        self.client.batch_execute("select pg_stat_clear_snapshot()").await.unwrap();
        let sql = "select count(*) from pg_stat_activity
                   where datname = current_database() and state = 'active' and query like $1 || '%'";
        self.client.query_one(sql, &[&format!("-- {name}")]).await.unwrap().try_get(0).unwrap()
    }

    /// Locks the webhooks against readers until the client's transaction ends.
    async fn lock_webhooks(&self) {
        let lock = "begin; lock table webhooks in access exclusive mode";
        self.client.batch_execute(lock).await.unwrap();
    }
}

#[tokio::test]
async fn statement_ends_when_its_request_is_dropped() {
    let database = Database::new().await;
    // Without a time limit the statements would wait for the lock for ever.
    let store = database.another(PlanMode::Custom, 2);
    database.lock_webhooks().await;
    // There are more statements than connections: each one replaces an abandoned connection.
    for _ in 0..24 {
        let asked = cancel_on_drop(store.webhooks_list(None));
        assert!(timeout(Duration::from_millis(20), asked).await.is_err());
    }
    // They do not keep another call waiting.
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
async fn statement_time_is_limited_for_people_and_not_for_queues() {
    let database = Database::new().await;
    database.lock_webhooks().await;
    let people = database.another(PlanMode::Interactive, 1);
    let error = timeout(SOON, people.webhooks_list(None)).await.unwrap().unwrap_err();
    assert!(error.is_cancelled(), "{}", error.chain());
    let queue = database.store.webhooks_list(None);
    assert!(timeout(Duration::from_secs(12), queue).await.is_err());
}
