//! The channels that owners chose for notices: their secrets are sealed, and stay with one person.

use fanfare_core::audit::Author;
use fanfare_core::directory::Kind as DocumentKind;
use fanfare_core::name::Name;
use fanfare_core::notice::{Kind, OwnerChannels, OwnerWebhook};
use fanfare_store::PlanMode;
use serde_json::json;

use crate::access::webhook;
use crate::support::{Database, document};

fn anna() -> Name {
    Name::parse("anna").unwrap()
}

fn channels() -> OwnerChannels {
    let uri = "https://receiver.example/notices".parse().unwrap();
    let secret = "0123456789abcdef0123456789abcdef".parse().unwrap();
    OwnerChannels {
        kinds: Kind::for_owners().collect(),
        webhook: Some(OwnerWebhook { uri, secret }),
        mail: Some("anna@example.org".parse().unwrap()),
    }
}

async fn choose(database: &Database) {
    let change = |_| channels();
    database.store.notice_settings_change(&anna(), &Author::system(), change).await.unwrap();
}

#[tokio::test]
async fn secrets_of_owners_channels_are_sealed_again_with_the_first_key() {
    let database = Database::new().await;
    let hook = webhook("anna", &[], false);
    database.store.webhook_add(&hook).await.unwrap();
    choose(&database).await;
    let both = [("new", [9; 32]), ("test", [7; 32])];
    let store = database.with_keys(&both);
    let mut after = None;
    loop {
        let batch = store.secrets_reseal(after, 1).await.unwrap();
        assert!(batch.failed.is_empty());
        after = batch.next;
        if after.is_none() {
            break;
        }
    }
    let uses = store.secrets_by_key().await.unwrap();
    assert_eq!(uses.len(), 1, "{uses:?}");
    assert_eq!((uses[0].key.as_str(), uses[0].webhooks), ("new", 2));
    let store = database.with_keys(&both[..1]);
    let read = store.notice_settings(&["anna"]).await.unwrap();
    assert_eq!(read["anna"], channels());
    assert_eq!(store.webhooks_get(&[hook.id]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn user_who_leaves_the_directory_takes_the_channels_along() {
    let database = Database::new().await;
    let store = database.another(PlanMode::Generic, 1);
    let user = |revision, deleted| {
        let data = json!({ "name": "Anna", "deleted": deleted });
        document(DocumentKind::User, revision, &data)
    };
    store.directory_apply(&[user(1, false)]).await.unwrap();
    choose(&database).await;
    store.directory_apply(&[user(2, false)]).await.unwrap();
    assert_eq!(store.notice_settings(&["anna"]).await.unwrap().len(), 1);
    store.directory_apply(&[user(3, true)]).await.unwrap();
    assert!(store.notice_settings(&["anna"]).await.unwrap().is_empty());
    store.directory_apply(&[user(4, false)]).await.unwrap();
    assert!(store.notice_settings(&["anna"]).await.unwrap().is_empty());
}
