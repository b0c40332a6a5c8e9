//! Statistics are counted once, hour by hour, and agree with the ledger at each moment.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare_core::ids::WebhookId;
use fanfare_core::job::AttemptRef;
use fanfare_core::name::Name;
use fanfare_core::outcome::State;
use fanfare_store::health::Counted;
use fanfare_store::statistics::StatisticsFilter;

use crate::reconcile::{database, entry, route};
use crate::support::Database;

const MONTH: u32 = 744;

/// Stores an attempt that began some minutes ago, whose event was routed then.
async fn attempted(database: &Database, webhook: WebhookId, minutes: i32, outcome: &str) {
    let batch = route(database, &format!("{outcome} {minutes}")).await;
    let due = AttemptRef { batch, webhook, sequence: 1, received_at: None };
    database.store.attempts_record(&[entry(due, State::Delivered, None)]).await.unwrap();
    let ago = "now() - $2 * interval '1 minute'";
    let sql = format!(
        "with moved as (delete from attempts where batch = $1 returning *)
         insert into attempts (batch, webhook, entry, attempt, tries, since, state, at, outcome, status,
                               revision, received_at)
         select batch, webhook, entry, attempt, tries, {ago}, state, {ago}, $3, 200, revision, {ago}
         from moved"
    );
    let minutes = f64::from(minutes);
    database.client.execute(&sql, &[&batch.0, &minutes, &outcome]).await.unwrap();
}

/// The numbers of attempts by outcome, and the number of hours that have some.
async fn outcomes(
    database: &Database,
    webhook: Option<WebhookId>,
    owner: Option<&str>,
) -> (BTreeMap<String, i64>, usize) {
    let filter = StatisticsFilter {
        webhook,
        owner: owner.and_then(Name::parse),
        hours: MONTH,
        longest_chain: Duration::from_hours(72),
    };
    let hours = database.store.statistics(&filter).await.unwrap().hours;
    let mut sums = BTreeMap::new();
    for (outcome, count) in hours.iter().flat_map(|hour| &hour.outcomes) {
        *sums.entry(outcome.clone()).or_default() += count;
    }
    (sums, hours.iter().filter(|hour| !hour.outcomes.is_empty()).count())
}

async fn count_all(database: &Database) -> usize {
    let mut steps = 1;
    while database.store.statistics_count(Duration::from_secs(30)).await.unwrap() == Counted::More {
        steps += 1;
    }
    steps
}

#[tokio::test]
async fn statistics_are_the_same_before_while_and_after_attempts_are_counted() {
    let (database, hook) = database().await;
    let minutes = [0, 1, 59, 61, 200, 60 * 24 * 3, 60 * 24 * 20];
    for minutes in minutes {
        attempted(&database, hook.id, minutes, "delivered").await;
    }
    attempted(&database, hook.id, 130, "timeout").await;
    attempted(&database, hook.id, 60 * 24 * 40, "timeout").await;
    // As an upgrade leaves it: what is older than an hour is not counted.
    let upgraded = "update attempt_hours_state
                    set counted_from = now() - interval '1 hour', counted_to = now() - interval '1 hour'";
    database.client.batch_execute(upgraded).await.unwrap();
    let owner = hook.owner.as_str();
    let wanted = BTreeMap::from([("delivered".to_owned(), 7), ("timeout".to_owned(), 1)]);
    let same = async || {
        let (all, hours) = outcomes(&database, None, None).await;
        assert_eq!(all, wanted);
        assert_eq!(outcomes(&database, Some(hook.id), None).await, (all.clone(), hours));
        assert_eq!(outcomes(&database, None, Some(owner)).await, (all, hours));
        let other = outcomes(&database, None, Some("somebody else")).await;
        assert_eq!(other, (BTreeMap::new(), 0));
        hours
    };
    let hours = same().await;
    for _ in 0..5 {
        let step = database.store.statistics_count(Duration::from_secs(30)).await.unwrap();
        assert_eq!(step, Counted::More);
        assert_eq!(same().await, hours);
    }
    count_all(&database).await;
    assert_eq!(same().await, hours);
    // The newest attempt is not counted yet, and the ledger is not needed for the others.
    let forget = "delete from attempts where at < now() - interval '30 seconds'";
    assert_eq!(database.client.execute(forget, &[]).await.unwrap(), 8);
    assert_eq!(same().await, hours);
    assert_eq!(count_all(&database).await, 1);
    assert_eq!(same().await, hours);
}

#[tokio::test]
async fn of_two_processes_one_counts_and_hours_of_more_than_a_month_are_removed() {
    let (database, hook) = database().await;
    attempted(&database, hook.id, 5, "delivered").await;
    let old = "insert into attempt_hours (webhook, hour, outcome, attempts)
               select gen_random_uuid(), now() - n * interval '1 day', 'timeout', 1
               from generate_series(25, 50) n";
    database.client.batch_execute(old).await.unwrap();
    let mut other = database.connect().await;
    let transaction = other.transaction().await.unwrap();
    transaction.execute("select from attempt_hours_state for update", &[]).await.unwrap();
    let step = database.store.statistics_count(Duration::ZERO).await.unwrap();
    assert_eq!(step, Counted::All);
    transaction.rollback().await.unwrap();
    count_all(&database).await;
    let sql = "select count(*) from attempt_hours where hour < now() - interval '32 days'";
    let left: i64 = database.client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    let (all, _) = outcomes(&database, Some(hook.id), None).await;
    assert_eq!(all, BTreeMap::from([("delivered".to_owned(), 1)]));
}
