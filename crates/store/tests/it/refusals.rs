//! Documents that are refused, and revisions that are not credible.

use std::time::Duration;

use fanfare_core::audit::Author;
use fanfare_core::directory::{Content, Document, Kind};
use fanfare_core::revisions::{Hold, MAX_JUMP};
use fanfare_store::StoreError;
use fanfare_store::directory::ImportMode;
use fanfare_store::routing::Routed;
use serde_json::json;

use crate::access::{arrival, parse};
use crate::support::{Database, document, document_or_refused};

fn user(revision: i64, name: &str) -> Document {
    document(Kind::User, revision, &json!({ "name": name }))
}

fn snapshot(revision: i64) -> Document {
    document(Kind::Snapshot, revision, &json!({ "users": [{ "name": "anna" }], "roles": [] }))
}

fn refused(revision: i64) -> Document {
    let content = Content::RefusedSnapshot { why: "it is cut off".to_owned() };
    Document { revision, content }
}

async fn take(database: &Database, document: Document) -> Option<Hold> {
    database.store.directory_apply(&[document]).await.unwrap();
    database.store.directory_state().await.unwrap().hold
}

async fn is_held(database: &Database, id: &str) -> bool {
    let event = json!({
        "specversion": "1.0", "id": id, "source": "/tests", "type": "tasks.execute",
        "subject": "tasks/t1", "data": {}
    });
    let event = parse(&event);
    let routed = database.store.route(&[arrival(&event)], Some(Duration::ZERO)).await.unwrap();
    routed[0] == Routed::Held
}

#[tokio::test]
async fn refused_snapshot_holds_every_event_until_one_replaces_it() {
    let database = Database::new().await;
    assert!(is_held(&database, "0").await, "nothing was taken yet");
    assert_eq!(take(&database, user(2, "anna")).await, Some(Hold::Incomplete));
    assert!(is_held(&database, "0").await);
    assert_eq!(take(&database, snapshot(3)).await, None);
    assert_eq!(take(&database, refused(3)).await, None, "a good one of that revision was taken");
    assert_eq!(take(&database, refused(5)).await, Some(Hold::SnapshotRefused));
    assert_eq!(take(&database, user(6, "ben")).await, Some(Hold::SnapshotRefused));
    assert_eq!(take(&database, snapshot(4)).await, Some(Hold::SnapshotRefused));
    assert!(is_held(&database, "0").await);
    // The corrected one comes with the same revision, and the refused one may come a second time.
    assert_eq!(take(&database, snapshot(5)).await, None);
    assert_eq!(take(&database, refused(5)).await, None);
    assert!(!is_held(&database, "0").await);
}

#[tokio::test]
async fn refused_snapshot_once_accepted_holds_events_never_again() {
    let database = Database::new().await;
    take(&database, snapshot(1)).await;
    take(&database, refused(4)).await;
    let accepted = database.store.directory_accept_refused(&Author::system()).await.unwrap();
    assert_eq!(accepted.iter().map(|it| it.revision).collect::<Vec<_>>(), [4]);
    assert_eq!(accepted[0].why, "it is cut off");
    assert_eq!(take(&database, refused(4)).await, None, "it comes a second time");
    assert_eq!(take(&database, refused(5)).await, Some(Hold::SnapshotRefused));
    // A revision that can't be read or is not credible counts as the one after the newest.
    database.store.directory_accept_refused(&Author::system()).await.unwrap();
    for unknown in [0, i64::MAX] {
        take(&database, user(9, "anna")).await;
        assert_eq!(take(&database, refused(unknown)).await, Some(Hold::SnapshotRefused));
        let state = database.store.directory_state().await.unwrap();
        assert_eq!(state.refusals.iter().map(|it| it.revision).collect::<Vec<_>>(), [10]);
    }
    database.store.directory_accept_refused(&Author::system()).await.unwrap();
    assert_eq!(take(&database, refused(0)).await, Some(Hold::SnapshotRefused), "another one");
    // It comes by both queues, with a document between them.
    take(&database, user(10, "anna")).await;
    take(&database, refused(0)).await;
    assert_eq!(take(&database, snapshot(11)).await, None, "one hold is enough");
}

#[tokio::test]
async fn void_user_is_listed_until_a_valid_document_replaces_it() {
    let database = Database::new().await;
    take(&database, snapshot(1)).await;
    let void = |revision, name| {
        let data = json!({ "name": name, "permissions": "all" });
        document_or_refused(Kind::User, revision, &data)
    };
    let names = async || {
        let voids = database.store.directory_state().await.unwrap().voids;
        voids.into_iter().map(|void| (void.name, void.revision)).collect::<Vec<_>>()
    };
    take(&database, void(2, "anna")).await;
    take(&database, void(3, "ben")).await;
    assert_eq!(names().await, [("anna".to_owned(), 2), ("ben".to_owned(), 3)]);
    take(&database, user(2, "anna")).await;
    take(&database, void(2, "anna")).await;
    assert_eq!(names().await, [("ben".to_owned(), 3)], "the corrected one replaces it");
    take(&database, user(4, "ben")).await;
    assert_eq!(names().await, []);
    // A snapshot of its revision replaces it, too.
    take(&database, void(5, "anna")).await;
    take(&database, snapshot(5)).await;
    assert_eq!(names().await, []);
}

#[tokio::test]
async fn revision_too_far_ahead_is_not_applied_before_it_is_accepted() {
    let database = Database::new().await;
    take(&database, snapshot(1)).await;
    let far = MAX_JUMP + 3;
    let documents = [user(far, "anna"), user(2, "ben"), snapshot(i64::MAX), user(3, "carl")];
    let applied = database.store.directory_apply(&documents).await.unwrap();
    assert_eq!((applied.revision, applied.jumps), (far, vec![2]), "in the order of revisions");
    let documents = [user(4, "ben"), user(2 * far, "anna")];
    let applied = database.store.directory_apply(&documents).await.unwrap();
    assert_eq!((applied.revision, applied.jumps), (far, vec![1]));

    let all = database.store.directory_apply_all(&documents, &Author::system()).await.unwrap_err();
    assert!(matches!(all, StoreError::RevisionJump { revision } if revision == 2 * far), "{all}");
    let import = database.store.directory_import(Some(i64::MAX), ImportMode::Continue).await;
    assert!(matches!(import, Err(StoreError::RevisionJump { .. })));

    assert_eq!(
        database.store.directory_accept_revision(2 * far, &Author::system()).await.unwrap(),
        far
    );
    let applied = database.store.directory_apply_all(&documents, &Author::system()).await.unwrap();
    assert_eq!((applied.revision, applied.jumps), (2 * far, vec![]));
}
