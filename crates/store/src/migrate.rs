//! Migrations: embedded, forward only, one process at a time.

use std::ops::DerefMut as _;

use tokio_postgres::Client;

use crate::directory::{Refolded, refold};
use crate::error::StoreError;
use crate::pool::Store;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Any number that no other program locks by; "fanfare" in ASCII.
const LOCK: i64 = 0x0066_616e_6661_7265;

/// The name of the first migration. Versions before 0.1.0 had another one, and more of them, for
/// the same schema; none was released, so there is no way from their history to this one.
const FIRST: &str = "schema";

/// What the roles of `deploy/postgres` may do, in databases whose cluster has them.
const GRANTS: &str = include_str!("../../../deploy/postgres/grants.sql");

/// How the database's schema compares with this program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// The same.
    Current(i32),
    /// Older, or not there (version 0): run `fanfare migrate`.
    Behind {
        /// The database's version.
        database: i32,
        /// This program's.
        program: i32,
    },
    /// Newer than this program.
    Ahead {
        /// The database's version.
        database: i32,
        /// This program's.
        program: i32,
    },
}

/// What was done to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The names of the migrations that were applied.
    pub applied: Vec<String>,
    /// Names that are folded in another way now.
    pub names: Refolded,
}

impl Store {
    /// Applies what is missing, folds names again where an earlier version folded them in another
    /// way, and gives the roles of `deploy/postgres`, where there are any, what they need.
    ///
    /// Safe to run twice and from several processes at once: the others wait for the lock.
    pub async fn migrate(&self) -> Result<Migrated, StoreError> {
        if let SchemaState::Ahead { database, program } = self.schema_state().await? {
            return Err(StoreError::SchemaAhead { database, program });
        }
        let mut client = self.client().await?;
        client
            .execute("-- migrate\nselect pg_advisory_lock($1)", &[&LOCK])
            .await
            .map_err(StoreError::at("wait for other migrations"))?;
        let connection: &mut tokio_postgres::Client = client.deref_mut().deref_mut();
        let result = embedded::migrations::runner().run_async(connection).await;
        let rest = match result {
            Ok(_) => finish(connection).await,
            Err(_) => Ok(Refolded::default()),
        };
        client
            .execute("-- migrate\nselect pg_advisory_unlock($1)", &[&LOCK])
            .await
            .map_err(StoreError::at("end the migration"))?;
        let report = result.map_err(|error| StoreError::Migrate(Box::new(error)))?;
        let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
        Ok(Migrated { applied, names: rest? })
    }

    /// Compares the database's schema with this program's. A database with the migrations of a
    /// version before 0.1.0 is an error.
    pub async fn schema_state(&self) -> Result<SchemaState, StoreError> {
        let client = self.client().await?;
        let doing = "read the schema's version";
        let known = client
            .query_one(
                "-- schema_state\nselect to_regclass('refinery_schema_history') is not null",
                &[],
            )
            .await
            .and_then(|row| row.try_get::<_, bool>(0))
            .map_err(StoreError::at(doing))?;
        let migrations = embedded::migrations::runner();
        let newest = migrations.get_migrations().iter().map(refinery::Migration::version).max();
        let program = newest.unwrap_or_default();
        if !known {
            return Ok(SchemaState::Behind { database: 0, program });
        }
        let row = client
            .query_one(
                "-- schema_state\nselect coalesce(max(version), 0), \
                     coalesce(bool_or(version = 1 and name <> $1), false) \
                 from refinery_schema_history",
                &[&FIRST],
            )
            .await
            .map_err(StoreError::at(doing))?;
        if row.try_get(1).map_err(StoreError::at(doing))? {
            return Err(StoreError::SchemaUnreleased);
        }
        let database: i32 = row.try_get(0).map_err(StoreError::at(doing))?;
        Ok(match database.cmp(&program) {
            std::cmp::Ordering::Less => SchemaState::Behind { database, program },
            std::cmp::Ordering::Equal => SchemaState::Current(program),
            std::cmp::Ordering::Greater => SchemaState::Ahead { database, program },
        })
    }
}

/// What SQL files can't do, after them.
async fn finish(client: &mut Client) -> Result<Refolded, StoreError> {
    let doing = "fold names again";
    let transaction = client.transaction().await.map_err(StoreError::at(doing))?;
    let names = refold(&transaction).await?;
    transaction.commit().await.map_err(StoreError::at(doing))?;
    client.batch_execute(GRANTS).await.map_err(StoreError::at("grant the roles what they need"))?;
    Ok(names)
}
