//! The name and version of a connection pooler in front of the database, for people.
//!
//! Whether its sessions can be used is checked on each connection ([`session`](crate::session)).

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Error, SimpleQueryMessage};

use crate::connect::Connector;
use crate::pool::Store;

/// The database that `PgBouncer` reserves for its administrators.
const CONSOLE: &str = "pgbouncer";

/// The time limit for the answer.
const ANSWERS: Duration = Duration::from_secs(5);

impl Store {
    /// The pooler at the database's first host: its name and, if this account may ask for it, its
    /// version. `None` when PostgreSQL itself answers, or the kind of server is not known.
    ///
    /// PostgreSQL has no database of the name that `PgBouncer` reserves, or has one that does not
    /// know this pooler's commands.
    pub async fn pooler(&self) -> Option<String> {
        timeout(ANSWERS, ask(&self.connector)).await.ok().flatten()
    }
}

async fn ask(connector: &Connector) -> Option<String> {
    let (mut config, tls) = connector.first_host()?;
    config.dbname(CONSOLE).target_session_attrs(TargetSessionAttrs::Any);
    let (client, driver) = match config.connect(tls).await {
        Ok(connected) => connected,
        Err(error) => return is_refusal(&error).then(|| "PgBouncer".to_owned()),
    };
    tokio::spawn(driver);
    let answer = client.simple_query("show version").await.ok()?;
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// Whether `PgBouncer` refused the connection. It has one code for every refusal. PostgreSQL has
/// other codes for a database that does not exist or that allows no connections.
fn is_refusal(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code() == "08P01")
}
