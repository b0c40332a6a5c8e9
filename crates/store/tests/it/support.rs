//! A migrated database, and directory documents from JSON.

use fanfare_core::directory::{Document, Kind, refused};
use fanfare_store::keyring::Keyring;
use fanfare_store::{Config, PlanMode, Store};
use fanfare_testkit::sandbox::Sandbox;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// A database with its tables.
pub(crate) struct Database {
    pub(crate) store: Store,
    /// A connection that does not belong to the store.
    pub(crate) client: Client,
    sandbox: Sandbox,
}

impl Database {
    pub(crate) async fn new() -> Self {
        Self::of(Sandbox::new().await).await
    }

    async fn of(sandbox: Sandbox) -> Self {
        let store = store(&sandbox.database_url, PlanMode::Generic, 4);
        store.migrate().await.unwrap();
        let client = connect(&sandbox.database_url).await;
        Self { store, client, sandbox }
    }

    /// A database that sorts texts as people do, and not byte by byte.
    pub(crate) async fn sorting_as_people_do() -> Self {
        let Self { client, mut sandbox, .. } = Self::new().await;
        let name = format!("sorted_{}", Uuid::new_v4().simple());
        let create = format!(
            "create database {name} template template0 encoding 'UTF8' locale_provider icu
             icu_locale 'en' locale 'C.UTF-8'"
        );
        client.batch_execute(&create).await.unwrap();
        sandbox.database_url = sandbox.database_url.replace(sandbox.on_servers().1, &name);
        Self::of(sandbox).await
    }

    /// Another connection that does not belong to the store.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.sandbox.database_url).await
    }

    /// Another store on this database, with connections of its own.
    pub(crate) fn another(&self, plan_mode: PlanMode, connections: usize) -> Store {
        store(&self.sandbox.database_url, plan_mode, connections)
    }

    /// Another store on this database, with these keys.
    pub(crate) fn with_keys(&self, keys: &[(&str, [u8; 32])]) -> Store {
        let keys = keys.iter().map(|(id, key)| ((*id).to_owned(), *key));
        store_with(&self.sandbox.database_url, PlanMode::Generic, 1, keys.collect())
    }

    /// Removes the directory and all events. Webhooks that were paused from the beginning have a
    /// description.
    pub(crate) async fn clear(&self) {
        const SQL: &str = "
            truncate directory_versions, directory_grants, directory_members;
            delete from events;
            delete from event_keys;
            delete from directory_snapshots;
            delete from directory_gaps;
            delete from directory_refusals;
            delete from directory_departures;
            update directory_state
            set revision = 0, oldest = 0, late_at = null, complete = false, hold = 'incomplete',
                accepted_revision = 0;
            update webhooks set paused = description is not null, paused_reason = null
            where paused_reason = 'owner-recreated'";
        self.client.batch_execute(SQL).await.unwrap();
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) fn store(url: &str, plan_mode: PlanMode, connections: usize) -> Store {
    store_with(url, plan_mode, connections, vec![("test".to_owned(), [7; 32])])
}

fn store_with(
    url: &str,
    plan_mode: PlanMode,
    connections: usize,
    keys: Vec<(String, [u8; 32])>,
) -> Store {
    let config = Config {
        url: url.to_owned(),
        max_connections: connections,
        plan_mode,
        application_name: "fanfare tests".to_owned(),
        keyring: Keyring::new(keys).unwrap(),
    };
    Store::new(config).unwrap()
}

/// Parses a document of the directory.
pub(crate) fn document(kind: Kind, revision: i64, data: &Value) -> Document {
    let text = data.to_string();
    let raw: &RawValue = serde_json::from_str(&text).unwrap();
    Document::parse(kind, revision, raw).unwrap()
}

/// Parses a document that may have a fault. With a fault it is the refused document.
pub(crate) fn document_or_refused(kind: Kind, revision: i64, data: &Value) -> Document {
    let text = data.to_string();
    let raw: &RawValue = serde_json::from_str(&text).unwrap();
    let name = match kind {
        Kind::User => "directory.user",
        Kind::Role => "directory.role",
        Kind::Snapshot => "directory.snapshot",
    };
    Document::parse(kind, revision, raw).unwrap_or_else(|reject| {
        refused::of(name, Some(revision), Some(raw), &reject.detail).unwrap()
    })
}

/// A permission that grants `read`.
pub(crate) fn reads(scope: &str, target: &str) -> Value {
    json!({ "access": ["read"], "scope": scope, "target": target })
}
