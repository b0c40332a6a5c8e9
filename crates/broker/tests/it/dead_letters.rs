//! Listing and removing dead letters.

use crate::support::{next, open, publish, text, wait_for_depth};
use fanfare_broker::dead_letters::{DeadLetter, Verdict, Walked, reject, walk};
use fanfare_broker::{BrokerError, Queue, Session};

const DEAD: Queue = Queue::EventsDead;

async fn bury(session: &Session, bodies: &[&str]) {
    for body in bodies {
        let letter = reject(&text(body), "reports.upload", "bad-data", body, at());
        session.publisher().publish(&DEAD.into(), letter).await.unwrap();
    }
}

fn at() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(1_795_000_000, 0).unwrap()
}

async fn all(session: &Session) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    walk(session, DEAD, async |letter: &DeadLetter| {
        letters.push(letter.clone());
        Ok::<_, BrokerError>(Verdict::Keep)
    })
    .await
    .unwrap();
    letters
}

#[tokio::test]
async fn repeated_listings_show_the_same_and_lose_no_letter() {
    let (_sandbox, session) = open().await;
    bury(&session, &["1", "2", "3"]).await;
    // A letter without Fanfare's id must have a stable name, too.
    publish(&session, DEAD, &["stray"]).await;
    let first = all(&session).await;
    assert_eq!(first.len(), 4);
    for look in 1..30 {
        assert_eq!(all(&session).await, first, "look {look}");
    }
}

#[tokio::test]
async fn scan_removes_selected_letters_and_keeps_the_others() {
    let (_sandbox, session) = open().await;
    bury(&session, &["1", "2", "3", "4"]).await;
    let walked = walk(&session, DEAD, async |letter: &DeadLetter| {
        let is_even = matches!(&letter.message.body[..], b"2" | b"4");
        if is_even {
            let original = (Queue::Events.into(), letter.original());
            session.publisher().publish_all(vec![original]).await.map_err(BrokerError::from)?;
        }
        Ok::<_, BrokerError>(if is_even { Verdict::Take } else { Verdict::Keep })
    })
    .await
    .unwrap();
    assert_eq!(walked, Walked { seen: 4, taken: 2 });
    let left: Vec<_> = all(&session).await.into_iter().map(|letter| letter.detail).collect();
    assert_eq!(left, ["1", "3"]);
    // The returned letters are unchanged.
    let replayed = next(&mut session.consumer(Queue::Events, 1).await.unwrap()).await;
    assert_eq!(replayed.message, text("2"));
}

#[tokio::test]
async fn letters_keep_their_order_through_many_windows() {
    let (_sandbox, session) = open().await;
    let bodies: Vec<String> = (0..1_200).map(|number| number.to_string()).collect();
    publish(&session, DEAD, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for look in 0..4 {
        let found: Vec<_> = all(&session).await.into_iter().map(|it| it.message.body).collect();
        assert_eq!(found, bodies, "look {look}");
    }
}

/// Together the large letters exceed the memory for large bodies.
#[tokio::test]
async fn walk_over_large_letters_reaches_every_letter_once_and_in_order() {
    let (_sandbox, session) = open().await;
    let large = "x".repeat(2 * 1024 * 1024);
    let body =
        |number: u32| if number < 20 { format!("{number} {large}") } else { number.to_string() };
    for number in 0..120 {
        let letter = reject(&text(&body(number)), "", "bad-data", &number.to_string(), at());
        session.publisher().publish(&DEAD.into(), letter).await.unwrap();
    }
    let expected: Vec<_> = (0..120).map(|number| number.to_string()).collect();
    for look in 0..2 {
        let seen: Vec<_> = all(&session).await.into_iter().map(|letter| letter.detail).collect();
        assert_eq!(seen, expected, "look {look}");
    }
}

#[tokio::test]
async fn stopped_or_failed_scan_keeps_the_remaining_letters() {
    let (_sandbox, session) = open().await;
    bury(&session, &["1", "2", "3"]).await;
    let stopped = walk(&session, DEAD, async |_: &DeadLetter| Ok::<_, BrokerError>(Verdict::Stop));
    assert_eq!(stopped.await.unwrap(), Walked { seen: 1, taken: 0 });
    wait_for_depth(&session, DEAD, 3).await;

    let mut visited = 0;
    let failed = walk(&session, DEAD, async |_: &DeadLetter| {
        visited += 1;
        if visited == 1 {
            return Ok(Verdict::Take);
        }
        Err(BrokerError::ConsumerGone { queue: "made up" })
    });
    assert!(failed.await.is_err());
    wait_for_depth(&session, DEAD, 2).await;
}

#[tokio::test]
async fn letter_has_all_its_properties() {
    let (_sandbox, session) = open().await;
    bury(&session, &["1"]).await;
    let letters = all(&session).await;
    let letter = &letters[0];
    assert_eq!(letter.reason, "bad-data");
    assert_eq!(letter.routing_key, "reports.upload");
    assert_eq!(letter.dead_at.as_deref(), Some("2026-11-18T11:06:40.000Z"));
    assert_eq!(letter.id.len(), 32);
    assert_eq!(letter.message.content_type.as_deref(), Some("text/plain"));
}

#[tokio::test]
async fn letter_moved_by_the_delivery_limit_has_that_reason() {
    let (_sandbox, session) = open().await;
    publish(&session, Queue::DELIVERIES, &["kills its worker"]).await;
    let mut consumer = session.consumer(Queue::DELIVERIES, 1).await.unwrap();
    // The limit is 1000 returns; the one after it moves the message.
    for _ in 0..=1000 {
        next(&mut consumer).await.settle.requeue().await.unwrap();
    }
    wait_for_depth(&session, Queue::DeliveriesDead, 1).await;
    let mut letters = Vec::new();
    walk(&session, Queue::DeliveriesDead, async |letter: &DeadLetter| {
        letters.push(letter.clone());
        Ok::<_, BrokerError>(Verdict::Keep)
    })
    .await
    .unwrap();
    assert_eq!(letters[0].reason, "delivery-limit");
    assert_eq!(letters[0].message.body, "kills its worker");
    assert!(letters[0].detail.contains("fanfare.deliveries"), "{}", letters[0].detail);
}
