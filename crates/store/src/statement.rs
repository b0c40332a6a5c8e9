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

/// A statement, to be prepared once or each time.
pub(crate) trait Query {
    fn sql(&self) -> &str;

    /// Whether a connection keeps the statement when it has prepared it.
    fn is_cached(&self) -> bool {
        false
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

/// Prepares a statement with the library's client, which may have it in its cache.
macro_rules! prepare {
    ($client:expr, $query:ident) => {
        if $query.is_cached() {
            $client.prepare_cached($query.sql()).await
        } else {
            $client.prepare($query.sql()).await
        }
    };
}

/// Runs a statement by a method of the library's client, and again if it was stale.
macro_rules! run {
    ($pooled:ident, $method:ident, $query:ident, $values:ident) => {{
        let span = spans::statement($query.sql());
        let running = async {
            let statement = prepare!($pooled.client(), $query)?;
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

impl Run for Object {
    async fn rows(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        run!(self, query, query, values)
    }

    async fn changed(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<u64, Error> {
        run!(self, execute, query, values)
    }
}

impl Run for Transaction<'_> {
    async fn rows(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.query(&prepare!(self, query)?, values).await
    }

    async fn changed(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<u64, Error> {
        self.execute(&prepare!(self, query)?, values).await
    }
}

impl Pooled {
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
