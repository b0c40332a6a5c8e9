//! The index of dead letters: it follows the ledger, and is fast at its size.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use fanfare_core::audit::entry::Letter as Audited;
use fanfare_core::audit::{Action, Author, Entry};
use fanfare_core::dead_letter::{Choice, DiedBy, GroupBy, Kind, Letter};
use fanfare_core::ids::{DeliveryId, WebhookId};
use fanfare_core::job::{AttemptRef, Restart};
use fanfare_core::kept::Contents;
use fanfare_core::outcome::State;
use fanfare_store::PlanMode;
use fanfare_store::kept::{self, NewKept};
use fanfare_store::letters::{Missed, Order};
use uuid::Uuid;

use crate::reconcile::{database, entry, route};
use crate::retention::discard;
use crate::support::Database;

/// The letters of 20 receivers that died within a week.
const MANY: &str = "
    insert into dead_letters (id, kind, source, batch, webhook, entry, received_at, owner, owner_key,
                              host, event_type, event_id, reason, outcome, status, attempts, cause, died_at)
    select md5(i::text) || '-12', 'deliveries', 'ledger', gen_random_uuid(),
           ('aaaaaaaa-0000-0000-0000-' || lpad((i % 50)::text, 12, '0'))::uuid, 12, now(), 'u' || i % 50,
           'U' || i % 50, 'h' || i % 20 || '.example.com', 'reports.upload', 'e' || i, 'exhausted',
           'status', 500 + i % 4, 12, 'status ' || 500 + i % 4, now() - i * interval '3 seconds'
    from generate_series(1, 200000) i";

async fn open(database: &Database) -> Vec<Letter> {
    let choice = Choice::default();
    database.store.letters_list(&choice, None, Order::OldestFirst, 100).await.unwrap()
}

async fn die(database: &Database, due: AttemptRef) {
    database.store.attempts_record(&[entry(due, State::Dead, None)]).await.unwrap();
}

fn audited(letter: &Letter) -> Entry {
    let shown = Audited {
        id: &letter.id,
        queue: letter.kind.name(),
        reason: &letter.reason,
        event: None,
        delivery: None,
        webhook: None,
    };
    Entry::dead_letter(Action::DeadLetterReplayed, &shown)
}

#[tokio::test]
async fn a_dead_delivery_is_in_the_index_until_it_is_restarted_or_discarded() {
    let (database, hook) = database().await;
    let batches = [route(&database, "one").await, route(&database, "two").await];
    let (webhook, sequence, received_at) = (hook.id, 1, None);
    let dues = batches.map(|batch| AttemptRef { batch, webhook, sequence, received_at });
    for due in dues {
        die(&database, due).await;
    }
    let letters = open(&database).await;
    let id = |due: AttemptRef| format!("{}-1", DeliveryId::of(due.batch, due.webhook));
    let mut ids: Vec<String> = letters.iter().map(|letter| letter.id.clone()).collect();
    ids.sort();
    let mut expected = dues.map(id).to_vec();
    expected.sort();
    assert_eq!(ids, expected);
    let (author, store) = (Author::system(), &database.store);
    let restarted = store.letters_restart(&letters[..1], &author, &audited).await.unwrap();
    assert!(matches!(restarted[..], [Some(Restart::Begun(_))]), "{restarted:?}");
    assert_eq!(open(&database).await, letters[1..]);
    // It is not begun again.
    let restarted = store.letters_restart(&letters[..1], &author, &audited).await.unwrap();
    assert_eq!(restarted, [Some(Restart::MovedOn)]);
    let DiedBy { batch, webhook, entry, .. } = letters[1].died_by.unwrap();
    discard(&database, AttemptRef { batch, webhook, sequence: entry, received_at: None }).await;
    assert_eq!(open(&database).await, []);
    let leaving = store.letters_leaving(Kind::Deliveries, 10).await.unwrap();
    assert_eq!(leaving.len(), 2);
    assert!(leaving.iter().all(|letter| letter.is_final));
}

#[tokio::test]
async fn what_only_a_queue_has_is_added_and_goes_when_two_walks_miss_it() {
    let (database, _) = database().await;
    let store = &database.store;
    let found = stray("stray".to_owned(), store.letters_clock().await.unwrap());
    for added in [1, 0] {
        assert_eq!(store.letters_found(std::slice::from_ref(&found)).await.unwrap(), added);
    }
    let letters = open(&database).await;
    assert_eq!(letters[0].cause.as_deref(), Some("moved here N times"));
    assert_eq!(store.letters_expected(Kind::Events).await.unwrap(), 1);
    let long_ago = "update dead_letters set noted_at = noted_at - interval '1 hour',
                                            missed_at = missed_at - interval '1 hour'";
    for left in [1, 0] {
        database.client.batch_execute(long_ago).await.unwrap();
        let missed = Missed::AllBut(&[]);
        store.letters_missed(Kind::Events, missed, Duration::ZERO).await.unwrap();
        assert_eq!(open(&database).await.len(), left);
    }
    // It is there again.
    assert_eq!(store.letters_found(&[found]).await.unwrap(), 1);
    assert_eq!(open(&database).await.len(), 1);
}

