//! Connections and transactions, each used for one action, which its errors name.

use deadpool_postgres::Transaction as Begun;
use tokio_postgres::Row;

use crate::cancel::Object;
use crate::error::StoreError;
use crate::statement::{Query, Run, Values};

/// A connection or a transaction, and the action for which it is used.
pub(crate) struct Acting<C> {
    client: C,
    /// The action, to follow "failed to".
    doing: &'static str,
}

/// A connection of the pool.
pub(crate) type Connection = Acting<Object>;

/// A transaction, which is rolled back unless it is committed.
pub(crate) type Transaction<'a> = Acting<Begun<'a>>;

impl<C: Run> Acting<C> {
    /// Returns all rows of a statement.
    pub(crate) async fn query(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        self.client.rows(query, values).await.map_err(StoreError::at(self.doing))
    }

    /// Returns the first row of a statement that always has one.
    pub(crate) async fn query_one(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Row, StoreError> {
        self.query_opt(query, values).await?.ok_or(StoreError::NoRow { doing: self.doing })
    }

    /// Returns the first row of a statement, if there is one.
    pub(crate) async fn query_opt(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(query, values).await?.into_iter().next())
    }

    /// Returns the number of rows that a statement changed.
    pub(crate) async fn execute(
        &self,
        query: &(impl Query + ?Sized),
        values: Values<'_>,
    ) -> Result<u64, StoreError> {
        self.client.changed(query, values).await.map_err(StoreError::at(self.doing))
    }
}

impl Connection {
    pub(crate) fn new(client: Object, doing: &'static str) -> Self {
        Self { client, doing }
    }

    /// Begins a transaction for the same action.
    pub(crate) async fn transaction(&mut self) -> Result<Transaction<'_>, StoreError> {
        let begun = self.client.transaction().await.map_err(StoreError::at(self.doing))?;
        Ok(Acting { client: begun, doing: self.doing })
    }

    /// The library's client.
    pub(crate) fn library(&mut self) -> &mut tokio_postgres::Client {
        &mut self.client
    }
}

impl Transaction<'_> {
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.client.commit().await.map_err(StoreError::at(self.doing))
    }
}
