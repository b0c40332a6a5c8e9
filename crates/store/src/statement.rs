//! Statements that were prepared too early are prepared again, unseen.
//!
//! A connection keeps its prepared statements. A migration may change what one answers, and a pooler
//! or a person may have the session forget it; PostgreSQL then refuses it before it has any effect.
//! Within a transaction nothing can be repeated: there the error ends the transaction, and
//! [`Remedy::Repeat`](crate::Remedy::Repeat) says what helps.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use crate::connect::Pooled;
use crate::error::is_stale;
use crate::spans;

/// A statement of the cache, and its text.
pub(crate) struct Prepared<'a> {
    sql: &'a str,
    statement: Statement,
}

/// What can be asked: a text, or what was prepared from it.
pub(crate) trait Query {
    /// The text.
    fn sql(&self) -> &str;

    /// What was prepared from it, if that is kept.
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

/// Values for a statement.
type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs a statement by a method of the library's client; once more if it was stale.
macro_rules! run {
    ($pooled:ident, $method:ident, $asked:ident, $values:ident) => {{
        let span = spans::statement($asked.sql());
        let asking = async {
            let statement = $pooled.statement($asked).await?;
            match $pooled.client().$method(&statement, $values).await {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    let statement = $pooled.prepare_again($asked, error).await?;
                    $pooled.client().$method(&statement, $values).await
                }
            }
        };
        asking.await.inspect_err(|error| spans::fail(&span, error))
    }};
}

impl Pooled {
    /// Prepares a statement, unless this connection has done so before.
    pub(crate) async fn prepare_cached<'a>(&self, sql: &'a str) -> Result<Prepared<'a>, Error> {
        let statement = self.client().prepare_cached(sql).await?;
        Ok(Prepared { sql, statement })
    }

    /// All rows that a statement answers.
    pub(crate) async fn query(
        &self,
        asked: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        run!(self, query, asked, values)
    }

    /// The one row that a statement answers.
    pub(crate) async fn query_one(
        &self,
        asked: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Row, Error> {
        run!(self, query_one, asked, values)
    }

    /// The row that a statement answers, if any.
    pub(crate) async fn query_opt(
        &self,
        asked: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Option<Row>, Error> {
        run!(self, query_opt, asked, values)
    }

    /// How many rows a statement changed.
    pub(crate) async fn execute(
        &self,
        asked: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<u64, Error> {
        run!(self, execute, asked, values)
    }

    async fn statement(&self, asked: &(impl Query + ?Sized)) -> Result<Statement, Error> {
        match asked.prepared() {
            Some(statement) => Ok(statement.clone()),
            None => self.client().prepare(asked.sql()).await,
        }
    }

    /// The same statement prepared again, if that helps against the error.
    async fn prepare_again(
        &self,
        asked: &(impl Query + ?Sized),
        error: Error,
    ) -> Result<Statement, Error> {
        if !is_stale(&error) {
            return Err(error);
        }
        // Whatever made this one stale did so to the others.
        self.client().statement_cache.clear();
        self.client().prepare(asked.sql()).await
    }
}
