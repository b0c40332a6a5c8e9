//! Migrations, which are embedded, go only forward, and run in one process at a time.
//!
//! A migration that waits for the lock of a table makes everything behind it wait, too. So it waits for
//! a second, gives way, and tries again.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::connection::Connection;
use crate::directory::{Refolded, refold};
use crate::error::StoreError;
use crate::pool::Store;
use crate::retention::DAYS_AHEAD;
use crate::rows::Columns as _;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// The number of the advisory lock, which no other program should use: "fanfare" in ASCII.
const LOCK: i64 = 0x0066_616e_6661_7265;

/// The longest wait for the lock of a table.
const LOCK_TIME: &str = "-- migrate\nset lock_timeout = '1s'";
/// The pause after a lock was not free, in which others can work.
const LOCK_PAUSE: Duration = Duration::from_secs(3);
/// How often a migration is tried whose lock is not free: for about ten minutes.
const LOCK_TRIES: usize = 150;

/// The most dead letters of an earlier version that one statement adds to the index.
const FILLED_AT_ONCE: i32 = 2000;

/// The name of the first migration. Versions before 0.1.0 had other migrations for the same schema.
/// None of these versions was released, so their databases can't be upgraded.
const FIRST: &str = "first_release";

/// The rights of the roles of `deploy/postgres`, in databases whose cluster has these roles.
const GRANTS: &str = include_str!("../../../deploy/postgres/grants.sql");

/// The comparison of the database's schema with this program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// Both have this version.
    Current(i32),
    /// The database is older, or has no schema (version 0): run `fanfare migrate`.
    Behind { database: i32, program: i32 },
    /// The database is newer.
    Ahead { database: i32, program: i32 },
}

/// The result of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The names of the migrations that were applied.
    pub applied: Vec<String>,
    /// Names whose keys changed.
    pub names: Refolded,
}

impl Store {
    /// Applies the missing migrations, folds names again if an earlier version folded them in
    /// another way, grants the roles of `deploy/postgres`, if they exist, their rights, and makes the
    /// ledger's partitions of the next days.
    ///
    /// It may run twice, and in several processes at once, which wait for each other.
    pub async fn migrate(&self) -> Result<Migrated, StoreError> {
        if let SchemaState::Ahead { database, program } = self.schema_state().await? {
            return Err(StoreError::SchemaAhead { database, program });
        }
        let mut client = self.connection("migrate the database").await?;
        client.execute("-- migrate\nselect pg_advisory_lock($1)", &[&LOCK]).await?;
        client.execute(LOCK_TIME, &[]).await?;
        let result = apply(&mut client).await;
        client.execute("-- migrate\nreset lock_timeout", &[]).await?;
        let rest = match result {
            Ok(_) => finish(&mut client).await,
            Err(_) => Ok(Refolded::default()),
        };
        client.execute("-- migrate\nselect pg_advisory_unlock($1)", &[&LOCK]).await?;
        let applied = result?;
        let names = rest?;
        // A router makes them if a lock is not free now.
        self.partitions_make(DAYS_AHEAD).await?;
        // In steps, so that no statement takes long.
        while self.letters_fill(FILLED_AT_ONCE).await? > 0 {}
        Ok(Migrated { applied, names })
    }

    /// Compares the database's schema with this program's. A database with the migrations of a
    /// version before 0.1.0 is an error.
    pub async fn schema_state(&self) -> Result<SchemaState, StoreError> {
        const KNOWN: &str = "-- schema_state
            select to_regclass('refinery_schema_history') is not null as is_known";
        const VERSION: &str = "-- schema_state
            select coalesce(max(version), 0) as version,
                   coalesce(bool_or(version = 1 and name <> $1), false) as is_unreleased
            from refinery_schema_history";
        let client = self.connection("read the schema's version").await?;
        let migrations = embedded::migrations::runner();
        let newest = migrations.get_migrations().iter().map(refinery::Migration::version).max();
        let program = newest.unwrap_or_default();
        if !client.query_one(KNOWN, &[]).await?.column("is_known")? {
            return Ok(SchemaState::Behind { database: 0, program });
        }
        let row = client.query_one(VERSION, &[&FIRST]).await?;
        if row.column("is_unreleased")? {
            return Err(StoreError::SchemaUnreleased);
        }
        let database: i32 = row.column("version")?;
        Ok(match database.cmp(&program) {
            std::cmp::Ordering::Less => SchemaState::Behind { database, program },
            std::cmp::Ordering::Equal => SchemaState::Current(program),
            std::cmp::Ordering::Greater => SchemaState::Ahead { database, program },
        })
    }
}

/// Applies the missing migrations, each in a transaction of its own, and returns their names.
async fn apply(client: &mut Connection) -> Result<Vec<String>, StoreError> {
    let (mut applied, mut tries) = (Vec::new(), LOCK_TRIES);
    let runner = embedded::migrations::runner();
    loop {
        let error = match runner.run_async(client.library()).await {
            Ok(report) => {
                applied.extend(report.applied_migrations().iter().map(ToString::to_string));
                return Ok(applied);
            }
            Err(error) => error,
        };
        let done = error.report().map(|report| report.applied_migrations().as_slice());
        applied.extend(done.unwrap_or_default().iter().map(ToString::to_string));
        let error = StoreError::Migrate(Box::new(error));
        if error.sql_state() != Some(&SqlState::LOCK_NOT_AVAILABLE) || tries == 0 {
            return Err(error);
        }
        tries -= 1;
        tracing::warn!(
            "another transaction holds a table that the migration changes; giving way to others, and \
             trying again"
        );
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Completes a migration: folds names again, which SQL can't do, and grants the roles their rights.
async fn finish(client: &mut Connection) -> Result<Refolded, StoreError> {
    let transaction = client.transaction().await?;
    let names = refold(&transaction).await?;
    transaction.commit().await?;
    let granted = client.library().batch_execute(GRANTS).await;
    granted.map_err(StoreError::at("grant the roles what they need"))?;
    Ok(names)
}
