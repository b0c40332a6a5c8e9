//! The directory: events wait for gaps, history is trimmed by age alone, and an imported snapshot
//! has no effect before its last part.

use std::time::Duration;

use fanfare_core::audit::Author;
use fanfare_core::directory::{Content, Document, Kind};
use fanfare_core::name::Name;
use fanfare_store::directory::{ImportMode, Part, UserStatus};
use fanfare_store::routing::Routed;
use serde_json::{Value, json};

use crate::access::{arrival, parse, webhook};
use crate::support::{Database, document, reads};

const LONG: Duration = Duration::from_hours(1);

fn user(revision: i64, name: &str) -> Document {
    let data = json!({ "name": name, "permissions": [reads("task", "t1")] });
    document(Kind::User, revision, &data)
}

fn event(id: &str, revision: Option<i64>) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/tests", "type": "tasks.execute",
        "subject": "tasks/t1", "accessrevision": revision, "data": {}
    })
}

async fn route(database: &Database, id: &str, revision: Option<i64>, wait: Duration) -> Routed {
    let event = parse(&event(id, revision));
    database.store.route(&[arrival(&event)], Some(wait)).await.unwrap().remove(0)
}

#[tokio::test]
async fn event_waits_for_a_missing_document_until_the_gap_is_old() {
    let database = Database::new().await;
    database.store.directory_apply(&[user(1, "a"), user(2, "b"), user(5, "c")]).await.unwrap();
    let gaps = database.store.directory_state().await.unwrap().revisions.gaps;
    assert_eq!(gaps.iter().map(|gap| (gap.first, gap.last)).collect::<Vec<_>>(), [(3, 4)]);
    assert_eq!(route(&database, "1", Some(5), LONG).await, Routed::Held);
    assert_eq!(route(&database, "1", Some(6), Duration::ZERO).await, Routed::Held);
    assert_ne!(route(&database, "2", Some(2), LONG).await, Routed::Held);
    assert_ne!(route(&database, "3", None, LONG).await, Routed::Held);
    assert_ne!(route(&database, "4", Some(5), Duration::ZERO).await, Routed::Held);
    database.store.directory_apply(&[user(4, "d")]).await.unwrap();
    assert_eq!(route(&database, "5", Some(5), LONG).await, Routed::Held);
    database.store.directory_apply(&[user(3, "e")]).await.unwrap();
    assert_ne!(route(&database, "5", Some(5), LONG).await, Routed::Held);
}

#[tokio::test]
async fn snapshot_closes_the_gaps_below_it() {
    let database = Database::new().await;
    database.store.directory_apply(&[user(7, "a")]).await.unwrap();
    assert_eq!(route(&database, "1", Some(7), LONG).await, Routed::Held);
    let snapshot = document(Kind::Snapshot, 8, &json!({ "users": [], "roles": [] }));
    database.store.directory_apply(&[snapshot]).await.unwrap();
    assert_ne!(route(&database, "1", Some(7), LONG).await, Routed::Held);
    assert_eq!(database.store.directory_state().await.unwrap().revisions.gaps, []);
}

#[tokio::test]
async fn history_is_trimmed_although_events_are_unsettled() {
    let database = Database::new().await;
    let hook = webhook("anna", &[], false);
    database.store.webhook_add(&hook).await.unwrap();
    for revision in 1..=6 {
        database.store.directory_apply(&[user(revision, "Anna")]).await.unwrap();
        let routed = route(&database, &revision.to_string(), Some(revision), LONG).await;
        assert!(matches!(routed, Routed::Accepted { webhooks, .. } if webhooks == [hook.id]));
    }
    assert_eq!(database.store.directory_trim(LONG, 100).await.unwrap(), 0);
    assert_eq!(database.store.directory_trim(Duration::ZERO, 2).await.unwrap(), 2);
    assert_eq!(database.store.directory_trim(Duration::ZERO, 100).await.unwrap(), 3);
    assert_eq!(database.store.directory_trim(Duration::ZERO, 100).await.unwrap(), 0);
    assert_eq!(database.store.directory_state().await.unwrap().oldest, 6);
    assert_eq!(route(&database, "old", Some(5), LONG).await, Routed::Forgotten);
    assert!(matches!(route(&database, "kept", Some(6), LONG).await, Routed::Accepted { .. }));
    // A late document is put into the history nevertheless.
    let late = document(Kind::User, 2, &json!({ "name": "anna", "enabled": false }));
    database.store.directory_apply(&[late]).await.unwrap();
    let routed = route(&database, "now", None, LONG).await;
    assert!(matches!(routed, Routed::Accepted { webhooks, .. } if webhooks == [hook.id]));
}

