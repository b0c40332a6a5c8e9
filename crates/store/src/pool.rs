//! The connections.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;

use crate::error::StoreError;
use crate::keyring::Keyring;

/// How to reach the database.
#[derive(Clone)]
pub struct Config {
    /// A PostgreSQL connection string or URL.
    pub url: String,
    /// The most connections that this process holds.
    pub max_connections: usize,
    /// The name that operators see in `pg_stat_activity`.
    pub application_name: String,
    /// The keys that seal secrets.
    pub keyring: Keyring,
}

/// The database. Cheap to clone; connects when first needed and again after an outage.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    pub(crate) connect: tokio_postgres::Config,
    pub(crate) keyring: Keyring,
}

impl Store {
    /// Reads the connection string; connects to nothing yet.
    pub fn new(config: Config) -> Result<Self, StoreError> {
        let mut connect: tokio_postgres::Config = config.url.parse().map_err(StoreError::BadUrl)?;
        connect.application_name(&config.application_name);
        // A peer that vanished without a word is noticed within seconds, not by TCP's two hours.
        connect.connect_timeout(Duration::from_secs(5));
        connect.keepalives_idle(Duration::from_secs(10));
        connect.tcp_user_timeout(Duration::from_secs(15));
        // Plans of statements over arrays are costed far too high while tables are new, and compiling
        // one takes longer than running it a thousand times.
        let options = connect.get_options().map_or(String::new(), |given| format!("{given} "));
        connect.options(format!("{options}-c jit=off"));
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(connect.clone(), NoTls, manager_config);
        let pool = Pool::builder(manager)
            .max_size(config.max_connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(Duration::from_secs(30)))
            .create_timeout(Some(Duration::from_secs(10)))
            .build()
            .map_err(|error| StoreError::Connect(Box::new(error)))?;
        Ok(Self { pool, connect, keyring: config.keyring })
    }

    /// A connection from the pool; never hold one over a POST or a wait for the broker.
    pub(crate) async fn client(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| StoreError::Connect(Box::new(error)))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let client = self.client().await?;
        client
            .simple_query("-- ping\nselect 1")
            .await
            .map_err(StoreError::at("ask the database"))?;
        Ok(())
    }
}
