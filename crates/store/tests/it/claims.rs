//! Claims: of several workers with one job, one makes the attempt, and unrecorded attempts count.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::audit::Author;
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::{AttemptRef, Restart};
use fanfare_core::outcome::State;
use fanfare_core::suspect::Unrecorded;
use fanfare_store::attempts::Entry;
use fanfare_store::claims::{Claim, Lease};
use fanfare_store::deliveries::RestartScope;
use fanfare_store::holder::{GRACE, LOCK_CLASS};
use fanfare_testkit::wait::{eventually, pass};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::Database;

const OURS: Claim = Claim::Ours(Unrecorded { tries: 0, alone: 0 });

const WEBHOOK: WebhookId = WebhookId(Uuid::from_u128(2));

fn due(batch: u128, entry: i32) -> AttemptRef {
    AttemptRef {
        batch: BatchKey(Uuid::from_u128(batch)),
        webhook: WEBHOOK,
        sequence: entry,
        received_at: None,
    }
}

fn minute() -> Lease {
    Lease::new(Duration::from_mins(1), true)
}

/// A lease that expires at once.
fn expired() -> Lease {
    Lease::new(Duration::ZERO, true)
}

async fn claim(database: &Database, due: AttemptRef, lease: Lease) -> Claim {
    database.store.attempts_claim(&[due], lease).await.unwrap()[0]
}

/// Waits until expired claims can be taken over: the server must have been up for ten seconds.
async fn settled(database: &Database) {
    const SQL: &str = "select pg_postmaster_start_time() < now() - interval '11 seconds'";
    eventually("the server is old enough", Duration::from_mins(1), async || {
        let row = database.client.query_one(SQL, &[]).await.unwrap();
        row.try_get::<_, bool>(0).unwrap().then_some(())
    })
    .await;
}

fn entry(due: AttemptRef, state: State, at: DateTime<Utc>) -> Entry {
    Entry {
        due,
        attempt: due.sequence,
        tries: due.sequence,
        since: at,
        state,
        reason: None,
        detail: None,
        post: None,
        at,
        next_attempt_at: None,
        revision: 0,
    }
}

#[tokio::test]
async fn claim_of_two_copies_of_a_job_in_one_call_gives_one_attempt() {
    let database = Database::new().await;
    let (first, second) = (due(1, 1), due(2, 1));
    let claims = database.store.attempts_claim(&[first, second, first], minute()).await.unwrap();
    assert_eq!(claims, [OURS, OURS, Claim::HeldElsewhere]);
    assert_eq!(claim(&database, first, minute()).await, Claim::HeldElsewhere);
}

#[tokio::test]
async fn claim_when_repeated_with_the_same_token_is_granted_again() {
    let database = Database::new().await;
    let lease = minute();
    for _ in 0..3 {
        assert_eq!(claim(&database, due(1, 1), lease).await, OURS);
    }
    assert_eq!(claim(&database, due(1, 1), minute()).await, Claim::HeldElsewhere);
}

#[tokio::test]
async fn claim_of_a_deferred_delivery_is_granted() {
    let database = Database::new().await;
    database.store.claims_defer(&[(due(1, 1), Duration::from_mins(1))]).await.unwrap();
    assert_eq!(claim(&database, due(1, 1), minute()).await, OURS);
}

#[tokio::test]
async fn unrecorded_attempts_count_until_one_is_recorded() {
    let database = Database::new().await;
    settled(&database).await;
    let unrecorded = |tries, alone| Claim::Ours(Unrecorded { tries, alone });
    assert_eq!(claim(&database, due(1, 1), expired()).await, OURS);
    assert_eq!(claim(&database, due(1, 1), expired()).await, unrecorded(1, 0));
    // A claim that was released does not count, and can be claimed at once.
    let lease = minute();
    assert_eq!(claim(&database, due(1, 1), lease).await, unrecorded(2, 0));
    database.store.claims_release(&[due(1, 1)], lease).await.unwrap();
    // A deferral does not count either.
    database.store.claims_defer(&[(due(1, 1), Duration::from_secs(1))]).await.unwrap();
    let lease = expired();
    assert_eq!(claim(&database, due(1, 1), lease).await, unrecorded(2, 0));
    assert!(database.store.claim_alone(due(1, 1), lease).await.unwrap());
    let next = minute();
    assert_eq!(claim(&database, due(1, 1), next).await, unrecorded(3, 1));
    assert!(!database.store.claim_alone(due(1, 1), lease).await.unwrap());
    // A sweep does not remove it.
    database
        .client
        .execute("update claims set until = now() - interval '1 hour'", &[])
        .await
        .unwrap();
    assert_eq!(database.store.claims_sweep(0, 1000).await.unwrap(), 0);
    // The next sequence number begins without unrecorded attempts.
    let row = entry(due(1, 1), State::Retrying, Utc::now());
    assert!(database.store.attempts_record(&[row]).await.unwrap().is_empty());
    assert_eq!(claim(&database, due(1, 1), minute()).await, Claim::Past);
    assert_eq!(claim(&database, due(1, 2), minute()).await, OURS);
}