#[tokio::test]
async fn import_has_no_effect_before_it_is_finished_and_none_when_cancelled() {
    let database = Database::new().await;
    database.store.directory_apply(&[user(1, "anna"), user(2, "gone")]).await.unwrap();
    let anna = Name::parse("anna").unwrap();
    let status =
        async |name: &Name| database.store.user_status(&[name.key()]).await.unwrap()[name.key()];
    let disabled = |name: &str| {
        let data = json!({ "name": name, "enabled": false });
        let Content::User(user) = document(Kind::User, 1, &data).content else {
            panic!("a user is a user");
        };
        Part { users: vec![user], roles: Vec::new() }
    };
    let mut died =
        database.store.directory_import(Some(3), ImportMode::Continue).await.unwrap().unwrap();
    died.put(&disabled("anna")).await.unwrap();
    died.put(&disabled("nobody")).await.unwrap();
    assert!(
        database.store.directory_import(Some(3), ImportMode::Continue).await.is_err(),
        "one at a time"
    );
    died.cancel().await.unwrap();
    // Documents from the broker reach its revision and pass it.
    database.store.directory_apply(&[user(3, "ben"), user(4, "carl")]).await.unwrap();
    assert_eq!(status(&anna).await, UserStatus::Enabled);

    let mut import =
        database.store.directory_import(None, ImportMode::Continue).await.unwrap().unwrap();
    import.put(&disabled("ANNA")).await.unwrap();
    assert_eq!(status(&anna).await, UserStatus::Enabled);
    let applied = import.finish(&Author::system()).await.unwrap();
    assert_eq!((applied.versions, applied.revision), (1, 5));
    assert_eq!(status(&anna).await, UserStatus::Disabled);
    for gone in ["gone", "nobody"] {
        assert_eq!(status(&Name::parse(gone).unwrap()).await, UserStatus::Deleted);
    }
    assert!(
        database.store.directory_import(Some(5), ImportMode::Continue).await.unwrap().is_none(),
        "it is known"
    );
}

#[tokio::test]
async fn document_replaces_an_imported_snapshot_of_its_revision() {
    let database = Database::new().await;
    database.store.directory_apply(&[user(1, "anna"), user(2, "ben")]).await.unwrap();
    let mut import =
        database.store.directory_import(None, ImportMode::Continue).await.unwrap().unwrap();
    for document in [user(1, "anna"), user(1, "ben")] {
        let Content::User(user) = document.content else { panic!("a user is a user") };
        import.put(&Part { users: vec![user], roles: Vec::new() }).await.unwrap();
    }
    assert_eq!(import.finish(&Author::system()).await.unwrap().revision, 3);
    // The report server's own next change.
    let disabled = document(Kind::User, 3, &json!({ "name": "anna", "enabled": false }));
    for _ in 0..2 {
        database.store.directory_apply(std::slice::from_ref(&disabled)).await.unwrap();
        let status = database.store.user_status(&["anna", "ben"]).await.unwrap();
        assert_eq!(status["anna"], UserStatus::Disabled);
        assert_eq!(status["ben"], UserStatus::Enabled);
    }
}

#[tokio::test]
async fn snapshot_of_the_newest_revision_counts_as_late() {
    let database = Database::new().await;
    let late = async || {
        let row = database.client.query_one("select late_at is not null from directory_state", &[]);
        row.await.unwrap().try_get::<_, bool>(0).unwrap()
    };
    database.store.directory_apply(&[user(1, "anna"), user(2, "ben")]).await.unwrap();
    database.store.directory_apply(&[user(2, "ben")]).await.unwrap();
    assert!(!late().await);
    let empty = document(Kind::Snapshot, 2, &json!({ "users": [], "roles": [] }));
    database.store.directory_apply(&[empty]).await.unwrap();
    assert!(late().await);
}
