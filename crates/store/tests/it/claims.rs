//! Of several who hold one job, one makes the attempt.

use std::time::Duration;

use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::Due;
use fanfare_store::attempts::Claim;
use uuid::Uuid;

use crate::support::Database;

const LEASE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn two_copies_of_a_job_in_one_hand_are_one_attempt() {
    let database = Database::new().await;
    let webhook = WebhookId(Uuid::from_u128(2));
    let due = |batch| Due { batch: BatchKey(Uuid::from_u128(batch)), webhook, entry: 1 };
    let claims = database.store.attempts_claim(&[due(1), due(2), due(1)], LEASE).await.unwrap();
    assert_eq!(claims, [Claim::Ours, Claim::Ours, Claim::Taken]);
    let later = database.store.attempts_claim(&[due(1)], LEASE).await.unwrap();
    assert_eq!(later, [Claim::Taken]);
}

#[tokio::test]
async fn a_deferred_delivery_is_claimed_by_whoever_comes_next() {
    let database = Database::new().await;
    let webhook = WebhookId(Uuid::from_u128(2));
    let due = Due { batch: BatchKey(Uuid::from_u128(1)), webhook, entry: 1 };
    database.store.claims_defer(&[(due, LEASE)]).await.unwrap();
    assert_eq!(database.store.attempts_claim(&[due], LEASE).await.unwrap(), [Claim::Ours]);
}
