//! A user who is deleted and published again counts as another person. The history decides that, in
//! whatever order it comes, and only once.

use chrono::{TimeDelta, Utc};
use fanfare_core::audit::Author;
use fanfare_core::directory::{Document, Kind};
use fanfare_core::webhook::Webhook;
use fanfare_store::directory::{ImportMode, Part};
use serde_json::json;

use crate::access::webhook;
use crate::support::{Database, document};

fn anna(revision: i64) -> Document {
    document(Kind::User, revision, &json!({ "name": "Anna" }))
}

fn deleted(revision: i64) -> Document {
    document(Kind::User, revision, &json!({ "name": "anna", "deleted": true }))
}

fn empty(revision: i64) -> Document {
    document(Kind::Snapshot, revision, &json!({ "users": [], "roles": [] }))
}

async fn take(database: &Database, documents: &[Document]) {
    for document in documents {
        database.store.directory_apply(std::slice::from_ref(document)).await.unwrap();
    }
}

async fn add(database: &Database, webhook: Webhook) -> Webhook {
    database.store.webhook_add(&webhook).await.unwrap();
    webhook
}

async fn is_former(database: &Database, webhook: &Webhook) -> bool {
    let read = database.store.webhooks_get(&[webhook.id]).await.unwrap();
    read[0].is_of_former_owner()
}

#[tokio::test]
async fn webhooks_of_a_former_user_are_paused_when_the_name_returns() {
    for gone in [deleted(2), empty(2)] {
        let database = Database::new().await;
        let hook = add(&database, webhook("anna", &[], false)).await;
        take(&database, &[anna(1), gone]).await;
        assert!(!is_former(&database, &hook).await, "nobody has the name");
        take(&database, &[anna(3)]).await;
        assert!(is_former(&database, &hook).await);
        // The decision of an administrator stays in force.
        database.store.webhook_resume(hook.id, &Author::system()).await.unwrap();
        take(&database, &[anna(4), anna(3), anna(1)]).await;
        assert!(!is_former(&database, &hook).await);
    }
}

#[tokio::test]
async fn late_deletion_pauses_only_the_webhooks_of_its_time() {
    let database = Database::new().await;
    let former = add(&database, webhook("anna", &[], false)).await;
    take(&database, &[anna(1), anna(3)]).await;
    let later = Utc::now() + TimeDelta::hours(1);
    let own = add(&database, Webhook { created_at: later, ..webhook("anna", &[], false) }).await;
    take(&database, &[deleted(2)]).await;
    assert!(is_former(&database, &former).await);
    assert!(!is_former(&database, &own).await);
}

#[tokio::test]
async fn webhooks_of_a_user_who_only_changes_are_not_paused() {
    let database = Database::new().await;
    let hook = add(&database, webhook("anna", &[], false)).await;
    let disabled = document(Kind::User, 2, &json!({ "name": "anna", "enabled": false }));
    let all = document(Kind::Snapshot, 4, &json!({ "users": [{ "name": "ANNA" }], "roles": [] }));
    take(&database, &[anna(1), disabled, anna(3), all, anna(5)]).await;
    assert!(!is_former(&database, &hook).await);
}

#[tokio::test]
async fn user_missing_in_a_reset_directory_returns_as_another_person() {
    let database = Database::new().await;
    let hook = add(&database, webhook("anna", &[], false)).await;
    take(&database, &[anna(1)]).await;
    let import = async |with_anna: bool, revision: i64| {
        let import = database.store.directory_import(Some(revision), ImportMode::Reset);
        let mut import = import.await.unwrap().unwrap();
        let users = if with_anna { anna(1).content.users().to_vec() } else { Vec::new() };
        import.put(&Part { users, roles: Vec::new() }).await.unwrap();
        import.finish(&Author::system()).await.unwrap()
    };
    import(true, 9).await;
    assert!(!is_former(&database, &hook).await, "anna never was away");
    assert_eq!(import(false, 5).await.revision, 5);
    assert_eq!(import(true, 3).await.paused, 1);
    assert!(is_former(&database, &hook).await);
}

#[tokio::test]
async fn sessions_of_a_former_user_end_and_the_account_is_disabled() {
    const SESSIONS: &str = "
        alter table accounts
            add column if not exists disabled_at timestamptz,
            add column if not exists disabled_reason text,
            add column if not exists generation integer not null default 1;
        insert into accounts (name_key, name, password_hash, administrator)
        values ('anna', 'Anna', 'x', false), ('ben', 'Ben', 'x', false);
        insert into sessions (token_digest, account_key, created_at, expires_at)
        select name_key::bytea, name_key, now(), now() + interval '1 hour' from accounts";
    const LEFT: &str = "
        select (select string_agg(account_key, ' ') from sessions),
               (select string_agg(name_key || ' ' || disabled_reason, ' ') from accounts
                where disabled_at is not null)";
    let database = Database::new().await;
    database.client.batch_execute(SESSIONS).await.unwrap();
    take(&database, &[anna(1), deleted(2), anna(3)]).await;
    let left = database.client.query_one(LEFT, &[]).await.unwrap();
    assert_eq!(left.try_get::<_, &str>(0).unwrap(), "ben");
    assert_eq!(left.try_get::<_, &str>(1).unwrap(), "anna owner-recreated");
}