#[tokio::test]
async fn expired_claim_when_takeover_is_not_allowed_is_held_elsewhere() {
    let database = Database::new().await;
    settled(&database).await;
    assert_eq!(claim(&database, due(1, 1), expired()).await, OURS);
    let lease = Lease::new(Duration::from_mins(1), false);
    assert_eq!(claim(&database, due(1, 1), lease).await, Claim::HeldElsewhere);
    let taken_over = Claim::Ours(Unrecorded { tries: 1, alone: 0 });
    assert_eq!(claim(&database, due(1, 1), minute()).await, taken_over);
}

#[tokio::test]
async fn row_written_twice_by_one_call_is_no_duplicate() {
    let database = Database::new().await;
    let at = Utc::now();
    let rows = [entry(due(1, 1), State::Delivered, at), entry(due(2, 1), State::Delivered, at)];
    for _ in 0..2 {
        assert!(database.store.attempts_record(&rows).await.unwrap().is_empty());
    }
    let other = entry(due(1, 1), State::Delivered, at + Duration::from_secs(1));
    assert_eq!(database.store.attempts_record(&[other]).await.unwrap(), [0]);
}

#[tokio::test]
async fn restart_during_an_attempt_is_refused_until_that_has_ended() {
    let database = Database::new().await;
    let store = &database.store;
    let row = entry(due(1, 1), State::Retrying, Utc::now());
    store.attempts_record(&[row]).await.unwrap();
    let lease = minute();
    assert_eq!(claim(&database, due(1, 2), lease).await, OURS);
    let restart = async || {
        store
            .delivery_restart(due(1, 1).batch, WEBHOOK, RestartScope::NotPending, &Author::system())
            .await
            .unwrap()
    };
    assert_eq!(restart().await, Restart::UnderWay);
    // The attempt is recorded, and then the restart succeeds.
    let row = entry(due(1, 2), State::Dead, Utc::now());
    store.attempts_record(&[row]).await.unwrap();
    assert_eq!(restart().await, Restart::Begun(due(1, 4)));
    assert_eq!(restart().await, Restart::MovedOn);
    // The history has passed a job from before the restart; the job of the restart is claimed.
    assert_eq!(claim(&database, due(1, 3), minute()).await, Claim::Past);
    assert_eq!(claim(&database, due(1, 4), minute()).await, OURS);
    let unknown = store
        .delivery_restart(due(9, 1).batch, WEBHOOK, RestartScope::NotPending, &Author::system())
        .await
        .unwrap();
    assert_eq!(unknown, Restart::Unknown);
}

/// The claim reads that nothing is recorded, and then waits for the lock of a restart that is not
/// committed yet.
#[tokio::test]
async fn claim_that_waited_for_a_restart_is_refused() {
    // The writes of a restart, in a transaction that stays open.
    const RESTART: &str = "begin;
        update claims set entry = 3, until = now(), token = null;
        insert into attempts (batch, webhook, entry, attempt, tries, since, state, at, revision,
                              received_at)
        select batch, webhook, 2, attempt, 0, now(), 'pending', now(), revision, received_at
        from attempts";
    let database = Database::new().await;
    let row = entry(due(1, 1), State::Retrying, Utc::now());
    database.store.attempts_record(&[row]).await.unwrap();
    assert_eq!(claim(&database, due(1, 2), expired()).await, OURS);
    database.client.batch_execute(RESTART).await.unwrap();
    let observer = database.connect().await;
    let waits = async {
        const SQL: &str = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        eventually("the claim waits", Duration::from_mins(1), async || {
            let row = observer.query_one(SQL, &[]).await.unwrap();
            (row.try_get::<_, i64>(0).unwrap() > 0).then_some(())
        })
        .await;
        database.client.batch_execute("commit").await.unwrap();
    };
    let (claim, ()) = tokio::join!(claim(&database, due(1, 2), minute()), waits);
    assert_eq!(claim, Claim::HeldElsewhere);
}

/// A restart whose answer is lost leaves a job that the reconciler finds.
#[tokio::test]
async fn restart_of_a_settled_event_is_due_for_the_reconciler_within_a_minute() {
    const EVENT: &str = "
        insert into events (key, batch, position, source, event_id, event_type, subject,
                            decided_revision, notification, webhooks, look_at, received_at)
        values ($1, $1, 0, '/tests', '1', 'tasks.execute', 'tasks/t1', 0, '{}', array[$2::uuid], null,
                'epoch')";
    let database = Database::new().await;
    let row = entry(due(1, 1), State::Delivered, Utc::now());
    database.store.attempts_record(&[row]).await.unwrap();
    let key = due(1, 1).batch.0;
    database.client.execute(EVENT, &[&key, &WEBHOOK.0]).await.unwrap();
    let restart = database
        .store
        .delivery_restart(due(1, 1).batch, WEBHOOK, RestartScope::NotPending, &Author::system())
        .await
        .unwrap();
    assert_eq!(restart, Restart::Begun(due(1, 3)));
    let soon = "select look_at <= now() + interval '1 minute' from events";
    let row = database.client.query_one(soon, &[]).await.unwrap();
    assert_eq!(row.try_get::<_, Option<bool>>(0).unwrap(), Some(true));
}

