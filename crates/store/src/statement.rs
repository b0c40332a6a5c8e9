//! Running statements, and preparing those again that were prepared too early.
//!
//! A connection keeps its prepared statements. A migration may change the columns that one answers,
//! and a pooler or a person may deallocate it. PostgreSQL then refuses it before it has any effect.
//! Within a transaction nothing can be repeated: the error ends the transaction, and its remedy is
//! [`Remedy::Repeat`](crate::Remedy::Repeat).

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use crate::connect::Pooled;
use crate::error::is_stale;
use crate::spans;

/// A prepared statement of the cache, and its text.
pub(crate) struct Prepared<'a> {
    sql: &'a str,
    statement: Statement,
}

/// A statement, either as text or prepared.
pub(crate) trait Query {
    fn sql(&self) -> &str;

    /// The prepared statement, if it is in the cache.
    fn prepared(&self) -> Option<&Statement>;
}

impl Query for str {
    fn sql(&self) -> &str {
        self
    }

    fn prepared(&self) -> Option<&Statement> {
        None
    }
}

impl Query for String {
    fn sql(&self) -> &str {
        self
    }

    fn prepared(&self) -> Option<&Statement> {
        None
    }
}

impl Query for Prepared<'_> {
    fn sql(&self) -> &str {
        self.sql
    }

    fn prepared(&self) -> Option<&Statement> {
        Some(&self.statement)
    }
}

/// The parameters of a statement.
type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs a statement by a method of the library's client, and again if it was stale.
macro_rules! run {
    ($pooled:ident, $method:ident, $query:ident, $values:ident) => {{
        let span = spans::statement($query.sql());
        let running = async {
            let statement = $pooled.statement($query).await?;
            match $pooled.client().$method(&statement, $values).await {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    let statement = $pooled.prepare_again($query, error).await?;
                    $pooled.client().$method(&statement, $values).await
                }
            }
        };
        running.await.inspect_err(|error| spans::fail(&span, error))
    }};
}

impl Pooled {
    /// Prepares a statement, unless this connection has done so before.
    pub(crate) async fn prepare_cached<'a>(&self, sql: &'a str) -> Result<Prepared<'a>, Error> {
        let statement = self.client().prepare_cached(sql).await?;
        Ok(Prepared { sql, statement })
    }

    /// Returns all rows of a statement.
    pub(crate) async fn query(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        run!(self, query, query, values)
    }

    /// Returns the only row of a statement.
    pub(crate) async fn query_one(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Row, Error> {
        run!(self, query_one, query, values)
    }

    /// Returns the row of a statement, if there is one.
    pub(crate) async fn query_opt(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Option<Row>, Error> {
        run!(self, query_opt, query, values)
    }

    /// Returns the number of rows that a statement changed.
    pub(crate) async fn execute(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<u64, Error> {
        run!(self, execute, query, values)
    }

    async fn statement(&self, query: &(impl Query + ?Sized)) -> Result<Statement, Error> {
        match query.prepared() {
            Some(statement) => Ok(statement.clone()),
            None => self.client().prepare(query.sql()).await,
        }
    }

    /// Prepares a statement again, if it was stale.
    async fn prepare_again(
        &self,
        query: &(impl Query + ?Sized),
        error: Error,
    ) -> Result<Statement, Error> {
        if !is_stale(&error) {
            return Err(error);
        }
        // The other statements of this connection are stale for the same reason.
        self.client().statement_cache.clear();
        self.client().prepare(query.sql()).await
    }
}
