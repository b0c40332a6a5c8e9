//! A server that stops allowing writes without ending its sessions: connections that only read
//! would stay with it.

use std::time::Duration;

use fanfare_store::holder::Holder;
use fanfare_store::keyring::Keyring;
use fanfare_store::{Config, PlanMode, Store, StoreError};
use fanfare_testkit::servers::Servers;
use fanfare_testkit::wait::eventually;

/// Far longer than the store needs to notice.
const SOON: Duration = Duration::from_secs(30);

fn allow_writes(servers: &Servers, allowed: bool) {
    let read_only = if allowed { "off" } else { "on" };
    let set = format!("alter system set default_transaction_read_only = {read_only}");
    servers.sql("postgres", &set).unwrap();
    servers.sql("postgres", "select pg_reload_conf()").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_only_read_are_closed_when_the_server_stops_writes() {
    let servers = Servers::start(&std::env::temp_dir()).unwrap();
    servers.create_database("fanfare").unwrap();
    let config = Config {
        url: servers.database_url("fanfare"),
        max_connections: 2,
        plan_mode: PlanMode::Generic,
        application_name: "fanfare tests".to_owned(),
        keyring: Keyring::new(vec![("test".to_owned(), [7; 32])]).unwrap(),
    };
    let store = Store::new(config).unwrap();
    store.migrate().await.unwrap();
    let listener = tokio::spawn({
        let store = store.clone();
        async move { store.listen_webhooks(&Holder::random(), |_| {}).await }
    });
    store.ping().await.unwrap();
    allow_writes(&servers, false);
    eventually("what reads fails, too", SOON, async || match store.ping().await {
        Err(error @ StoreError::Connect(_)) if error.chain().contains("not allow writes") => Ok(()),
        other => Err(other),
    })
    .await;
    let heard = tokio::time::timeout(SOON, listener).await.unwrap().unwrap();
    assert!(heard.is_err(), "a listener stays with a server on which nothing changes any more");
    allow_writes(&servers, true);
    eventually("it is used again", SOON, async || store.ping().await).await;
}
