//! A migrated database, and directories made of JSON.

use fanfare_core::directory::{Document, Kind};
use fanfare_store::keyring::Keyring;
use fanfare_store::{Asks, Config, Store};
use fanfare_testkit::sandbox::Sandbox;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

/// A database with its tables.
pub(crate) struct Database {
    pub(crate) store: Store,
    /// A connection past the store.
    pub(crate) client: Client,
    sandbox: Sandbox,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let sandbox = Sandbox::new().await;
        let config = Config {
            url: sandbox.database_url.clone(),
            max_connections: 4,
            asks: Asks::TheSame,
            application_name: "fanfare tests".to_owned(),
            keyring: Keyring::new(vec![("test".to_owned(), [7; 32])]).unwrap(),
        };
        let store = Store::new(config).unwrap();
        store.migrate().await.unwrap();
        let client = connect(&sandbox.database_url).await;
        Self { store, client, sandbox }
    }

    /// Another connection past the store.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.sandbox.database_url).await
    }

    /// Forgets the directory and all events.
    pub(crate) async fn clear(&self) {
        const SQL: &str = "
            truncate directory_versions, directory_grants, directory_members, directory_snapshots,
                     directory_gaps, events;
            update directory_state set revision = 0, oldest = 0, late_at = null";
        self.client.batch_execute(SQL).await.unwrap();
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A document of the directory.
pub(crate) fn document(kind: Kind, revision: i64, data: &Value) -> Document {
    let text = data.to_string();
    let raw: &RawValue = serde_json::from_str(&text).unwrap();
    Document::parse(kind, revision, raw).unwrap()
}

/// A permission that grants `read`.
pub(crate) fn reads(scope: &str, target: &str) -> Value {
    json!({ "access": ["read"], "scope": scope, "target": target })
}
