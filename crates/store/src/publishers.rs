//! Publisher accounts: the report servers that may publish events over HTTP, each with one access
//! token.
//!
//! The database has only the digest of a token, as of a session's ([`crate::sessions`]).

use chrono::{DateTime, Utc};
use fanfare_core::audit::{Author, Entry};
use fanfare_core::name::Name;
use tokio_postgres::Row;

use crate::audit;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::sessions::TokenDigest;
use crate::statement::{Cached, Values};

/// A publisher account as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// The name as it was given.
    pub name: String,
    pub created_at: DateTime<Utc>,
    /// The time at which its token was last accepted, to the minute; `None` before the first time.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The time at which its token was revoked; `None` while it is accepted.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Adds a publisher account. Returns false when there is one of this name whose token is not
    /// revoked.
    pub async fn publisher_add(
        &self,
        name: &Name,
        digest: &TokenDigest,
        author: &Author,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- publisher_add
            insert into publishers (token_digest, name_key, name) values ($1, $2, $3)
            on conflict (name_key) where revoked_at is null do nothing";
        let mut client = self.connection("add the publisher").await?;
        let transaction = client.transaction().await?;
        let values: Values<'_> = &[&digest.as_slice(), &name.key(), &name.as_str()];
        if transaction.execute(SQL, values).await? == 0 {
            return Ok(false);
        }
        audit::add(&transaction, author, &[Entry::publisher_added(name)]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Revokes the token of a publisher account. Returns whether there is such an account.
    pub async fn publisher_revoke(&self, name: &Name, author: &Author) -> Result<bool, StoreError> {
        const SQL: &str = "-- publisher_revoke
            update publishers set revoked_at = now() where name_key = $1 and revoked_at is null";
        let mut client = self.connection("revoke the publisher's token").await?;
        let transaction = client.transaction().await?;
        if transaction.execute(SQL, &[&name.key()]).await? == 0 {
            return Ok(false);
        }
        audit::add(&transaction, author, &[Entry::publisher_revoked(name)]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Lists all publisher accounts by name, those that were revoked included.
    pub async fn publishers_list(&self) -> Result<Vec<Publisher>, StoreError> {
        const SQL: &str = "-- publishers_list
            select name, created_at, last_used_at, revoked_at from publishers
            order by name_key, created_at";
        let client = self.connection("list the publishers").await?;
        let rows = client.query(SQL, &[]).await?;
        rows.iter().map(publisher).collect()
    }

    /// Finds the name of the publisher with this token, and notes its use. Returns `None` for a
    /// token that is unknown or revoked.
    ///
    /// The use is noted once a minute, so that most requests write nothing.
    pub async fn publisher_of_token(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<String>, StoreError> {
        const SQL: Cached<'_> = Cached(
            "-- publisher_of_token
            with used as (
                update publishers set last_used_at = now()
                where token_digest = $1 and revoked_at is null
                  and (last_used_at is null or last_used_at < now() - interval '1 minute'))
            select name from publishers where token_digest = $1 and revoked_at is null",
        );
        let client = self.connection("look up the publisher").await?;
        let row = client.query_opt(&SQL, &[&digest.as_slice()]).await?;
        row.map(|row| row.column("name")).transpose()
    }
}

fn publisher(row: &Row) -> Result<Publisher, StoreError> {
    Ok(Publisher {
        name: row.column("name")?,
        created_at: row.column("created_at")?,
        last_used_at: row.column("last_used_at")?,
        revoked_at: row.column("revoked_at")?,
    })
}
