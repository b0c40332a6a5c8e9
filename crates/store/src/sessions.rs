//! Sessions: the user for whom an access token is valid, and its end.
//!
//! The database has only digests of tokens, so that a person who reads it can't sign in with them.

use chrono::{DateTime, Utc};
use fanfare_core::access::administrator_key;
use fanfare_core::name::Name;
use tokio_postgres::Row;

use crate::directory::UserStatus;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// SHA-256 of an access token.
pub type TokenDigest = [u8; 32];

/// A new session of a local account.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    pub digest: &'a TokenDigest,
    pub account: &'a Name,
    /// The hash against which the password was checked.
    pub password_hash: &'a str,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// A new session of a user whom an identity provider signed in.
#[derive(Debug, Clone, Copy)]
pub struct NewProviderSession<'a> {
    pub digest: &'a TokenDigest,
    /// The issuer of the provider's tokens.
    pub issuer: &'a str,
    pub user: &'a Name,
    /// Whether the provider says that the user is an administrator.
    pub administrator: bool,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// The columns of [`DirectoryStatus`], for a query with the directory's state as `s` and the user's
/// version as `v`. Arguments are SQL expressions of the user's folded name and the role's key.
macro_rules! status_columns {
    ($user:literal, $role:literal) => {
        concat!(
            "v.enabled, v.deleted,
             exists (select from directory_members m
                     where m.version_id = v.id and m.role_key = ",
            $role,
            ") as has_administrator_role,
             v.id is not null
             or exists (select from directory_versions o
                        where o.kind = 'user' and o.name_key = ",
            $user,
            "              and o.begin_revision <= s.revision)
             or exists (select from directory_departures d where d.name_key = ",
            $user,
            ") as known"
        )
    };
}

/// The user of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionUser {
    /// The name of the account, or the name that the provider gave.
    pub name: Name,
    /// Whether the user is an administrator by the account, by the provider, or by the directory,
    /// as an enabled member of the role System Administrator.
    pub administrator: bool,
    /// The provider that signed the user in; `None` for an account's session.
    pub issuer: Option<String>,
    /// The status of the user of this name in the directory.
    pub status: DirectoryStatus,
}

/// The status of a user in the directory now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryStatus {
    pub status: UserStatus,
    /// Whether the directory names the user now, or ever did.
    pub known: bool,
    /// Whether the user is enabled and a member of the role System Administrator.
    pub administrator: bool,
}

impl Store {
    /// Begins a session. Returns false when the account was removed or disabled meanwhile, or has
    /// another password.
    pub async fn session_add(&self, session: NewSession<'_>) -> Result<bool, StoreError> {
        const SQL: &str = "-- session_add
            insert into sessions (token_digest, account_key, account_generation, created_at,
                                  expires_at)
            select $1, name_key, generation, $4, $5 from accounts
            where name_key = $2 and password_hash = $3 and disabled_at is null";
        let client = self.connection("begin a session").await?;
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
    }

    /// Begins a session of a user whom an identity provider signed in.
    pub async fn session_add_of_provider(
        &self,
        session: NewProviderSession<'_>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- session_add_of_provider
            insert into sessions (token_digest, issuer, user_key, user_name, administrator,
                                  created_at, expires_at)
            values ($1, $2, $3, $4, $5, $6, $7)";
        let client = self.connection("begin a session").await?;
        client
            .execute(
                SQL,
                &[
                    /* token_digest */ &session.digest.as_slice(),
                    /* issuer */ &session.issuer,
                    /* user_key */ &session.user.key(),
                    /* user_name */ &session.user.as_str(),
                    /* administrator */ &session.administrator,
                    /* created_at */ &session.created_at,
                    /* expires_at */ &session.expires_at,
                ],
            )
            .await
            .map(drop)
    }

    /// Reads the user of a session; `None` when there is no such session, or it has ended.
    pub async fn session_user(
        &self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<SessionUser>, StoreError> {
        const SQL: &str = concat!(
            "-- session_user
            select coalesce(a.name, x.user_name) as name,
                   coalesce(a.administrator, x.administrator) as administrator, x.issuer, ",
            status_columns!("coalesce(x.account_key, x.user_key)", "$3"),
            " from sessions x
            left join accounts a on a.name_key = x.account_key
            cross join directory_state s
            left join directory_versions v
              on v.kind = 'user' and v.name_key = coalesce(x.account_key, x.user_key)
              and v.begin_revision <= s.revision
              and (v.end_revision is null or v.end_revision > s.revision)
            where x.token_digest = $1 and x.expires_at > $2
              and (x.account_key is null
                   or a.disabled_at is null and a.generation = x.account_generation)"
        );
        let client = self.connection("look up a session").await?;
        let row = client
            .query_opt(
                &Cached(SQL),
                &[
                    /* token_digest */ &digest.as_slice(),
                    /* now */ &now,
                    /* role_key */ &administrator_key(),
                ],
            )
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let name = Name::parse(row.column("name")?)
            .ok_or(StoreError::Inconsistent { table: "sessions", column: "user_name" })?;
        let status = status(&row)?;
        let administrator = row.column("administrator")? || status.administrator;
        Ok(Some(SessionUser { name, administrator, issuer: row.column("issuer")?, status }))
    }

    /// Reads the status of a user in the directory now.
    pub async fn directory_status(&self, user: &Name) -> Result<DirectoryStatus, StoreError> {
        const SQL: &str = concat!(
            "-- user_standing
            select ",
            status_columns!("$1", "$2"),
            " from directory_state s
            left join directory_versions v
              on v.kind = 'user' and v.name_key = $1 and v.begin_revision <= s.revision
              and (v.end_revision is null or v.end_revision > s.revision)"
        );
        let client = self.connection("look up a user").await?;
        let row = client
            .query_one(
                &Cached(SQL),
                &[/* name_key */ &user.key(), /* role_key */ &administrator_key()],
            )
            .await?;
        status(&row)
    }

    /// Ends a session, if it exists. Returns the provider that signed its user in.
    pub async fn session_end(&self, digest: &TokenDigest) -> Result<Option<String>, StoreError> {
        const SQL: &str = "-- session_end
            delete from sessions where token_digest = $1 returning issuer";
        let client = self.connection("end a session").await?;
        let row = client.query_opt(SQL, &[&digest.as_slice()]).await?;
        row.map_or(Ok(None), |row| row.column("issuer"))
    }

    /// Removes sessions that have expired. Returns how many there were.
    pub async fn sessions_sweep(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "-- sessions_sweep\ndelete from sessions where expires_at <= $1";
        let client = self.connection("sweep sessions").await?;
        client.execute(SQL, &[&now]).await
    }
}

/// Reads `status_columns!`.
fn status(row: &Row) -> Result<DirectoryStatus, StoreError> {
    let status = UserStatus::of(row)?;
    let administrator = status == UserStatus::Enabled && row.column("has_administrator_role")?;
    Ok(DirectoryStatus { status, known: row.column("known")?, administrator })
}
