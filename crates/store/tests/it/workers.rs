//! Workers: which of them count as dead, and when no first attempt can be under way any more.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use fanfare_store::PlanMode;
use fanfare_store::holder::WorkerId;
use fanfare_store::holder::{GRACE, LOCK_CLASS};
use fanfare_store::workers::SETTLE_TIME;
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;
use tokio_postgres::NoTls;

use crate::support::Database;

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

/// How long a worker's lock must be free, after a look, until the worker counts as dead; `None` if its
/// lock is taken.
async fn grace(database: &Database, settled: bool) -> Option<Duration> {
    const FORGET: &str = "update workers set dead_from = null, found_on = null";
    const LEFT: &str = "select extract(epoch from dead_from - now())::float8 from workers";
    database.client.execute(FORGET, &[]).await.unwrap();
    database.store.workers_look(settled).await.unwrap();
    let left: Option<f64> = database.client.query_one(LEFT, &[]).await.unwrap().try_get(0).unwrap();
    left.map(|left| Duration::from_secs_f64(left.ceil()))
}

async fn execute(database: &Database, sql: &str) {
    database.client.execute(sql, &[]).await.unwrap();
}

#[tokio::test]
async fn worker_without_its_lock_is_dead_sooner_when_no_outage_can_have_taken_it() {
    let database = Database::new().await;
    execute(
        &database,
        "insert into workers (worker, settles_within, seen_at, holder, server)
         values (gen_random_uuid(), 1, now(), 7, server_run())",
    )
    .await;
    // It reported a moment ago, so there was no outage since.
    assert_eq!(grace(&database, false).await, Some(GRACE));
    execute(&database, "update workers set seen_at = now() - interval '1 minute'").await;
    assert_eq!(grace(&database, false).await, Some(SETTLE_TIME));
    // The process that looks has had none.
    assert_eq!(grace(&database, true).await, Some(GRACE));
    // The server has been restarted since the worker locked.
    execute(&database, "update workers set server = 'before'").await;
    assert_eq!(grace(&database, true).await, Some(SETTLE_TIME));
    let holder = database.connect().await;
    holder.query_one("select pg_advisory_lock($1, 7)", &[&LOCK_CLASS]).await.unwrap();
    assert_eq!(grace(&database, true).await, None);
}

#[tokio::test]
async fn first_attempts_are_over_when_each_worker_is_dead_or_has_reported() {
    let database = Database::new().await;
    let store = &database.store;
    let (now, later) = (Utc::now(), Utc::now() + TimeDelta::hours(1));
    assert!(store.first_attempts_are_over(now).await.unwrap(), "there is no worker");
    let (one, other) = (WorkerId::random(), WorkerId::random());
    for worker in [one, other] {
        store.worker_report(worker, SOON, now - TimeDelta::seconds(1)).await.unwrap();
    }
    assert!(!store.first_attempts_are_over(now).await.unwrap(), "both may have some open");
    store.worker_report(one, SOON, now).await.unwrap();
    assert!(!store.first_attempts_are_over(now).await.unwrap(), "one may have some open");
    store.worker_report(other, SOON, later).await.unwrap();
    assert!(store.first_attempts_are_over(now).await.unwrap());
    assert!(!store.first_attempts_are_over(later).await.unwrap(), "a report was believed early");
    // Dead since a moment, and dead before that.
    execute(&database, "update workers set holder = 7, server = server_run()").await;
    store.workers_look(true).await.unwrap();
    assert!(!store.first_attempts_are_over(later).await.unwrap(), "there was no grace");
    execute(&database, "update workers set dead_from = now()").await;
    assert!(store.first_attempts_are_over(later).await.unwrap());
    // Its lock is taken after all.
    let holder = database.connect().await;
    holder.query_one("select pg_advisory_lock($1, 7)", &[&LOCK_CLASS]).await.unwrap();
    assert!(!store.first_attempts_are_over(later).await.unwrap());
    drop(holder);
    // What was noted before the sessions of the server were ended says nothing.
    execute(&database, "update workers set found_on = 'before'").await;
    assert!(!store.first_attempts_are_over(later).await.unwrap());
    // Without a lock, a worker is left out of account after a while.
    execute(&database, "update workers set holder = null").await;
    assert!(!store.first_attempts_are_over(later).await.unwrap());
    execute(&database, "update workers set seen_at = now() - interval '2 minutes'").await;
    assert!(store.first_attempts_are_over(later).await.unwrap());
}

#[tokio::test]
async fn dead_workers_are_removed_when_their_leases_are_over() {
    let database = Database::new().await;
    execute(
        &database,
        "insert into workers (worker, settles_within, seen_at, holder, server, dead_from, found_on)
         select gen_random_uuid(), 30, now() - age, 7, server_run(), now() - age, server_run()
         from unnest(array['2 minutes', '1 minute', '3 minutes']::interval[]) as of(age)",
    )
    .await;
    execute(
        &database,
        "insert into workers (worker, settles_within, seen_at, holder, server)
         values (gen_random_uuid(), 30, now() - interval '3 minutes', 8, server_run())",
    )
    .await;
    let now = Utc::now();
    database.store.worker_report(WorkerId::random(), SOON, now).await.unwrap();
    let left = "select array_agg(holder order by holder) from workers";
    let left: Vec<Option<i32>> =
        database.client.query_one(left, &[]).await.unwrap().try_get(0).unwrap();
    assert_eq!(
        left,
        [Some(7), Some(8), None],
        "a dead one, a silent one, and the one that reports"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_of_the_server_ends_with_a_crash_of_one_of_its_processes() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    let store = crate::support::store(&servers.database_url("fanfare"), PlanMode::Generic, 2);
    store.migrate().await.unwrap();
    let run = || servers.sql("fanfare", "select server_run()");
    let before = run().unwrap();
    assert_eq!(run().unwrap(), before);
    let url = servers.database_url("fanfare");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let pid: i32 =
        client.query_one("select pg_backend_pid()", &[]).await.unwrap().try_get(0).unwrap();
    let kill = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(kill.unwrap().success());
    assert!(connection.await.unwrap().is_err());
    eventually("the server works again, in another run", SOON, async || match run() {
        Ok(now) if now != before => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
