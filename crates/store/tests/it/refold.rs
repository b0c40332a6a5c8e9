//! Migration of a database in which an earlier version folded names.

use fanfare_core::directory::{Document, Kind};
use fanfare_core::name::Name;
use fanfare_core::revisions::Hold;
use fanfare_store::directory::Refolded;
use serde_json::{Value, json};

use crate::access::webhook;
use crate::support::{Database, document};

/// The rows of an earlier version, which gave `weiß` the key of `weiss`.
const BEFORE: &str = "
    update directory_versions set name_key = replace(name_key, 'ß', 'ss');
    update directory_members set role_key = replace(role_key, 'ß', 'ss');
    update webhooks set owner_key = replace(owner_key, 'ß', 'ss');
    update webhook_versions set owner_key = replace(owner_key, 'ß', 'ss');
    update directory_state set names_version = 1;
    insert into accounts (name_key, name, password_hash, administrator)
    values ('weiss', 'Weiß', 'x', false), ('anna', 'Anna', 'x', false);
    insert into sessions (token_digest, account_key, created_at, expires_at)
    select name_key::bytea, name_key, now(), now() + interval '1 hour' from accounts;
    insert into sessions (token_digest, issuer, user_key, user_name, administrator, created_at,
                          expires_at)
    values ('p', 'https://idp', 'weiss', 'WEIß', false, now(), now() + interval '1 hour')";

async fn column(database: &Database, sql: &str) -> Vec<String> {
    let rows = database.client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.try_get(0).unwrap()).collect()
}

async fn take(database: &Database, kind: Kind, revision: i64, data: Value) {
    let document: Document = document(kind, revision, &data);
    database.store.directory_apply(&[document]).await.unwrap();
}

#[tokio::test]
async fn names_that_shared_a_key_are_separated_and_the_directory_is_incomplete() {
    let database = Database::new().await;
    for owner in ["Weiß", "weiss"] {
        database.store.webhook_add(&webhook(owner, &["tasks"], false)).await.unwrap();
    }
    take(&database, Kind::User, 1, json!({ "name": "weiß", "roles": ["Straße", "r"] })).await;
    take(&database, Kind::User, 2, json!({ "name": "anna", "roles": ["r"] })).await;
    take(&database, Kind::Role, 3, json!({ "name": "STRAßE" })).await;
    database.client.batch_execute(BEFORE).await.unwrap();

    let names = database.store.migrate().await.unwrap().names;
    let expected = ["STRAßE", "Weiß", "weiß"].map(str::to_owned).into();
    assert_eq!(names, Refolded { documents: 3, webhooks: 1, accounts: 1, names: expected });
    let keys = "select name_key from directory_versions order by begin_revision";
    assert_eq!(column(&database, keys).await, ["weiß", "anna", "straße"]);
    let roles = "select role_key from directory_members order by version_id, role_key";
    assert_eq!(column(&database, roles).await, ["r", "straße", "r"]);
    for table in ["webhooks", "webhook_wants", "webhook_versions where end_at is null"] {
        let owners = format!("select owner_key from {table}");
        let owners: std::collections::BTreeSet<String> =
            column(&database, &owners).await.into_iter().collect();
        assert_eq!(owners, ["weiss", "weiß"].map(str::to_owned).into(), "{table}");
    }
    let accounts = "select name_key from accounts order by name_key";
    assert_eq!(column(&database, accounts).await, ["anna", "weiß"]);
    let sessions = "select coalesce(account_key, user_key) from sessions order by 1";
    assert_eq!(column(&database, sessions).await, ["anna", "weiß"]);

    let state = database.store.directory_state().await.unwrap();
    assert_eq!((state.hold, state.revisions.newest), (Some(Hold::Incomplete), 3));
    // Documents that are known already don't complete it; a snapshot does.
    take(&database, Kind::User, 2, json!({ "name": "anna", "roles": ["r"] })).await;
    assert!(database.store.directory_state().await.unwrap().hold.is_some());
    take(&database, Kind::Snapshot, 4, json!({ "users": [{ "name": "weiß" }], "roles": [] })).await;
    assert_eq!(database.store.directory_state().await.unwrap().hold, None);
    let again = database.store.migrate().await.unwrap();
    assert_eq!((again.applied, again.names), (Vec::new(), Refolded::default()), "once");
}

#[tokio::test]
async fn directory_whose_keys_do_not_change_stays_complete() {
    let database = Database::new().await;
    take(&database, Kind::User, 1, json!({ "name": "Änne", "roles": ["R"] })).await;
    let before = "update directory_state set names_version = 1";
    database.client.batch_execute(before).await.unwrap();
    assert_eq!(database.store.migrate().await.unwrap().names, Refolded::default());
    assert_eq!(database.store.directory_state().await.unwrap().hold, None);
    let user = Name::parse("ÄNNE").unwrap();
    let status = database.store.user_status(&[user.key()]).await.unwrap();
    assert_eq!(status.len(), 1);
}
