//! The store, and its pool of connections.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Pool, PoolError};

use crate::cancel::Object;
use crate::clock::DatabaseClock;
use crate::config::Config;
use crate::connect::Connector;
use crate::connection::Connection;
use crate::error::StoreError;
use crate::keyring::Keyring;
use crate::target::Target;

/// The database. Cheap to clone; connects when first needed and again after an outage.
#[derive(Clone)]
pub struct Store {
    pool: Pool<Connector>,
    pub(crate) connector: Connector,
    pub(crate) clock: DatabaseClock,
    pub(crate) keyring: Keyring,
}

impl Store {
    /// Reads the connection string and the files that it names. It does not connect yet.
    pub fn new(config: Config) -> Result<Self, StoreError> {
        let connector = Connector::new(Target::parse(
            &config.url,
            &config.application_name,
            config.plan_mode,
        )?)?;
        let pool = Pool::builder(connector.clone())
            .max_size(config.max_connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(Duration::from_secs(30)))
            .create_timeout(Some(connector.longest() + Duration::from_secs(1)))
            .build()
            .map_err(|error| StoreError::Connect(Box::new(error)))?;
        let clock = DatabaseClock::default();
        Ok(Self { pool, connector, clock, keyring: config.keyring })
    }

    /// Takes a connection from the pool for an action, which follows "failed to" in its errors. Do
    /// not hold one during a POST or a wait for the broker.
    pub(crate) async fn connection(&self, doing: &'static str) -> Result<Connection, StoreError> {
        Ok(Connection::new(self.client().await?, doing))
    }

    async fn client(&self) -> Result<Object, StoreError> {
        let pooled = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(unreachable) => unreachable.into(),
            other => StoreError::Connect(Box::new(other)),
        })?;
        Ok(Object::new(pooled, self.connector.clone()))
    }

    /// Checks that the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let client = self.client().await?;
        client
            .simple_query("-- ping\nselect 1")
            .await
            .map_err(StoreError::at("ask the database"))?;
        Ok(())
    }
}
