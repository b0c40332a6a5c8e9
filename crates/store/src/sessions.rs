//! Sessions: who an access token stands for, and until when.
//!
//! Only digests of tokens come here, so that nobody who reads the database can sign in with it.

use chrono::{DateTime, Utc};
use fanfare_core::access::administrator_key;
use fanfare_core::name::Name;

use crate::error::StoreError;
use crate::pool::Store;

/// SHA-256 of an access token.
pub type TokenDigest = [u8; 32];

/// A session that begins.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// The digest of its token.
    pub digest: &'a TokenDigest,
    /// Whose it is.
    pub account: &'a Name,
    /// The hash that the password was checked against.
    pub password_hash: &'a str,
    /// Now.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Who a session stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionUser {
    /// The name of the account.
    pub name: Name,
    /// Whether the account says so, or the directory says that the user of this name is an enabled
    /// member of the role System Administrator.
    pub administrator: bool,
}

impl Store {
    /// Begins a session. Returns false when the account is gone or has another password by now.
    pub async fn session_add(&self, session: NewSession<'_>) -> Result<bool, StoreError> {
        const SQL: &str = "-- session_add
            insert into sessions (token_digest, account_key, created_at, expires_at)
            select $1, name_key, $4, $5 from accounts where name_key = $2 and password_hash = $3";
        let client = self.client().await?;
        client
            .execute(
                SQL,
                &[
                    /* token_digest */ &session.digest.as_slice(),
                    /* account_key */ &session.account.key(),
                    /* password_hash */ &session.password_hash,
                    /* created_at */ &session.created_at,
                    /* expires_at */ &session.expires_at,
                ],
            )
            .await
            .map(|rows| rows == 1)
            .map_err(StoreError::at("begin a session"))
    }

    /// Who a session stands for; `None` when there is none, or it has ended.
    pub async fn session_user(
        &self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<SessionUser>, StoreError> {
        const SQL: &str = "-- session_user
            select a.name,
                   a.administrator or exists (
                       select from directory_state s
                       join directory_versions v
                         on v.kind = 'user' and v.name_key = a.name_key
                        and v.begin_revision <= s.revision
                        and (v.end_revision is null or v.end_revision > s.revision)
                       join directory_members m on m.version_id = v.id and m.role_key = $3
                       where v.enabled and not v.deleted)
            from sessions x join accounts a on a.name_key = x.account_key
            where x.token_digest = $1 and x.expires_at > $2";
        let doing = "look up a session";
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        let row = client
            .query_opt(
                &statement,
                &[
                    /* token_digest */ &digest.as_slice(),
                    /* now */ &now,
                    /* role_key */ &administrator_key(),
                ],
            )
            .await
            .map_err(StoreError::at(doing))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let name: &str = row.try_get(0).map_err(StoreError::at(doing))?;
        let name = Name::parse(name)
            .ok_or(StoreError::Inconsistent { table: "accounts", column: "name" })?;
        let administrator = row.try_get(1).map_err(StoreError::at(doing))?;
        Ok(Some(SessionUser { name, administrator }))
    }

    /// Ends a session, if there is such a one.
    pub async fn session_end(&self, digest: &TokenDigest) -> Result<(), StoreError> {
        const SQL: &str = "-- session_end\ndelete from sessions where token_digest = $1";
        let client = self.client().await?;
        client
            .execute(SQL, &[&digest.as_slice()])
            .await
            .map(drop)
            .map_err(StoreError::at("end a session"))
    }

    /// Takes away sessions that have ended. Returns how many.
    pub async fn sessions_sweep(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "-- sessions_sweep\ndelete from sessions where expires_at <= $1";
        let client = self.client().await?;
        client.execute(SQL, &[&now]).await.map_err(StoreError::at("sweep sessions"))
    }
}