/// A lease of this holder that does not expire during a test.
fn lease_of(holder: i32) -> Lease {
    Lease { holder: Some(holder), ..minute() }
}

/// Locks as a holder does, on this connection.
async fn lock(client: &Client, holder: i32) {
    const SQL: &str = "select pg_try_advisory_lock($1, $2)";
    eventually("the holder locks", Duration::from_mins(1), async || {
        let row = client.query_one(SQL, &[&LOCK_CLASS, &holder]).await.unwrap();
        row.try_get::<_, bool>(0).unwrap()
    })
    .await;
}

/// Registers a worker with this lock, which has just reported.
async fn register(database: &Database, holder: i32) {
    const SQL: &str = "insert into workers (worker, settles_within, seen_at, holder, server)
                       values (gen_random_uuid(), 1, now(), $1, server_run())";
    database.client.execute(SQL, &[&holder]).await.unwrap();
}

/// Asks for the attempt, with a lease of no holder, until the answer is this one.
async fn answered(database: &Database, due: AttemptRef, expected: Claim) {
    eventually("the claim is answered so", Duration::from_mins(1), async || {
        let claim = claim(database, due, minute()).await;
        if claim == expected { Ok(()) } else { Err(claim) }
    })
    .await;
}

#[tokio::test]
async fn lease_whose_holder_lives_is_held_and_one_whose_holder_died_is_void() {
    const TAKEN_OVER: Claim = Claim::Ours(Unrecorded { tries: 1, alone: 0 });
    let database = Database::new().await;
    let holder = database.connect().await;
    lock(&holder, 7).await;
    register(&database, 7).await;
    assert_eq!(claim(&database, due(1, 1), lease_of(7)).await, OURS);
    let began = Instant::now();
    while began.elapsed() < 2 * GRACE {
        database.store.workers_look(true).await.unwrap();
        assert_eq!(claim(&database, due(1, 1), minute()).await, Claim::HeldElsewhere);
        pass(Duration::from_millis(100)).await;
    }
    drop(holder);
    answered(&database, due(1, 1), Claim::HolderGone).await;
    let gone = Instant::now();
    database.store.workers_look(true).await.unwrap();
    answered(&database, due(1, 1), TAKEN_OVER).await;
    assert!(gone.elapsed() >= GRACE, "{:?}", gone.elapsed());
    // The new lease has no holder, so only time ends it.
    assert_eq!(claim(&database, due(1, 1), minute()).await, Claim::HeldElsewhere);
}

#[tokio::test]
async fn lease_of_a_holder_that_no_worker_has_registered_ends_only_by_time() {
    let database = Database::new().await;
    assert_eq!(claim(&database, due(1, 1), lease_of(9)).await, OURS);
    let began = Instant::now();
    while began.elapsed() < 2 * GRACE {
        database.store.workers_look(true).await.unwrap();
        assert_eq!(claim(&database, due(1, 1), minute()).await, Claim::HolderGone);
        pass(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn lease_whose_holder_locks_again_within_the_grace_is_kept() {
    let database = Database::new().await;
    register(&database, 8).await;
    assert_eq!(claim(&database, due(1, 1), lease_of(8)).await, OURS);
    for _ in 0..3 {
        // A grace begins when the lock is seen to be free, and ends when it is seen to be taken.
        database.store.workers_look(true).await.unwrap();
        pass(GRACE * 2 / 3).await;
        database.store.workers_look(true).await.unwrap();
        assert_eq!(claim(&database, due(1, 1), minute()).await, Claim::HolderGone);
        let holder = database.connect().await;
        lock(&holder, 8).await;
        database.store.workers_look(true).await.unwrap();
        assert_eq!(claim(&database, due(1, 1), minute()).await, Claim::HeldElsewhere);
        holder.query_one("select pg_advisory_unlock_all()", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn leases_of_dead_holders_that_two_ask_for_at_once_go_to_one_each() {
    let database = Database::new().await;
    register(&database, 10).await;
    let dues: Vec<AttemptRef> = (1..=50).map(|batch| due(batch, 1)).collect();
    let lease = lease_of(10);
    database.store.attempts_claim(&dues, lease).await.unwrap();
    database.store.workers_look(true).await.unwrap();
    let reversed: Vec<AttemptRef> = dues.iter().rev().copied().collect();
    let (mut taken, began) = (0, Instant::now());
    while taken < dues.len() && began.elapsed() < Duration::from_mins(1) {
        let (one, other) = (minute(), minute());
        let (one, other) = tokio::join!(
            database.store.attempts_claim(&dues, one),
            database.store.attempts_claim(&reversed, other),
        );
        let ours = |claim: &&Claim| matches!(claim, Claim::Ours(_));
        taken += one.unwrap().iter().chain(&other.unwrap()).filter(ours).count();
        pass(Duration::from_millis(50)).await;
    }
    assert_eq!(taken, dues.len());
}