/// A letter that only the queue of dead events has.
fn stray(id: String, died_at: DateTime<Utc>) -> Letter {
    Letter {
        id,
        kind: Kind::Events,
        source: fanfare_core::dead_letter::Source::Broker,
        died_by: None,
        webhook: Some(WebhookId(Uuid::nil())),
        owner: Some("anna\0".to_owned()),
        host: None,
        event_type: None,
        event: None,
        reason: "delivery-limit".to_owned(),
        detail: "moved here 7 times".to_owned(),
        outcome: None,
        last_status: None,
        attempts: None,
        error: None,
        cause: None,
        bytes: 0,
        died_at,
    }
}

#[tokio::test]
async fn statements_with_the_same_letters_in_opposite_orders_all_succeed() {
    let (database, _) = database().await;
    let another = database.another(PlanMode::Generic, 1);
    let now = database.store.letters_clock().await.unwrap();
    let letters: Vec<Letter> = (0..2000).map(|n| stray(format!("{n:04}"), now)).collect();
    assert_eq!(database.store.letters_found(&letters).await.unwrap(), 2000);
    for round in 0..20 {
        let copies = 2 + round % 2;
        let counts: Vec<_> = letters.iter().map(|it| (it.id.clone(), copies)).collect();
        let left: Vec<_> = letters.iter().rev().map(|it| (it.id.clone(), "x".to_owned())).collect();
        let (counted, noted) =
            tokio::join!(database.store.letters_counted(&counts), another.letters_left(&left));
        counted.unwrap();
        noted.unwrap();
    }
}

#[tokio::test]
async fn pages_and_groups_of_two_hundred_thousand_letters_are_fast() {
    let (database, _) = database().await;
    database.client.batch_execute(MANY).await.unwrap();
    database.client.batch_execute("vacuum analyze dead_letters").await.unwrap();
    let (store, all) = (&database.store, Choice::default());
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let began = Instant::now();
        let page = store.letters_list(&all, None, order, 100).await.unwrap();
        println!("{order:?}: {:?}", began.elapsed());
        assert_eq!(page.len(), 100);
    }
    for by in GroupBy::ALL {
        let began = Instant::now();
        let groups = store.letters_groups(&all, by, 100).await.unwrap();
        println!("{}: {:?}", by.name(), began.elapsed());
        assert_eq!(groups.groups.iter().map(|group| group.count).sum::<i64>(), 200_000);
        assert!(groups.groups.iter().all(|it| it.chart.iter().sum::<i64>() == it.count));
        // A loaded machine is some times slower than the 200 ms that a person may wait.
        assert!(began.elapsed() < Duration::from_secs(2), "{by:?}");
    }
    let one = Choice { host: Some("H7.example.com".to_owned()), ..Choice::default() };
    assert_eq!(store.letters_count(&one).await.unwrap(), 10_000);
}

#[tokio::test]
async fn a_mended_event_is_owed_until_it_is_routed_and_its_original_keeps_its_body() {
    let (database, _) = database().await;
    let store = &database.store;
    let message = |id: u128, body: &str| NewKept {
        id: Uuid::from_u128(id),
        kind: kept::Kind::Dead,
        queue: "fanfare.events.dead",
        routing_key: "tasks.edit".to_owned(),
        properties: vec![0],
        body: body.as_bytes().to_vec(),
        reason: Some(("bad-type", "no".to_owned())),
        contents: Contents::default(),
        digest: Uuid::from_u128(id),
        may_be_kept: false,
        hold: None,
    };
    store.kept_record(&[message(1, "original")]).await.unwrap();
    let letters = open(&database).await;
    let (author, entry) = (Author::system(), audited(&letters[0]));
    let mended = message(2, "mended");
    let original = Uuid::from_u128(1);
    assert!(store.kept_mend(original, &mended, &author, &entry).await.unwrap());
    // Another person is too late.
    assert!(!store.kept_mend(original, &message(3, "x"), &author, &entry).await.unwrap());
    assert_eq!(open(&database).await, []);
    let leaving = store.letters_leaving(Kind::Events, 10).await.unwrap();
    assert_eq!(
        leaving.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(),
        [letters[0].id.as_str()]
    );
    // The process that was to publish it has ended.
    assert!(store.kept_overdue(10).await.unwrap().is_empty());
    let later = "update kept_messages set return_at = now() where return_at is not null";
    database.client.batch_execute(later).await.unwrap();
    let overdue = store.kept_overdue(10).await.unwrap();
    assert_eq!(overdue.iter().map(|it| it.body.as_slice()).collect::<Vec<_>>(), [b"mended"]);
    store.kept_settle(&[mended.id]).await.unwrap();
    // An erasure finds the original.
    let kept = store.kept_open(Uuid::nil()).await.unwrap();
    assert_eq!(kept.iter().map(|it| it.body.as_slice()).collect::<Vec<_>>(), [b"original"]);
    assert_eq!(store.kept_mended_remove(Duration::from_hours(1)).await.unwrap(), 0);
    store.kept_erase(original, None).await.unwrap();
    assert!(store.kept_open(Uuid::nil()).await.unwrap().is_empty());
    assert_eq!(open(&database).await, []);
}
