//! Whether a pooler stands before the database.
//!
//! Which sessions it gives is seen on each connection ([`session`](crate::session)); this is for
//! people, who want to know what answers them.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Error, SimpleQueryMessage};

use crate::connect::Connector;
use crate::pool::Store;

/// The database that `PgBouncer` has for its administrators, and that it lets nobody else have.
const CONSOLE: &str = "pgbouncer";

/// How long it may take to answer.
const ANSWERS: Duration = Duration::from_secs(5);

impl Store {
    /// The pooler that answers at the database's first host, by its own name and, where this account
    /// may ask, its version; `None` when PostgreSQL itself answers, or what answers is not known.
    ///
    /// PostgreSQL has no database of the name that `PgBouncer` reserves, or one that does not know
    /// this pooler's commands.
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

/// "not allowed": its code for all that it refuses. PostgreSQL says that there is no such database,
/// or that nobody may log in to it.
fn is_refusal(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code() == "08P01")
}
