//! Running statements, and preparing those again that were prepared too early.
//!
//! A connection keeps its prepared statements. A migration may change the columns that one answers,
//! and a pooler or a person may deallocate it. PostgreSQL then refuses it before it has any effect.
//! Within a transaction nothing can be repeated: the error ends the transaction, and its remedy is
//! [`Remedy::Repeat`](crate::Remedy::Repeat).

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use crate::cancel::Object;
use crate::connect::Pooled;
use crate::error::is_stale;
use crate::spans;

/// A statement that runs often: a connection prepares it only once.
pub(crate) struct Cached<'a>(pub(crate) &'a str);

/// A statement that a connection has prepared, and its text.
pub(crate) struct Prepared<'a> {
    sql: &'a str,
    statement: Statement,
}

/// A statement as text, to be prepared once or each time, or prepared.
pub(crate) trait Query {
    fn sql(&self) -> &str;

    /// Whether a connection keeps the statement when it has prepared it.
    fn is_cached(&self) -> bool {
        false
    }

    /// The statement, if it was prepared.
    fn prepared(&self) -> Option<&Statement> {
        None
    }
}

impl Query for str {
    fn sql(&self) -> &str {
        self
    }
}

impl Query for String {
    fn sql(&self) -> &str {
        self
    }
}

impl Query for Cached<'_> {
    fn sql(&self) -> &str {
        self.0
    }

    fn is_cached(&self) -> bool {
        true
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
pub(crate) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection or a transaction.
pub(crate) trait Run {
    /// Returns all rows of a statement.
    async fn rows(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error>;

    /// Returns the number of rows that a statement changed.
    async fn changed(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<u64, Error>;
}

impl Run for Object {
    async fn rows(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.query(query, values).await
    }

    async fn changed(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<u64, Error> {
        self.execute(query, values).await
    }
}

impl Run for Transaction<'_> {
    async fn rows(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.query(&in_transaction(self, query).await?, values).await
    }

    async fn changed(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<u64, Error> {
        self.execute(&in_transaction(self, query).await?, values).await
    }
}

async fn in_transaction(
    transaction: &Transaction<'_>,
    query: &(impl Query + ?Sized),
) -> Result<Statement, Error> {
    match query.prepared() {
        Some(statement) => Ok(statement.clone()),
        None if query.is_cached() => transaction.prepare_cached(query.sql()).await,
        None => transaction.prepare(query.sql()).await,
    }
}

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
            None if query.is_cached() => self.client().prepare_cached(query.sql()).await,
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
